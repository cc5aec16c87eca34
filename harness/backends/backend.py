"""What answers prompts: two verbs, generate and measure, that every engine has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from harness.config.schema import DecodingConfig
from harness.records import Arm, Example, Generation, SampleLoss

Say = Callable[[str], None]
Tick = Callable[[int], None]


class Engine(Protocol):
    """Answers as one arm or the other.

    Both verbs yield one record an example as soon as it is known, in any order, and skip those
    whose id is in `done` (records of an interrupted call). What is computed for an example does
    not depend on `done`: work that is shared by several (a batch) is done whole.
    """

    def generate(
        self,
        arm: Arm,
        examples: Sequence[Example],
        decoding: DecodingConfig,
        done: Collection[str],
        tick: Tick,
    ) -> Iterator[Generation]:
        """Answers to the examples' prompts.

        tick(n): progress, n more of the max_new_tokens that each answer not in `done` may have;
        one that ends early gives its rest at once.
        """
        ...

    def measure(
        self, arm: Arm, examples: Sequence[Example], done: Collection[str]
    ) -> Iterator[SampleLoss]:
        """Teacher-forced losses of the examples' references."""
        ...

    def written(self, text: str) -> str:
        """What comes back of `text` from encoding and decoding: the best answer it can write."""
        ...
