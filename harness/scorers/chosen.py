"""A scorer as it was asked for, and what it makes of samples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.records import Metric, Sample, Scored, TextChoice
from harness.scorers.base import Scorer, Unscored, Value


@dataclass(frozen=True, slots=True)
class Chosen:
    """A scorer as a task or a command asks for it.

    asked:   the name it was asked for by: a scorer's, one metric's, or evaluate:PATH_OR_NAME.
    metrics: those that are wanted of it, their signatures complete.
    text:    whether answers are scored raw or extracted, where the scorer leaves the choice.
    """

    asked: str
    scorer: Scorer
    metrics: tuple[Metric, ...]
    text: TextChoice

    def score(self, sample: Sample) -> Scored:
        """The sample's numbers and notes, of the wanted metrics."""
        return self.score_many([sample])[0]

    def score_many(self, samples: Sequence[Sample]) -> list[Scored]:
        """`score` of each, by the scorer's own way for many."""
        raw = [metric.name for metric in self.metrics if metric.signature.text == "raw"]
        if self.text == "raw" or len(raw) == len(self.metrics):
            return list(map(self._scored, samples, self.scorer.score_many(samples)))
        from harness.scorers.text.extract import extract

        seen = [replace(sample, prediction=extract(sample.prediction)) for sample in samples]
        values = self.scorer.score_many(seen)
        if raw:  # a scorer of both: those of its metrics that are of the raw answer
            for some, whole in zip(values, self.scorer.score_many(samples), strict=True):
                some.update({name: whole[name] for name in raw})
        return list(map(self._scored, seen, values))

    def _scored(self, sample: Sample, values: dict[str, Value]) -> Scored:
        scores: dict[str, float | None] = {}
        notes: dict[str, str] = {}
        for name in (metric.name for metric in self.metrics):
            value = values[name]
            if not isinstance(value, Unscored) and not math.isfinite(value):
                value = Unscored("the scorer gave no finite number")
            if isinstance(value, Unscored):
                scores[name], notes[name] = None, value.reason
            else:
                scores[name] = float(value)
        details = self.scorer.details(sample)
        if details:
            json.dumps(details, allow_nan=False)  # raises on what no file could hold
        return Scored(scores, notes, details)


def merged(parts: Iterable[Scored]) -> Scored:
    """The parts of one sample as one record."""
    scores: dict[str, float | None] = {}
    notes: dict[str, str] = {}
    details: dict[str, Any] = {}
    for part in parts:
        scores.update(part.scores)
        notes.update(part.notes)
        details.update(part.details)
    return Scored(scores, notes, details)
