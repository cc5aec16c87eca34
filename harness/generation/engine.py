"""What answers prompts: two verbs, generate and measure, that every engine has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from harness.config.schema import DecodingConfig
from harness.records import Arm, Example, Generation, SampleLoss


class Engine(Protocol):
    """Answers as one arm or the other.

    Both verbs yield one record an example as soon as it is known, in any order, and skip those
    whose id is in `done` (records of an interrupted call). What is computed for an example does
    not depend on `done`: work that is shared by several (a batch) is done whole.
    """

    def generate(
        self, arm: Arm, examples: Sequence[Example], decoding: DecodingConfig, done: Collection[str]
    ) -> Iterator[Generation]:
        """Answers to the examples' prompts."""
        ...

    def measure(
        self, arm: Arm, examples: Sequence[Example], done: Collection[str]
    ) -> Iterator[SampleLoss]:
        """Teacher-forced losses of the examples' references."""
        ...


Say = Callable[[str], None]
