"""Exact match, of the texts and of the pages that they are."""

from __future__ import annotations

from harness.records import Sample
from harness.scorers.base import Scorer, Unscored, Value, metric
from harness.scorers.html.page import PARSER


class ExactMatch(Scorer):
    """Two yes/no measures of whether the answer is the reference.

    exact_match:            1 where both are equal after str.strip(), else 0. Sees every
                            character between the outer white space, order and case included.
    exact_match_normalized: 1 where both are the same page: parsed, attributes sorted, classes
                            as sets, comments dropped, white space folded outside pre and
                            textarea and dropped at the edges of blocks (all of it:
                            harness.scorers.html.normal_form). Never below exact_match. It counts
                            the doctype. None where the texts differ and one is not parsed
                            within its bounds (harness.scorers.html.page.parse).

    They cannot see how near a miss was, nor that pages of different markup look the same.
    Two empty texts are equal. Source: our own definition.
    """

    name = "exact_match"
    summary = "answer and reference are equal after strip(), or as normalised pages"
    version = 2
    metrics = (
        metric("exact_match", "higher", 2, binary=True, norm="strip"),
        metric(
            "exact_match_normalized",
            "higher",
            2,
            binary=True,
            dom=PARSER,
            attrs="sorted",
            classes="set",
            space="folded",
            comments="dropped",
            doctype="kept",
        ),
    )

    def score(self, sample: Sample) -> dict[str, Value]:
        equal = sample.prediction.strip() == sample.reference.strip()
        return {
            "exact_match": float(equal),
            "exact_match_normalized": 1.0 if equal else _same_page(sample),
        }


def _same_page(sample: Sample) -> Value:
    from harness.scorers.html.normal_form import normal_form

    reference, answer = normal_form(sample.reference), normal_form(sample.prediction)
    if isinstance(reference, Unscored):
        return reference
    if isinstance(answer, Unscored):
        return answer
    return float(reference == answer)
