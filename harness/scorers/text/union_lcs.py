"""The count behind ROUGE-Lsum: words of the reference in the union of line-wise LCSs.

rouge-score fills a table for each pair of lines and walks back through it; which of several
longest subsequences it finds decides the union. Here all lines of the prediction stand in
one bit vector, and both the tables and the walks of all of them advance together, one word
of the reference at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

_BLOCK = 256  # rows of the table kept at once; between blocks they are computed again
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def union_hits(reference: Sequence[Sequence[int]], prediction: Sequence[Sequence[int]]) -> int:
    """Words of the reference lines that are hit, as rouge-score 0.1.2 counts them.

    For each reference line the union, over the prediction's lines, of the positions in one
    longest common subsequence; of all those positions each word counts at most as often as
    it stands in the prediction (Lin 2004, 3.2, with the clipping of ROUGE-1.5.5).
    """
    lines = {tuple(line): None for line in prediction if line}
    table = _Lines(list(lines))
    hits: Counter[int] = Counter()
    for line, times in Counter(tuple(line) for line in reference if line).items():
        # A line that the prediction has word for word is hit whole.
        found = line if line in lines else [line[i] for i in table.union(line)]
        for word in found:
            hits[word] += times
    available = Counter(word for line in prediction for word in line)
    return (hits & available).total()


class _Lines:
    """Lines of words, end to end in one vector of bits, a separating bit before each.

    Bit k stands for a word (a column of its line's table), or for a separator (column 0).
    """

    def __init__(self, lines: Sequence[Sequence[int]]) -> None:
        width = sum(len(line) + 1 for line in lines)
        self.size = width // 8 + 1  # bytes; at least one bit above the last word
        places: dict[int, list[int]] = {}
        separators: list[int] = []
        ends: list[int] = []
        at = 0
        for line in lines:
            separators.append(at)
            for column, word in enumerate(line, 1):
                places.setdefault(word, []).append(at + column)
            ends.append(at + len(line))
            at += len(line) + 1
        self.columns = ((1 << width) - 1) ^ self._vector(separators)
        self.ends = self._reverse(self._vector(ends))
        self.all = (1 << 8 * self.size) - 1
        self.matches = {word: self._vector(bits) for word, bits in places.items()}
        self.reversed: dict[int, int] = {}

    def union(self, line: Sequence[int]) -> list[int]:
        """Positions of `line` in its rouge-score LCS with at least one of the lines."""
        # A word that no line has leaves the table and the walk as they are.
        rows = [i for i, word in enumerate(line) if word in self.matches]
        if not rows:
            return []
        flat = self.columns
        starts = [flat]
        blocks = [rows[at : at + _BLOCK] for at in range(0, len(rows), _BLOCK)]
        for block in blocks[:-1]:
            for end, _ in self._table(line, block, starts[-1]):
                flat = end
            starts.append(flat)
        # The walk, from the last word of all lines at once. In row i and column j:
        # words equal: taken, to (i-1, j-1). Else, where the row adds nothing here: to (i-1, j).
        # Else left; a stretch where the row adds begins with an equal word, so that the walk
        # ends on the nearest one. Vectors are reversed here, for the carry of the addition
        # to run to the left of the table: from the walker through unequal words to an equal.
        union: list[int] = []
        walkers = self.ends
        for block, start in zip(reversed(blocks), reversed(starts), strict=True):
            added = [rise for _, rise in self._table(line, block, start)]
            for i, rise in zip(reversed(block), reversed(added), strict=True):
                equal = self._reversed_matches(line[i])
                takers = walkers & (equal | self._reverse(rise))
                if takers:
                    union.append(i)
                    taken = ((equal ^ self.all) + takers) & equal
                    walkers = (walkers ^ takers) | (taken << 1)
        return union

    def _table(
        self, line: Sequence[int], rows: Sequence[int], flat: int
    ) -> Iterator[tuple[int, int]]:
        """Row by row: where the LCS does not grow to the right, where it grew by this row.

        Bit-parallel LCS length (Crochemore et al. 2001; Hyyrö 2004). A carry out of column j
        means that L[i][j] = L[i-1][j] + 1; the separators, 0 before each row, stop it.
        """
        for i in rows:
            match = self.matches[line[i]]
            both = flat & match
            total = flat + both
            carry = total ^ flat ^ both
            flat = (total | (flat & ~match)) & self.columns
            yield flat, carry >> 1

    def _reversed_matches(self, word: int) -> int:
        if word not in self.reversed:
            self.reversed[word] = self._reverse(self.matches[word])
        return self.reversed[word]

    def _reverse(self, vector: int) -> int:
        return int.from_bytes(vector.to_bytes(self.size, "little").translate(_REVERSED), "big")

    def _vector(self, bits: Sequence[int]) -> int:
        octets = bytearray(self.size)
        for bit in bits:
            octets[bit >> 3] |= 1 << (bit & 7)
        return int.from_bytes(octets, "little")
