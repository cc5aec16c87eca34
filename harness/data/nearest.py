"""The floor that any tuned model must beat: the answer of the nearest training prompt, copied."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from harness.data.words import Sets, hashed_sets, words
from harness.host.signals import check
from harness.records import Example

# Scores are compared at this many decimals, so that the last bits of a sum, which differ between
# processors, never choose a neighbour.
_DECIMALS = 9
_PIECE = 65_536  # prompts that are worked on at once: bounds the memory


def nearest(test: Sequence[Example], train: Sequence[Example]) -> list[Example]:
    """For each test example the training example whose prompt is nearest.

    Nearest is the highest cosine of the prompts' sets of words, each word weighted by its
    inverse document frequency in `train`, log((1 + n) / (1 + df)) + 1 (the smoothed form of
    scikit-learn's TfidfTransformer); among equals the lowest id. Words: harness.data.words.
    Raises ValueError where `train` is empty.
    """
    if not train:
        raise ValueError("nearest() needs at least one training example")
    ordered = sorted(train, key=lambda example: example.id)
    sets = hashed_sets(example.prompt for example in ordered)
    index = _Index(sets, {hash(word) % 2**64 for e in test for word in set(words(e.prompt))})
    unseen = _idf(0, len(ordered))
    chosen = []
    for example in test:
        check()
        bag = sorted(set(words(example.prompt)))
        weights = [index.weight.get(hash(word) % 2**64, unseen) for word in bag]
        products: npt.NDArray[np.float64] = np.zeros(len(ordered))
        for word, weight in zip(bag, weights, strict=True):
            products[index.having(hash(word) % 2**64)] += weight**2
        cosines = np.round(products / (index.lengths * _length(weights)), _DECIMALS)
        chosen.append(ordered[int(np.argmax(cosines))])  # argmax: the first of equals
    return chosen


class _Index:
    """Training prompts as sets of hashed words: their lengths, and who has which asked word.

    weight:  of each asked word that some prompt has, its inverse document frequency.
    lengths: of each prompt, the length of its vector of weights.
    """

    def __init__(self, sets: Sets, asked: set[int]) -> None:
        known, frequency = np.unique(sets.elements, return_counts=True)
        counts, place = np.unique(frequency, return_inverse=True)
        weights = np.array([_idf(int(count), len(sets)) for count in counts])[place]
        at = np.flatnonzero(np.isin(known, np.array(sorted(asked), dtype=np.uint64)))
        slot = np.full(len(known), -1, dtype=np.int32)
        slot[at] = np.arange(len(at))
        lengths: list[float] = []
        found: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]] = []
        for first in range(0, len(sets), _PIECE):
            starts = sets.starts[first : first + _PIECE + 1]
            word = np.searchsorted(known, sets.elements[starts[0] : starts[-1]])
            of_words = weights[word].tolist()
            ends = (starts - starts[0]).tolist()
            lengths += [_length(of_words[a:b]) for a, b in pairwise(ends)]
            row = np.repeat(np.arange(first, first + len(ends) - 1, dtype=np.int32), np.diff(ends))
            kept = slot[word] >= 0
            found.append((slot[word[kept]], row[kept]))
        slots, rows = (np.concatenate(each) for each in zip(*found, strict=True))
        order = np.argsort(slots, kind="stable")
        self._rows = rows[order]
        self._starts = np.searchsorted(slots[order], np.arange(len(at) + 1))
        self._slot = {int(element): number for number, element in enumerate(known[at])}
        self.weight = {int(known[i]): float(weights[i]) for i in at}
        self.lengths = np.array(lengths)

    def having(self, word: int) -> npt.NDArray[np.int32]:
        """Positions, ascending, of the prompts that have an asked word."""
        number = self._slot.get(word)
        if number is None:
            return self._rows[:0]
        return self._rows[self._starts[number] : self._starts[number + 1]]


def _idf(document_frequency: int, documents: int) -> float:
    return math.log((1 + documents) / (1 + document_frequency)) + 1.0


def _length(weights: Iterable[float]) -> float:
    """Euclidean length; 1 for a prompt without a word, whose products are 0 anyway."""
    return math.sqrt(math.fsum(w * w for w in weights)) or 1.0
