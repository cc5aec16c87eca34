"""Sentence BLEU-4, equal to sacrebleu 2.6.0's and several times as fast."""

from __future__ import annotations

import math
import re
from functools import lru_cache

import numpy as np

from harness.records import Sample
from harness.scorers.base import Scorer, Unscored, Value, metric
from harness.scorers.text.ngrams import common_ngrams

MAX_CHARACTERS = 400_000
MAX_MARKS = 60_000  # of those that need rules; a web page of 240,000 characters has 23,000
_ORDER = 4

# mteval-v13a: every ASCII sign is a word of its own, but for ' and those that depend on digits.
_SIGNS = r"!-&(-+/:-@\[-`{-~"
_CHUNK = re.compile(rf"[{_SIGNS}]|[^\s{_SIGNS}]+")
_DEPENDS = re.compile(r"[.,]|[0-9]-")
_RULES = (
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),  # point or comma, unless after a digit
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),  # or unless before one
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),  # dash after a digit
)


class Bleu(Scorer):
    """BLEU-4 (Papineni et al. 2002) of one answer, from 0 to 100, as sacrebleu 2.6.0 gives it.

    Words are those of the mteval-v13a tokenizer. With the share p_n of the answer's n-grams
    that the reference has (each at most as often), BLEU = 100 * BP * exp(mean of log p_n) over
    n = 1 to 4, or to the answer's number of words where that is less (effective order). The
    k-th p_n without a hit is 1 / (2**k * n-grams) (smoothing "exp"), and the score is 0 where
    no word is shared. BP = exp(1 - r / c) where the answer's c words are fewer than the
    reference's r, else 1.

    It sees words, signs and case, any script that parts words by spaces, and order over four
    words. It cannot see white space; a sentence of Chinese or Thai is one word to it. It knows
    precision only, tempered by BP: what an answer leaves out costs through its length alone.
    Two empty texts score 0, as in sacrebleu. Unscored where a text is longer than
    MAX_CHARACTERS or has over MAX_MARKS points, commas and dashes.
    """

    name = "bleu"
    summary = "sentence BLEU-4, equal to sacrebleu's"
    version = 1
    metrics = (
        metric(
            "bleu",
            "higher",
            1,
            nrefs="1",
            case="mixed",
            eff="yes",
            tok="13a",
            smooth="exp",
            like="sacrebleu-2.6.0",
        ),
    )

    def score(self, sample: Sample) -> dict[str, Value]:
        return {"bleu": bleu(sample.reference, sample.prediction)}


def bleu(reference: str, prediction: str) -> Value:
    """BLEU, equal to BLEU(effective_order=True).sentence_score(prediction, [reference]).score."""
    if max(len(reference), len(prediction)) > MAX_CHARACTERS:
        return Unscored(f"longer than {MAX_CHARACTERS:,} characters")
    if max(map(_marks, (reference, prediction))) > MAX_MARKS:
        return Unscored(f"over {MAX_MARKS:,} points, commas and dashes")
    known: dict[str, int] = {}
    ref, pred = (
        [known.setdefault(word, len(known)) for word in tokens_13a(text)]
        for text in (reference, prediction)
    )
    orders = min(_ORDER, len(pred))
    if not orders or not len(ref):
        return 0.0
    correct = common_ngrams(np.array(ref, dtype=np.int64), np.array(pred, dtype=np.int64), orders)
    if not correct[0]:
        return 0.0
    # The very operations of sacrebleu, in its order: the last bit is the same.
    penalty = math.exp(1 - len(ref) / len(pred)) if len(pred) < len(ref) else 1.0
    smoothing = 1.0
    precisions = []
    for n, hits in enumerate(correct):
        total = len(pred) - n
        if hits == 0:
            smoothing *= 2
            precisions.append(100.0 / (smoothing * total))
        else:
            precisions.append(100.0 * hits / total)
    return penalty * math.exp(sum([math.log(p) for p in precisions]) / orders)


def tokens_13a(text: str) -> list[str]:
    """The words of `text` by mteval-v13a, as sacrebleu splits a line that BLEU is given."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "")
    if "&" in text:
        text = text.replace("&quot;", '"').replace("&amp;", "&")
        text = text.replace("&lt;", "<").replace("&gt;", ">")
    # What the rules make of a chunk depends on the chunk alone: a space, or a sign put apart,
    # always stands at both its ends. So each is split once, and most need no rule at all.
    chunks = _CHUNK.findall(text)
    parted = {chunk: _parted(chunk) for chunk in set(chunks) if _DEPENDS.search(chunk)}
    if not parted:
        return chunks
    return [word for chunk in chunks for word in parted.get(chunk) or (chunk,)]


def _parted(chunk: str) -> list[str]:
    return _parted_short(chunk) if len(chunk) <= 64 else _by_rules(chunk)


def _by_rules(chunk: str) -> list[str]:
    line = f" {chunk} "
    for pattern, spaced in _RULES:
        line = pattern.sub(spaced, line)
    return line.split()


_parted_short = lru_cache(maxsize=4096)(_by_rules)  # "index.html" is on every page


def _marks(text: str) -> int:
    return text.count(".") + text.count(",") + text.count("-")
