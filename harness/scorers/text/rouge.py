"""ROUGE, equal to the package rouge-score 0.1.2 (no stemmer) and some hundred times as fast."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from harness.records import Sample
from harness.scorers.base import Scorer, Unscored, Value, metric
from harness.scorers.text.union_lcs import union_hits

_WORD = re.compile(r"[a-z0-9]+")
_NAMES = ("rouge1", "rouge2", "rougeL", "rougeLsum")

# Cells of the LCS table (words of one text times words of the other) that are computed at
# most: about 0.7 seconds, as much as two web pages of 240,000 characters have.
MAX_CELLS = 1_000_000_000
_TOO_LONG = Unscored(f"over {MAX_CELLS:,} pairs of words to compare")


class Rouge(Scorer):
    """F1 of ROUGE-1, -2, -L and -Lsum (Lin 2004), from 0 to 1, as rouge-score 0.1.2 gives it.

    They see the runs of a-z and 0-9 in the lower-cased text: their overlap as single words,
    as pairs, as a longest common subsequence of the whole, and as the union of those of the
    lines (split at "\\n"). They cannot see anything else: brackets, quotes, order of close
    tags, any script but Latin. Two texts without such words score 0, equal or not. rougeL and
    rougeLsum of texts whose table has over MAX_CELLS cells are unscored.
    """

    name = "rouge"
    summary = "ROUGE-1, -2, -L and -Lsum F1, equal to rouge-score 0.1.2; blind to markup"
    version = 1
    metrics = tuple(metric(name, "higher", 1, tok="rouge-score", stem="no") for name in _NAMES)

    def score(self, sample: Sample) -> dict[str, Value]:
        return rouge(sample.reference, sample.prediction)


def rouge(reference: str, prediction: str) -> dict[str, Value]:
    """The four F1 values by name, equal to those of RougeScorer(..., use_stemmer=False).

    rougeL and rougeLsum are unscored where there are over MAX_CELLS cells and the words differ.
    """
    # Words as small numbers: equal words, equal numbers, and every later step is faster.
    numbers: dict[str, int] = {}
    ref_lines = [_words(line, numbers) for line in reference.split("\n")]
    pred_lines = [_words(line, numbers) for line in prediction.split("\n")]
    ref = [word for line in ref_lines for word in line]
    pred = [word for line in pred_lines for word in line]
    rouge2 = _common(list(pairwise(ref)), list(pairwise(pred)))
    scores: dict[str, Value] = {
        "rouge1": _f1(_common(ref, pred), len(ref), len(pred)),
        "rouge2": _f1(rouge2, len(ref) - 1, len(pred) - 1),
        "rougeL": _TOO_LONG,
        "rougeLsum": _TOO_LONG,
    }
    if len(ref) * len(pred) <= MAX_CELLS or ref_lines == pred_lines:
        scores["rougeL"] = _f1(_lcs(ref, pred), len(ref), len(pred))
        scores["rougeLsum"] = _f1(union_hits(ref_lines, pred_lines), len(ref), len(pred))
    return scores


def _words(line: str, numbers: dict[str, int]) -> list[int]:
    return [numbers.setdefault(word, len(numbers)) for word in _WORD.findall(line.lower())]


def _common(a: Sequence[object], b: Sequence[object]) -> int:
    return (Counter(a) & Counter(b)).total()


def _lcs(a: list[int], b: list[int]) -> int:
    from rapidfuzz.distance import LCSseq

    if a == b:
        return len(a)
    return int(LCSseq.similarity(a, b))


def _f1(hits: int, in_reference: int, in_prediction: int) -> float:
    if hits == 0:
        return 0.0
    # The very operations of rouge-score, in its order: the last bit is the same.
    precision = hits / in_prediction
    recall = hits / in_reference
    return 2 * precision * recall / (precision + recall)
