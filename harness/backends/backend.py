"""What answers prompts for a system: a small protocol, and which backend a model asks for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from harness.config.schema import DecodingConfig
from harness.host.progress import Tick
from harness.records import Example, Generation, ReferenceLikelihood
from harness.systems import System

if TYPE_CHECKING:
    from harness.runs.context import Context

Capability = Literal["log_likelihood"]


class Backend(Protocol):
    """Answers as any of a run's systems.

    Both verbs yield one record an example as soon as it is known, in any order, and skip those
    whose id is in `done` (records of an interrupted call). What is computed for an example does
    not depend on `done`: work that is shared by several (a batch) is done whole.
    capabilities: "log_likelihood": it can score a text that is given to it.
    """

    capabilities: frozenset[Capability]

    def generate(
        self,
        system: System,
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

    def log_likelihoods(
        self, system: System, examples: Sequence[Example], done: Collection[str]
    ) -> Iterator[ReferenceLikelihood]:
        """Teacher-forced losses of the examples' references. Needs the capability."""
        ...

    def written(self, text: str) -> str:
        """What comes back of `text` from encoding and decoding: the best answer it can write."""
        ...


@runtime_checkable
class Together(Protocol):
    """A backend that answers as several systems at once, faster than as one after the other."""

    def generate_together(
        self,
        done: Mapping[str, Collection[str]],
        examples: Sequence[Example],
        decoding: DecodingConfig,
        tick: Tick,
    ) -> Iterator[tuple[str, Generation]]:
        """As `Backend.generate`, each answer with the name of its system. done: by system that is
        to answer, the ids of examples that it need not."""
        ...

    def facts(self) -> dict[str, Any]:
        """How it answered, for the manifest."""
        ...


Make = Callable[["Context"], Backend]
