"""The similarity of two pages by the edit distance of their trees."""

from __future__ import annotations

from harness.records import Sample
from harness.scorers.base import Scorer, Unscored, Value, metric
from harness.scorers.html.page import PARSER
from harness.scorers.html.tree import tree_of
from harness.scorers.html.tree_distance import TooMuchWork, edit_distance

_TOO_LARGE = Unscored("the trees differ in too large a part to compare in bounded time")


class TreeEdit(Scorer):
    """`tree_edit_similarity`: 1 - edit distance / nodes of the larger tree, from 0 to 1.

    The distance is the least number of nodes to insert, delete or relabel that makes one
    ordered tree the other (Zhang and Shasha 1989). Nodes are elements, labelled by their tag,
    and texts, labelled by the whole text with white space folded (harness.scorers.html.tree.Tree);
    html, head and body are no nodes, since the parser makes them in every page. Trees of
    very different shape can be further apart than the larger one has nodes: that is 0 too.
    Two pages without nodes are equal: 1. Unscored where the trees differ in a part too large
    for harness.scorers.html.tree_distance (some 650 nodes of a tangled page, 1,600 of a flat one),
    or where a page is not parsed within its bounds (harness.scorers.html.page.parse).

    Sees missing, added, exchanged, wrapped and moved elements and texts. Cannot see
    attributes, comments, the doctype, or how much of a text is right: one letter more and
    the whole text differs.
    """

    name = "tree_edit_similarity"
    summary = "1 - edit distance of the two trees / size of the larger"
    version = 2
    metrics = (
        metric(
            "tree_edit_similarity",
            "higher",
            2,
            dom=PARSER,
            nodes="elements+texts",
            label="tag,text",
            cost="unit",
            least="0",
        ),
    )

    def score(self, sample: Sample) -> dict[str, Value]:
        return {"tree_edit_similarity": similarity(sample.reference, sample.prediction)}


def similarity(reference: str, prediction: str) -> Value:
    """The similarity of two pages' texts, the same in either order."""
    one, two = tree_of(reference), tree_of(prediction)
    if isinstance(one, Unscored):
        return one
    if isinstance(two, Unscored):
        return two
    larger = max(len(one.labels), len(two.labels))
    if not larger:
        return 1.0
    try:
        distance = edit_distance(one.labels, one.sizes, two.labels, two.sizes)
    except TooMuchWork:
        return _TOO_LARGE
    return max(0.0, 1 - distance / larger)
