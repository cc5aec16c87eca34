"""ROUGE-L over the tokens of HTML, for any script."""

from __future__ import annotations

from harness.records import Sample
from harness.scorers.base import Scorer, Unscored, Value, metric
from harness.scorers.html.markup_tokens import MAX_CHARACTERS, tokens

MAX_CELLS = 3_000_000_000  # tokens of one text times tokens of the other: about 0.2 seconds


class RougeMarkup(Scorer):
    """F1 of the longest common subsequence (Lin 2004, 3.1) of HTML tokens, from 0 to 1.

    The tokens are those of harness.scorers.html.markup_tokens: tags with their brackets, attribute
    names and values, words and signs of the text in any script. With the LCS of length h, m
    tokens in the reference and n in the answer, P = h / n, R = h / m and F1 = 2 h / (m + n).
    Two texts without a token are equal and score 1 (plain ROUGE gives 0), one without scores 0.

    It sees what plain ROUGE is blind to: which words are tags, end tags and their order,
    attributes and their values, case of the text, punctuation, and text that is not Latin. It
    cannot see white space, the order of attributes within a tag, the case of tag and attribute
    names, or nesting as such: a subtree that moves costs all its tokens, wherever it goes, and
    a token counts the same whether a page hangs on it or not. Unscored where a text is longer
    than MAX_CHARACTERS or the table of the LCS has over MAX_CELLS cells.
    """

    name = "rougeL_markup"
    summary = "ROUGE-L F1 over tags, attributes, values and words of any script"
    version = 2
    metrics = (metric("rougeL_markup", "higher", 2, tok="markup", case="mixed", attrs="sorted"),)

    def score(self, sample: Sample) -> dict[str, Value]:
        return {"rougeL_markup": rouge_l_markup(sample.reference, sample.prediction)}


def rouge_l_markup(reference: str, prediction: str) -> Value:
    """F1 of the longest common subsequence of the tokens; see RougeMarkup."""
    from rapidfuzz.distance import LCSseq

    if max(len(reference), len(prediction)) > MAX_CHARACTERS:
        return Unscored(f"longer than {MAX_CHARACTERS:,} characters")
    numbers: dict[str, int] = {}
    ref = [numbers.setdefault(token, len(numbers)) for token in tokens(reference)]
    pred = [numbers.setdefault(token, len(numbers)) for token in tokens(prediction)]
    if ref == pred:
        return 1.0
    if len(ref) * len(pred) > MAX_CELLS:
        return Unscored(f"over {MAX_CELLS:,} pairs of tokens to compare")
    return 2 * int(LCSseq.similarity(ref, pred)) / (len(ref) + len(pred))
