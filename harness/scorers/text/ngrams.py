"""How many n-grams two sequences share, for all orders from one sort."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]

_KEY_BITS = 63  # of a signed 64-bit key


def common_ngrams(a: Codes, b: Codes, order: int) -> list[int]:
    """For n = 1 .. order the size of the multiset intersection of the n-grams of `a` and `b`.

    a, b: numbers from 0, below 2**21 different ones (2**31 for orders up to 4). Exact. The time
    is that of sorting len(a) + len(b) numbers once, and of ranking them where they are large.

    Sorted by their first `order` symbols, positions that share an n-gram stand together, for
    every n at once. With +1 for each position of `a` and -1 for each of `b`, a group of equal
    n-grams sums to the difference of its two counts, and the sum of min(x, y) over the groups
    is half of all positions less the sum of abs(x - y).
    """
    if not len(a) or not len(b):
        return [0] * order
    joined = np.concatenate((a, b))
    top = int(joined.max())
    if (top + 2).bit_length() * order >= _KEY_BITS:  # few distinct numbers fit where they do not
        distinct, joined = np.unique(joined, return_inverse=True)
        top = len(distinct) - 1
    # Behind the end of each stands a symbol that the other does not have: an n-gram over the
    # end then matches nothing, and needs no case of its own.
    symbols = np.empty(len(joined) + 2 * order, dtype=np.int64)
    middle = len(a) + order
    symbols[: len(a)] = joined[: len(a)]
    symbols[len(a) : middle] = top + 1
    symbols[middle : middle + len(b)] = joined[len(a) :]
    symbols[middle + len(b) :] = top + 2
    bits = (top + 2).bit_length()
    if bits * order < _KEY_BITS:
        signs, changes = _sorted_by_one_key(symbols, middle, bits, order)
    else:
        signs, changes = _sorted_by_halves(symbols, middle, bits, order)
    return [_overlap(signs, change) for change in changes]


def _sorted_by_one_key(
    symbols: Codes, middle: int, bits: int, order: int
) -> tuple[Codes, list[NDArray[Any]]]:
    """The running sum of the signs in sorted order, and where each order's groups end."""
    keys = _packed(symbols, order, bits, len(symbols) - order)
    keys <<= 1
    keys[:middle] |= 1  # which of the two it is: the lowest bit, so that it sorts along
    keys.sort()
    sums = np.cumsum(((keys & 1) << 1) - 1)
    differs = (keys[1:] ^ keys[:-1]) >> 1
    return sums, [differs >> (bits * (order - n)) != 0 for n in range(1, order + 1)]


def _sorted_by_halves(
    symbols: Codes, middle: int, bits: int, order: int
) -> tuple[Codes, list[NDArray[Any]]]:
    """The same for numbers too large to pack a whole n-gram: each half is ranked first."""
    half = (order + 1) // 2
    count = len(symbols) - order
    halves, ranks = np.unique(
        _packed(symbols, half, bits, count + order - half), return_inverse=True
    )
    rank_bits = len(halves).bit_length()
    keys = (ranks[:count] << (rank_bits + 1)) | (ranks[order - half :][:count] << 1)
    keys[:middle] |= 1
    keys.sort()
    sums = np.cumsum(((keys & 1) << 1) - 1)
    keys >>= 1
    # Where the order is odd the halves have a symbol in common, which changes nothing.
    first, second = halves[keys >> rank_bits], halves[keys & ((1 << rank_bits) - 1)]
    differs, more = first[1:] ^ first[:-1], second[1:] ^ second[:-1]
    changes = [differs >> (bits * (half - n)) != 0 for n in range(1, half + 1)]
    changes += [
        (differs != 0) | (more >> (bits * (order - n)) != 0) for n in range(half + 1, order + 1)
    ]
    return sums, changes


def _packed(symbols: Codes, length: int, bits: int, count: int) -> Codes:
    """At each of the first `count` positions `length` symbols, as one number."""
    keys = symbols[:count].copy()
    for at in range(1, length):
        keys <<= bits
        keys |= symbols[at : at + count]
    return keys


def _overlap(sums: Codes, changes: NDArray[Any]) -> int:
    ends = np.append(sums[:-1][changes], sums[-1])
    apart = abs(int(ends[0])) + int(np.abs(np.diff(ends)).sum())
    return (len(sums) - apart) // 2
