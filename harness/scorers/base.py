"""What a scorer is, and how a number's signature is written."""

from __future__ import annotations

from typing import Protocol

from harness.records import Metric, Sample


class Scorer(Protocol):
    """A pure function from one sample to named numbers.

    name:    what a task's file calls it.
    version: raised whenever a number of it may change; it ends every signature.
    metrics: what `score` returns, in the order of the tables.
    """

    name: str
    version: int
    metrics: tuple[Metric, ...]

    def score(self, sample: Sample) -> dict[str, float | None]:
        """One number for each of `metrics`; None: it cannot be told for this sample.

        Raises nothing on account of the prediction, whatever it holds, and UsageError where
        the task is at fault (a selector that is no selector).
        """
        ...


def signature(metric: str, version: int, **settings: str) -> str:
    """`rougeL|tok:rouge-score|stem:no|text:raw|v1`: what was computed, as sacrebleu prints it.

    `text:raw` is added to all: the answer is scored as generated, fences and chat included.
    """
    parts = [f"{key}:{value}" for key, value in settings.items()]
    return "|".join([metric, *parts, "text:raw", f"v{version}"])
