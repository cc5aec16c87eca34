"""The edit distance of two ordered forests, exact, by rows of numpy.

The algorithm is that of Zhang and Shasha (1989, "Simple fast algorithms for the editing
distance between trees and related problems"), with unit costs. What is computed is the saving
of two forests, S = nodes of both - distance, so that leaving a node out changes nothing:

    S(F, G) = max(S(F less its last root, G), S(F, G less its last root), S with both matched)

Where F and G end in the trees of nodes a and b, matching them gives S(F before a's tree,
G before b's tree) + S(a's tree, b's tree); where they are just these trees, S(a's children,
b's children) + 2 if the labels are equal, else + 1.

For each keyroot (a root, or a node with a sibling on its left) of the first tree the tables
of all keyroots of the second are computed at once: they lie side by side as blocks of one
long row, each lifted above the one before, so that one running maximum serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Node = tuple[int, int]  # label, and size of the subtree; a tree is its nodes in postorder
Cells = NDArray[np.int32]
Places = NDArray[np.intp]

# Work on one pair at most, see _Shape.work: a quarter of a second, 160 MB.
MAX_WORK = 40_000_000


class TooMuchWork(Exception):
    """The forests differ in too large a part."""


def edit_distance(
    labels_a: Sequence[str], sizes_a: Sequence[int], labels_b: Sequence[str], sizes_b: Sequence[int]
) -> int:
    """How many nodes must be inserted, deleted or relabelled to make forest a forest b.

    labels, sizes: of the nodes in postorder, and of the subtree under each (see
    harness.scorers.html.tree.Tree). Raises TooMuchWork where over MAX_WORK would be needed.
    """
    numbers: dict[str, int] = {}
    a, b = (
        [(numbers.setdefault(x, len(numbers) + 1), n) for x, n in zip(labels, sizes, strict=True)]
        for labels, sizes in ((labels_a, sizes_a), (labels_b, sizes_b))
    )
    a, b = _different_parts(a, b)
    if not a or not b:
        return len(a) + len(b)
    if len(a) * len(b) > MAX_WORK:
        raise TooMuchWork
    pairs = []
    for first, second in ((a, b), (_mirrored(a), _mirrored(b))):
        one, two = _Shape(first), _Shape(second)
        pairs += [(one, two), (two, one)]
    one, two = min(pairs, key=lambda pair: pair[0].work(pair[1]))
    if one.work(two) > MAX_WORK:
        raise TooMuchWork
    return one.count + two.count - _saving(one, two)


def _different_parts(a: list[Node], b: list[Node]) -> tuple[list[Node], list[Node]]:
    """What is left of two forests without equal parts that cost their distance nothing.

    Equal trees at the beginning or at the end of both, and equal roots of a single tree each,
    are matched by some cheapest mapping: exchange it for the identity there, and no node more
    is left out or relabelled.
    """
    start, end_a, end_b = 0, len(a), len(b)
    pairs = enumerate(zip(a, b, strict=False))
    same = next((i for i, (x, y) in pairs if x != y), min(end_a, end_b))
    while start < min(end_a, end_b):
        (label_a, size_a), (label_b, size_b) = a[end_a - 1], b[end_b - 1]
        single = size_a == end_a - start and size_b == end_b - start
        if single and label_a == label_b:
            end_a, end_b = end_a - 1, end_b - 1
        elif size_a == size_b and a[end_a - size_a : end_a] == b[end_b - size_b : end_b]:
            end_a, end_b = end_a - size_a, end_b - size_b
        elif ends := _ends(a, start, end_a, same) & _ends(b, start, end_b, same):
            start = max(ends)
        else:
            break
    return a[start:end_a], b[start:end_b]


def _ends(forest: list[Node], start: int, end: int, limit: int) -> set[int]:
    """Where the trees of forest[start:end] end, up to `limit`."""
    ends = set()
    while end > start:
        if end <= limit:
            ends.add(end)
        end -= forest[end - 1][1]
    return ends


def _mirrored(forest: list[Node]) -> list[Node]:
    """The forest with left and right exchanged: its nodes in the reverse of their preorder."""
    mirrored: list[Node] = [(0, 0)] * len(forest)
    starts: list[int] = []  # of the subtrees of the node's ancestors
    for i in range(len(forest) - 1, -1, -1):
        while starts and starts[-1] > i:
            starts.pop()
        start = i - forest[i][1] + 1
        mirrored[len(forest) - 1 - start - len(starts)] = forest[i]
        starts.append(start)
    return mirrored


class _Shape:
    """A forest under a root of its own, and how its tables are laid out.

    firsts:   of each node, the first node (in postorder) of its subtree.
    keyroots: those that are no leaves, in postorder, each with the number of levels of such
              keyroots that are nested in its subtree.
    rows:     of all its tables, where it is the first forest.
    width:    of all its blocks, where it is the second.
    """

    def __init__(self, forest: list[Node]) -> None:
        self.labels = [*(label for label, _ in forest), 0]
        self.firsts = [i - size + 1 for i, (_, size) in enumerate(forest)] + [0]
        self.count = len(self.labels)
        self.keyroots: list[tuple[int, int]] = []
        waiting: list[tuple[int, int]] = []  # subtrees without their parent: last node, level
        for i, first in enumerate(self.firsts):
            level = 0
            while waiting and waiting[-1][0] >= first:
                child, inner = waiting.pop()
                if self.firsts[child] == first:
                    level = max(level, inner)
                elif self.firsts[child] < child:
                    self.keyroots.append((child, inner))
                    level = max(level, inner + 1)
            waiting.append((i, level))
        self.keyroots.append(waiting.pop())
        self.keyroots.sort()
        self.rows = sum(i - self.firsts[i] + 1 for i, _ in self.keyroots)
        self.width = self.rows + len(self.keyroots)
        self.levels = 1 + self.keyroots[-1][1]

    def work(self, second: _Shape) -> int:
        """What _saving(self, second) takes, in units of about 5 ns.

        One for each cell of the tables, eight for each pair of nodes, some hundreds for
        each call of numpy and for each column's entries.
        """
        calls = self.rows + self.count * second.levels
        return (
            self.rows * second.width
            + 8 * self.count * second.count
            + 1000 * calls
            + 100 * second.width
        )


class _Level:
    """The part of the long row whose blocks have keyroots of one level.

    Blocks only need what those of lower levels yield: the trees of their keyroots' left paths.
    """

    def __init__(self, start: int, end: int, blocks: _Blocks) -> None:
        self.start, self.end = start, end
        self.nodes = blocks.nodes[start:end]
        self.base = blocks.base[start:end]
        self.found = start + np.flatnonzero(blocks.on_path[start:end])
        self.found_nodes = blocks.nodes[self.found]
        self.found_base = blocks.base[self.found]
        self.spare = np.empty(end - start, np.int32)


class _Blocks:
    """The columns of the long row. A block: its empty forest, then its keyroot's nodes.

    nodes:   the node of each column; of an empty forest, one beyond the last.
    before:  the column of the forest that ends before the node's tree.
    base:    what the block is lifted by; no saving reaches the next block's.
    on_path: whether the forest that ends in the node is its tree.
    """

    def __init__(self, shape: _Shape, lift: int) -> None:
        nodes: list[int] = []
        before: list[int] = []
        base: list[int] = []
        on_path: list[bool] = []
        ends: list[int] = []
        firsts = shape.firsts
        order = sorted(shape.keyroots, key=lambda keyroot: keyroot[1])
        for number, (keyroot, level) in enumerate(order):
            first = firsts[keyroot]
            shift = len(nodes) - first
            nodes.append(shape.count)
            nodes.extend(range(first, keyroot + 1))
            starts = firsts[first : keyroot + 1]
            before.append(shift + first)
            before.extend([start + shift for start in starts])
            on_path.append(False)
            on_path.extend([start == first for start in starts])
            base.extend([number * lift] * (keyroot - first + 2))
            if level == len(ends):
                ends.append(0)
            ends[level] = len(nodes)
        self.nodes: Places = np.array(nodes, np.intp)
        self.before: Places = np.array(before, np.intp)
        self.base: Cells = np.array(base, np.int32)
        self.on_path: NDArray[np.bool_] = np.array(on_path)
        self.levels = [_Level(*part, self) for part in zip([0, *ends], ends, strict=False)]


def _saving(a: _Shape, b: _Shape) -> int:
    lift = 2 * min(a.count, b.count) + 1
    blocks = _Blocks(b, lift)
    equal = np.equal.outer(np.array(a.labels), np.array(b.labels))
    trees = _savings_of_leaves(equal, a.firsts, b.firsts)
    # What matching adds where the forest is a tree; elsewhere so little that it never counts.
    gains = np.zeros((a.count, b.count + 1), np.int32)
    gains[:, :-1] = equal + 1
    never = np.where(blocks.on_path, 0, -2 * lift).astype(np.int32)

    width = len(blocks.base)
    best, known = np.empty(width, np.int32), np.empty(width, np.int32)
    shifted = best[1:]
    table = list(np.empty((a.count + 1, width), np.int32))
    table[0][:] = blocks.base
    for keyroot, _ in a.keyroots:
        first = a.firsts[keyroot]
        for i in range(first, keyroot + 1):
            last, row = table[i - first], table[i - first + 1]
            if a.firsts[i] > first or i == first:  # the savings of i's tree are known
                trees[i].take(blocks.nodes, out=known, mode="clip")
                table[a.firsts[i] - first].take(blocks.before, out=best, mode="clip")
                np.add(best, known, out=best)
                np.maximum(best, last, out=best)
                np.maximum.accumulate(best, out=row)
                continue
            gains[i].take(blocks.nodes, out=best, mode="clip")
            np.add(best, never, out=best)
            np.add(shifted, last[:-1], out=shifted)
            np.maximum(best, last, out=best)
            found = trees[i]
            for level in blocks.levels:
                part = best[level.start : level.end]
                found.take(level.nodes, out=level.spare, mode="clip")
                np.add(level.spare, level.base, out=level.spare)
                np.maximum(part, level.spare, out=part)
                np.maximum.accumulate(part, out=row[level.start : level.end])
                found[level.found_nodes] = row.take(level.found) - level.found_base
    return int(trees[-1, -2])


def _savings_of_leaves(equal: NDArray[np.bool_], firsts_a: list[int], firsts_b: list[int]) -> Cells:
    """S of all pairs of trees of which one is a leaf (2 if its label is in the other, else 1).

    The other pairs are 0 as yet, and so is the last column, that of the empty forest.
    """
    trees = np.zeros((equal.shape[0], equal.shape[1] + 1), np.int32)
    for pairs, into, mine, other in (
        (equal, trees[:, :-1], firsts_a, firsts_b),
        (equal.T, trees[:, :-1].T, firsts_b, firsts_a),
    ):
        starts = np.array(mine)
        leaves = np.flatnonzero(np.array(other) == np.arange(len(other)))
        seen = np.zeros((len(mine) + 1, len(leaves)), np.int32)
        np.cumsum(pairs[:, leaves], axis=0, out=seen[1:])
        into[:, leaves] = 1 + (seen[1:] > seen[starts])
    return trees
