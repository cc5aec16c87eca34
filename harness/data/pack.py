"""Documents into rows: best fit decreasing, so that little of a row is wasted."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def balanced(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows as `pack` makes them, no more of them but of about equal size.

    Where a few tokens are left over, a short last row would cost as much as a full one.
    """
    rows = pack(lengths, capacity)
    # A little room, since documents do not divide; the whole capacity where that is too little.
    for slack in (1.0, 1.02, 1.1):
        even = max(int(slack * sum(lengths) / max(len(rows), 1)) + 1, *lengths, 1)
        if even < capacity and len(found := pack(lengths, even)) == len(rows):
            return found
    return rows


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of document indices whose lengths add up to at most `capacity` tokens.

    Best fit decreasing: each document, the longest first, goes into the fullest row that still
    has room. A document longer than `capacity` gets a row of its own. Within a row the order is
    that of the input, and rows are ordered by their first document, so that the result depends
    on the lengths alone. O(n log n) comparisons.

    Source: D. S. Johnson, Near-optimal bin packing algorithms (1973): at most 11/9 OPT + 6/9.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), ascending
    for i in order:
        length = lengths[i]
        at = bisect_left(room, (length, -1))
        if at < len(room):
            left, row = room.pop(at)
            rows[row].append(i)
        else:
            left, row = max(capacity, length), len(rows)
            rows.append([i])
        if left > length:
            insort(room, (left - length, row))
    for members in rows:
        members.sort()
    rows.sort(key=lambda members: members[0])
    return rows
