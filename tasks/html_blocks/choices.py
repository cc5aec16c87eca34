"""Choices that are the same on every machine: a stream of SHA-256 digests, no `random` module.

`Choices` draws; `CountingChoices` walks the same code and multiplies the numbers of options.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Draws that depend on `key` (any text) and on nothing else."""

    def __init__(self, key: str) -> None:
        self._key = key.encode("utf-8")
        self._drawn = 0

    def below(self, n: int) -> int:
        """An integer in [0, n), n > 0; the modulo's bias is below n / 2**64."""
        digest = hashlib.sha256(b"%d/%s" % (self._drawn, self._key)).digest()
        self._drawn += 1
        return int.from_bytes(digest[:8], "big") % n

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def one(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def some(self, options: Sequence[T], k: int) -> tuple[T, ...]:
        """`k` options, none twice, in the order drawn."""
        left = list(options)
        return tuple(left.pop(self.below(len(left))) for _ in range(k))

    def chance(self, out_of: int) -> bool:
        """True once in `out_of` draws: for what is rare, such as unusual content."""
        return self.below(out_of) == 0


class CountingChoices(Choices):
    """Takes the first option of each choice and multiplies the numbers of options in `total`.

    The total is a lower bound of what the walked code can compose, provided that a choice which
    decides how many choices follow lists first the option with the fewest. Rare branches
    (`chance`) are not counted.
    """

    def __init__(self) -> None:
        super().__init__("")
        self.total = 1

    def below(self, n: int) -> int:
        self.total *= n
        return 0

    def chance(self, out_of: int) -> bool:
        return False
