"""An exact search for the pairs of sets that are alike by the Jaccard index.

The search is a prefix-filtered set-similarity join (Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma,
Srikant 2007; Xiao, Wang, Lin, Yu 2008). With the elements of every set sorted by one common
order, rarest first, let e be the first element that x and y share, at place i of x and j of y.
Then they share at most min(|x| - i, |y| - j), and J(x, y) >= t asks for t / (1 + t) (|x| + |y|).
So e stands in a prefix of either, and only sets that share such an e are compared: first their
summaries of 64 and 512 bits, by which they share at most (|x| + |y| - differing bits) / 2, then
the sets. The
threshold is taken as the decimal fraction that was written, all arithmetic is on integers.
Candidates are looked for in passes over parts of the elements, which bounds the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Protocol

import numpy as np
import numpy.typing as npt

from harness.data.words import Elements, Positions, Sets, sort_each
from harness.host.signals import check

Mask = npt.NDArray[np.bool_]
Pairs = tuple[Positions, Positions]

# How much is worked on at once: bounds the memory, not the result.
_ENTRIES = 8_000_000  # of the prefixes, in a pass
_CANDIDATES = 250_000  # what the processor's cache holds
_COMPARED = 4_096
_COMPARED_ELEMENTS = 2_000_000
_PIECE = 4_000_000  # elements
_LONG_LIST = 4_096  # sets that share an element, from which on it is worth asking whether to look

_LEVEL_BITS = 6
_HASH_BITS = 64 - _LEVEL_BITS
_SUMMARY_WORDS = 8  # of 64 bits


class Interest(Protocol):
    """What the caller still wants to know; it may change while pairs are found."""

    def wanted(self, left: Positions, right: Positions) -> Mask:
        """Of each pair of sets, by position, whether it is of interest that they are alike."""

    def settled(self, members: Positions) -> bool:
        """Whether no pair among these sets is of interest."""


def alike_pairs(
    sets: Sets,
    chosen: Positions,
    threshold: float,
    interest: Interest,
    advance: Callable[[int], None] = lambda sets: None,
) -> Iterator[Pairs]:
    """Pairs of the `chosen` sets with a Jaccard index >= `threshold`, as two arrays of positions.

    Each pair that is of interest comes at least once, in some order and either way round; an
    empty set is like nothing. The elements of `sets` are put into another order on the way.
    threshold: in (0, 1], compared as the decimal fraction that its repr shows.
    advance:   told how many of the chosen sets more are done, or as good as.
    """
    share = Fraction(repr(float(threshold))).limit_denominator(10**6)
    join = _Join(sets, chosen, share.numerator, share.denominator, interest)
    return join.run(advance)


class _Join:
    def __init__(
        self, sets: Sets, chosen: Positions, numerator: int, denominator: int, interest: Interest
    ) -> None:
        self._numerator, self._denominator, self._interest = numerator, denominator, interest
        self._chosen = len(chosen)
        _rarest_first(sets)
        sizes = sets.sizes[chosen]
        order = np.argsort(sizes, kind="stable")
        order = order[np.searchsorted(sizes[order], 1) :]
        # From here on a set is its place among the chosen ones by size.
        self._names = chosen[order]
        self._elements = sets.elements
        self._starts, self._sizes = sets.starts[:-1][self._names], sizes[order]
        self._summaries = self._summarised()
        self._short_summaries = np.bitwise_or.reduce(self._summaries)  # tell small sets apart

    def run(self, advance: Callable[[int], None]) -> Iterator[Pairs]:
        sizes, numerator, denominator = self._sizes, self._numerator, self._denominator
        least_common = -(-sizes * numerator // denominator)  # with the smallest set alike
        prefixes = sizes - least_common + 1
        least_common = -(-sizes * 2 * numerator // (numerator + denominator))  # with one as large
        self._short_prefixes = sizes - least_common + 1
        passes = max(1, -(-int(prefixes.sum()) // _ENTRIES))
        done = 0
        for number in range(passes):
            keys, members, places = self._entries(prefixes, number, passes)
            for share, found in self._of_lists(keys, members, places):
                check()
                yield from found
                now = int(self._chosen * (number + share) / passes)
                advance(now - done)
                done = now
        advance(self._chosen - done)

    def _entries(
        self, prefixes: Positions, number: int, passes: int
    ) -> tuple[Elements, Positions, Positions]:
        """(element, set, place in the set) of this pass's prefix elements, sorted by element."""
        found = []
        ends = np.cumsum(prefixes)
        for part in _parts(ends, _PIECE):
            member = np.repeat(np.arange(part.start, part.stop, dtype=np.int32), prefixes[part])
            place = _places(prefixes[part])
            keys = self._elements[self._starts[member] + place]
            kept = keys >> np.uint64(_HASH_BITS) > 0  # others are in no other set
            if passes > 1:
                kept &= keys % np.uint64(passes) == number
            found.append((keys[kept], member[kept], place[kept].astype(np.int32)))
        if not found:
            return (np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))
        keys, members, places = (np.concatenate(each) for each in zip(*found, strict=True))
        order = np.argsort(keys, kind="stable")  # among equals by set, and so by size
        return keys[order], members[order], places[order]

    def _of_lists(
        self, keys: Elements, members: Positions, places: Positions
    ) -> Iterator[tuple[float, Iterator[Pairs]]]:
        """The alike pairs among sets that have one of the elements, and the share done by then."""
        yield 0.0, iter(())
        if not len(keys):
            return
        sizes = self._sizes[members]
        at_most = sizes - places  # elements that can be shared from here on
        summaries = self._short_summaries[members]
        # A pair is met at its larger set (of equals the later one), `right`. The smaller one has
        # the element in its short prefix; those stand in each list by size, a range of them fits.
        near = np.flatnonzero(places < self._short_prefixes[members])
        before = np.searchsorted(near, np.arange(len(keys)))
        spans = np.append(0, np.cumsum(keys[1:] != keys[:-1])) * (int(sizes.max()) + 1)
        by_size = (spans + sizes)[near]
        least = -(-sizes * self._numerator // self._denominator)
        most = at_most * (self._numerator + self._denominator) // self._numerator - sizes
        firsts = np.searchsorted(by_size, spans + least)
        ends = np.searchsorted(by_size, spans + np.minimum(most, sizes), "right")
        counts = np.maximum(np.minimum(ends, before) - firsts, 0)
        rights = np.flatnonzero(counts)
        firsts, counts = firsts[rights], counts[rights]
        for part in _parts(np.cumsum(counts), _CANDIDATES):
            right, first, count = rights[part], firsts[part], counts[part]
            if count[0] >= _LONG_LIST:
                # Long lists are mostly of sets that are known to be alike.
                open_ = [
                    not self._settled(members[np.append(near[a : a + n], b)])
                    for a, n, b in zip(first.tolist(), count.tolist(), right.tolist(), strict=True)
                ]
                right, first, count = right[open_], first[open_], count[open_]
            left = near[np.repeat(first, count) + _places(count)]
            right = np.repeat(right, count)
            both = sizes[left] + sizes[right]
            # Bits that differ are elements that are not shared.
            common = (both - np.bitwise_count(summaries[left] ^ summaries[right])) // 2
            kept = self._enough(np.minimum(common, at_most[left]), both)
            a, b = members[left[kept]].astype(np.int64), members[right[kept]].astype(np.int64)
            kept = self._wanted(a, b)
            yield part.stop / len(rights), self._compared(a[kept], b[kept])

    def _compared(self, a: Positions, b: Positions) -> Iterator[Pairs]:
        both = self._sizes[a] + self._sizes[b]
        differing = np.zeros(len(a), dtype=np.int64)
        for word in range(_SUMMARY_WORDS):
            summary = self._summaries[word]
            differing += np.bitwise_count(summary[a] ^ summary[b])
        kept = self._enough((both - differing) // 2, both)
        pairs = np.unique(a[kept] * len(self._sizes) + b[kept])
        a, b = np.divmod(pairs, len(self._sizes))
        both = self._sizes[a] + self._sizes[b]
        for part in _parts(np.cumsum(both), _COMPARED_ELEMENTS, _COMPARED):
            x, y = a[part], b[part]
            kept = self._wanted(x, y)  # may have changed
            x, y = x[kept], y[kept]
            kept = self._enough(self._common(x, y), self._sizes[x] + self._sizes[y])
            if kept.any():
                yield self._names[x[kept]], self._names[y[kept]]

    def _common(self, a: Positions, b: Positions) -> Positions:
        """How many elements each of at most 4,096 pairs shares.

        All are sorted in one go, as the number of the pair (12 bits) and the element's hash.
        """
        rows = np.concatenate((a, b))
        sizes = self._sizes[rows]
        pair = np.repeat(np.tile(np.arange(len(a), dtype=np.uint64), 2), sizes)
        values = self._elements[np.repeat(self._starts[rows], sizes) + _places(sizes)]
        values &= np.uint64((1 << 52) - 1)
        values |= pair << np.uint64(52)
        values.sort()
        twice = values[1:][values[1:] == values[:-1]] >> np.uint64(52)
        return np.bincount(twice.astype(np.int64), minlength=len(a)).astype(np.int64)

    def _summarised(self) -> list[Elements]:
        """Eight words of 64 bits a set: bit h mod 512 is set where it has the hash h."""
        summaries = [np.zeros(len(self._sizes), dtype=np.uint64) for _ in range(_SUMMARY_WORDS)]
        for part in _parts(np.cumsum(self._sizes), _PIECE):
            sizes = self._sizes[part]
            member = np.repeat(np.arange(part.start, part.stop), sizes)
            values = self._elements[np.repeat(self._starts[part], sizes) + _places(sizes)]
            word = (values >> np.uint64(6)) % np.uint64(_SUMMARY_WORDS)
            bit = np.uint64(1) << (values & np.uint64(63))
            for number, summary in enumerate(summaries):
                of_word = word == number
                np.bitwise_or.at(summary, member[of_word], bit[of_word])
        return summaries

    def _enough(self, common: Positions, both: Positions) -> Mask:
        """Whether sets with so many elements in common, and `both` in all, are alike."""
        enough: Mask = common * (self._numerator + self._denominator) >= both * self._numerator
        return enough

    def _wanted(self, a: Positions, b: Positions) -> Mask:
        return self._interest.wanted(self._names[a], self._names[b])

    def _settled(self, members: Positions) -> bool:
        return self._interest.settled(self._names[members])


def _rarest_first(sets: Sets) -> None:
    """Put the elements of each set in one order, the rarer first, as (rarity, hash) in 64 bits.

    Rarity is half the octave of the number of sets that have an element of the same last bits of
    hash; 0: an element that only one set has. Any order would give the same result.
    """
    bits = min(24, max(10, len(sets.elements).bit_length() + 2))
    counts = np.zeros(1 << bits, dtype=np.int64)
    pieces = [slice(at, at + _PIECE) for at in range(0, len(sets.elements), _PIECE)]
    mask = np.uint64((1 << bits) - 1)
    for piece in pieces:
        last_bits = (sets.elements[piece] & mask).astype(np.int64)
        counts += np.bincount(last_bits, minlength=1 << bits)
    levels = np.empty(1 << bits, dtype=np.uint8)
    for at in range(0, len(counts), _PIECE):
        octaves = np.log2(np.maximum(counts[at : at + _PIECE], 1))
        levels[at : at + _PIECE] = np.floor(2 * octaves)
    del counts
    for piece in pieces:
        level = levels[(sets.elements[piece] & mask).astype(np.int64)]
        sets.elements[piece] >>= np.uint64(_LEVEL_BITS)
        sets.elements[piece] |= level.astype(np.uint64) << np.uint64(_HASH_BITS)
    sort_each(sets.elements, sets.sizes)


def _parts(ends: Positions, weight: int, most: int | None = None) -> Iterator[slice]:
    """Consecutive slices of about `weight` each, of at least one item and at most `most`.

    ends: the sums of the items' weights up to and with each.
    """
    first = 0
    while first < len(ends):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + weight, "right")))
        last = last if most is None else min(last, first + most)
        yield slice(first, last)
        first = last


def _places(counts: Positions) -> Positions:
    """0, 1, ... counts[0] - 1, 0, 1, ... counts[1] - 1, and so on."""
    ends = np.cumsum(counts)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts, counts)
