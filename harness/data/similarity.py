"""Words, word n-grams, and an exact search for sets that are alike by the Jaccard index.

A word is a maximal run of `\\w` (letters, digits and underscores of any script) of the text in
lower case, so that tag names, attribute names and values are words while brackets and other
punctuation are not. By this definition html_alpaca's 636 rows fall into 554 groups (see
`harness.data.split`), the number known for that data set.

The search is a prefix-filtered set-similarity join (Chaudhuri, Ganti, Kaushik 2006; Bayardo,
Ma, Srikant 2007). With the elements of every set sorted by one common order, rarest first, two
sets x, y of J(x, y) >= t share an element among the first |x| - ceil(t |x|) + 1 of x and the
first |y| - ceil(t |y|) + 1 of y. Only sets that do are compared, and they exactly: the
threshold is taken as the decimal fraction that was written, all arithmetic is on integers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

_WORD = re.compile(r"\w+")
# Elements gathered at once while candidates are compared: bounds the memory, not the result.
_CHUNK_ELEMENTS = 4_000_000


def words(text: str) -> list[str]:
    """The words of `text`, in order, in lower case."""
    return _WORD.findall(text.lower())


def word_ngrams(text: str, n: int = 3) -> frozenset[tuple[str, ...]]:
    """The distinct runs of `n` words; of a text with fewer than `n`, its single words."""
    found = words(text)
    if len(found) < n:
        return frozenset((word,) for word in found)
    return frozenset(zip(*(found[start:] for start in range(n)), strict=False))


class JaccardIndex:
    """Sets that can be asked: which of you have a Jaccard index >= `threshold` with this one?

    sets:      any hashable elements; an empty set matches nothing.
    threshold: in (0, 1], compared as the decimal fraction that its repr shows.
    """

    def __init__(self, sets: Sequence[AbstractSet[Hashable]], threshold: float) -> None:
        share = Fraction(repr(float(threshold))).limit_denominator(10**6)
        self._numerator, self._denominator = share.numerator, share.denominator
        frequency = Counter(element for members in sets for element in members)
        # most_common is stable, so ranks follow the order of first sight among equals; that
        # order may differ between processes (set order does) but never changes a result.
        by_frequency = frequency.most_common()
        self._rank = {element: rank for rank, (element, _) in enumerate(reversed(by_frequency))}
        self._sizes = np.array([len(members) for members in sets], dtype=np.int64)
        self._starts = np.concatenate(([0], np.cumsum(self._sizes)))
        self._elements = np.zeros(int(self._starts[-1]), dtype=np.int64)
        postings: list[list[int]] = [[] for _ in self._rank]
        for position, members in enumerate(sets):
            ranks = sorted(self._rank[element] for element in members)
            self._elements[self._starts[position] : self._starts[position + 1]] = ranks
            for rank in ranks[: self._prefix_length(len(ranks))]:
                postings[rank].append(position)
        self._postings = [np.array(found, dtype=np.int64) for found in postings]
        self._marked = np.zeros(len(self._rank), dtype=bool)

    def __len__(self) -> int:
        return len(self._sizes)

    def matches(
        self, members: AbstractSet[Hashable], wanted: npt.NDArray[np.bool_] | None = None
    ) -> Positions:
        """Positions, ascending, of the sets alike; of those where `wanted` is true, if given."""
        size = len(members)
        if size == 0:
            return np.zeros(0, dtype=np.int64)
        known = sorted(self._rank[element] for element in members if element in self._rank)
        # Elements that no indexed set has are the rarest of all: they stand first in the order.
        prefix = known[: max(0, self._prefix_length(size) - (size - len(known)))]
        if not prefix:
            return np.zeros(0, dtype=np.int64)
        candidates: Positions = np.unique(np.concatenate([self._postings[r] for r in prefix]))
        if wanted is not None:
            candidates = candidates[wanted[candidates]]
        sizes = self._sizes[candidates]
        shorter, longer = np.minimum(sizes, size), np.maximum(sizes, size)
        candidates = candidates[shorter * self._denominator >= longer * self._numerator]
        common = self._intersections(np.array(known, dtype=np.int64), candidates)
        union = self._sizes[candidates] + size - common
        alike: Positions = candidates[common * self._denominator >= union * self._numerator]
        return alike

    def _prefix_length(self, size: int) -> int:
        least_common = -(-size * self._numerator // self._denominator)  # ceil(threshold * size)
        return size - least_common + 1 if size else 0

    def _intersections(self, ranks: Positions, candidates: Positions) -> Positions:
        """How many of `ranks` each candidate has. Candidates are non-empty sets."""
        self._marked[ranks] = True
        sizes = self._sizes[candidates]
        common = np.empty(len(candidates), dtype=np.int64)
        ends = np.cumsum(sizes)
        first = 0
        while first < len(candidates):
            done = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, done + _CHUNK_ELEMENTS, "right")))
            chunk = slice(first, last)
            offsets = ends[chunk] - sizes[chunk] - done
            where = np.repeat(self._starts[candidates[chunk]] - offsets, sizes[chunk])
            where += np.arange(len(where))
            hits = self._marked[self._elements[where]]
            common[chunk] = np.add.reduceat(hits, offsets, dtype=np.int64)
            first = last
        self._marked[ranks] = False
        return common
