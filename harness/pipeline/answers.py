"""Answers to score, wherever they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.host.progress import Progress
from harness.records import Metric, Sample, Scored
from harness.reports.rows import Origin
from harness.scorers import Chosen, score_all


@dataclass(frozen=True, slots=True)
class Answered:
    """One system's answers, a sample each, in order.

    name:    what to call it: a file's name, or a run's folder and its arm.
    groups:  a label a sample; samples of one group are near-duplicates, "" stands alone.
    by_id:   whether every sample came with an id, so that it can be joined by it.
    source:  what the answers are, as plain data: name, sha256, rows and the like.
    origin:  the columns of the tables that tell where a run's answers come from.
    """

    name: str
    samples: list[Sample]
    groups: list[str]
    by_id: bool
    source: dict[str, Any]
    origin: Origin


def score_systems(
    systems: Sequence[Sequence[Sample]], scorers: Sequence[Chosen]
) -> list[list[Scored]]:
    """The scores of several systems on the same prompts, each as long as the others."""
    # The answers to one reference stand together: its parse then serves them all.
    samples = [sample for same in zip(*systems, strict=True) for sample in same]
    with Progress("score", len(samples), "answers") as bar:
        scored = score_all(samples, scorers, lambda _: bar.advance())
    return [scored[at :: len(systems)] for at in range(len(systems))]


def metrics_of(scorers: Sequence[Chosen]) -> list[Metric]:
    """All metrics that are wanted, in the order of the tables."""
    return [metric for scorer in scorers for metric in scorer.metrics]
