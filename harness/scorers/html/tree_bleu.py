"""TreeBLEU: which of the reference's one-level subtrees the answer's tree has."""

from __future__ import annotations

from collections import Counter

from harness.records import Sample
from harness.scorers.base import Scorer, Unscored, Value, metric
from harness.scorers.html.page import PARSER
from harness.scorers.html.tree import tree_of

_NOTHING = Unscored("the reference has no element but html, head and body")


class TreeBleu(Scorer):
    """`tree_bleu`: matched one-level subtrees over those of the reference, from 0 to 1.

    A one-level subtree is an element with the ordered tags of its element children, where it
    has any. Both pages' subtrees are counted as multisets: one that the reference has three
    times and the answer twice is matched twice. It is a recall, as in its source: what the
    answer has beside costs nothing. The html element's own subtree (head and body) is left
    out, since the parser makes it in every page; that of body counts, whether or not the
    tag was written. A reference without a subtree is unscored, and so is a page that is not
    parsed within its bounds (harness.scorers.html.page.parse).

    Sees which elements stand directly in which, and in what order. Cannot see text,
    attributes, comments, the doctype, what the answer has too much of, or where in the page
    a subtree stands. Source: Gui et al. 2024 (WebCode2M, arXiv:2404.06369), whose text leaves
    open sets or multisets, and order.
    """

    name = "tree_bleu"
    summary = "share of the reference's one-level subtrees that the answer's tree has"
    version = 2
    metrics = (
        metric("tree_bleu", "higher", 2, dom=PARSER, subtrees="multiset", children="ordered"),
    )

    def score(self, sample: Sample) -> dict[str, Value]:
        reference, answer = tree_of(sample.reference), tree_of(sample.prediction)
        if isinstance(reference, Unscored):
            return {"tree_bleu": reference}
        if isinstance(answer, Unscored):
            return {"tree_bleu": answer}
        if not reference.families:
            return {"tree_bleu": _NOTHING}
        matched = (Counter(reference.families) & Counter(answer.families)).total()
        return {"tree_bleu": matched / len(reference.families)}
