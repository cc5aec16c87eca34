"""What a scorer is, and how it says what its metrics are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.records import UNCHOSEN, Direction, Metric, Sample, Signature


@dataclass(frozen=True, slots=True)
class Unscored:
    """Why a metric has no number for a sample, in a few words: "longer than 400,000 characters"."""

    reason: str


Value = float | Unscored


class Scorer(ABC):
    """A pure function from one sample to named numbers.

    name:    what a task's file calls it.
    summary: one line about it, for `harness list scorers`.
    version: raised whenever a number of it may change; it ends every signature.
    metrics: what `score` returns, in the order of the tables.
    in_worker: whether `score` may be called in a worker process, sample by sample; else
             `score_many` is called here with all samples at once.
    limit_memory: whether such a process may have 4 GiB of address space only; not for what
             loads a model.
    """

    name: str
    summary: ClassVar[str] = ""
    version: int
    metrics: tuple[Metric, ...]
    in_worker: ClassVar[bool] = True
    limit_memory: ClassVar[bool] = True

    @abstractmethod
    def score(self, sample: Sample) -> dict[str, Value]:
        """A number, or why there is none, for each of `metrics`.

        Bounded in work, so that hostile answers take no more than some tenths of a second.
        Raises nothing on account of the texts, whatever they hold, and UsageError where
        the task is at fault (a selector that is no selector).
        """

    def score_many(self, samples: Sequence[Sample]) -> list[dict[str, Value]]:
        """`score` of each sample; a scorer that does better with all at once overrides it."""
        return [self.score(sample) for sample in samples]

    def details(self, sample: Sample) -> dict[str, Any]:
        """What stands behind the numbers of a sample, as plain data of bounded size, by name."""
        return {}

    def prepare(self) -> None:  # noqa: B027
        """Load what scoring needs. Raises MissingError or UsageError where that is not there."""


def metric(
    name: str,
    direction: Direction,
    version: int,
    *,
    binary: bool = False,
    raw: bool = False,
    **settings: str,
) -> Metric:
    """A metric whose signature reads `rougeL|tok:rouge-score|stem:no|text:{text}|v1`.

    settings: everything that changes the number, in this order. raw: it is of the answer as
    generated, fences and chat included; else the task says whether of that or of what
    harness.scorers.text.extract takes out of it.
    """
    text = "raw" if raw else UNCHOSEN
    signature = Signature(name, tuple(settings.items()), text, version)
    return Metric(name, direction, signature, binary)
