"""Scorers: pure functions from (prompt, reference, answer) to named numbers.

What is chosen scores here; which there are is in registry.py. None imports a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from harness.records import Metric, Sample, Scored
from harness.scorers.base import Scorer, Unscored, Value, metric
from harness.scorers.chosen import Chosen, merged
from harness.scorers.registry import LIKELIHOOD, Entry, entries, get, metric_names, names

__all__ = [
    "LIKELIHOOD",
    "Chosen",
    "Entry",
    "Scorer",
    "Unscored",
    "Value",
    "entries",
    "get",
    "merged",
    "metric",
    "metric_names",
    "metrics_of",
    "names",
    "score_all",
    "score_systems",
]


def score_all(
    samples: Sequence[Sample],
    scorers: Sequence[Chosen],
    progress: Callable[[int], None] | None = None,
) -> list[Scored]:
    """All metrics of all scorers for each sample, in the order of `samples`.

    It is done in worker processes, which are ended where a sample takes more than two seconds
    or takes them down: its missing metrics get a note that says so, and the others go on. Put
    answers to the same reference next to one another: what is parsed for one is there for the
    next. progress: called after each sample with the number that are done.
    Raises UsageError where the task is at fault, HarnessError where no process can be started.
    """
    from harness.scorers.workers.pool import score_in_workers

    return score_in_workers(samples, scorers, progress)


def score_systems(
    systems: Mapping[str, Sequence[Sample]], scorers: Sequence[Chosen]
) -> dict[str, list[Scored]]:
    """The scores of several systems' answers, of each in its order.

    Shows its progress. Raises as `score_all` does.
    """
    from harness.host.progress import Progress

    # The answers to one reference stand together: its parse then serves them all.
    places: dict[str, list[tuple[str, int]]] = {}
    for system, samples in systems.items():
        for at, sample in enumerate(samples):
            places.setdefault(sample.reference, []).append((system, at))
    order = [place for same in places.values() for place in same]
    with Progress("score", len(order), "answers") as bar:
        every = [systems[system][at] for system, at in order]
        found = dict(zip(order, score_all(every, scorers, lambda _: bar.advance()), strict=True))
    return {
        system: [found[system, at] for at in range(len(samples))]
        for system, samples in systems.items()
    }


def metrics_of(scorers: Sequence[Chosen]) -> list[Metric]:
    """All metrics that are wanted, in the order of the tables."""
    return [metric for scorer in scorers for metric in scorer.metrics]
