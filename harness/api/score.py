"""`harness.score`: every metric of given answers, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.api.rows import Rows, rows_of
from harness.errors import UsageError
from harness.host.text import listed, quoted
from harness.pipeline.predictions import Predictions, predictions_of
from harness.pipeline.score import summary_rows
from harness.records import FinishReason, Metric, Scored, TextChoice
from harness.reports.rows import clusters_of
from harness.reports.summary import SummaryRow, summary_terminal
from harness.scorers import get, metrics_of, names, score_systems


@dataclass(frozen=True)
class Scores:
    """The scores of one system's answers. `scores["rougeL"].mean` is a metric's mean; `print` shows
    all of them.

    predictions: the answers, with references and prompts. metrics: what was measured, in order.
    scored: what the scorers say of each answer. rows: a summary a metric.
    """

    predictions: Predictions
    metrics: tuple[Metric, ...]
    scored: tuple[Scored, ...]
    rows: tuple[SummaryRow, ...]

    @property
    def values(self) -> dict[str, list[float | None]]:
        """Each metric's number of every answer, in the order given; None where it has none."""
        return {m.name: [one.scores[m.name] for one in self.scored] for m in self.metrics}

    @property
    def samples(self) -> Rows:
        """A row an answer: id, prompt, reference, prediction, and a column a metric."""
        return rows_of(
            {
                "id": sample.id,
                "prompt": sample.prompt,
                "reference": sample.reference,
                "prediction": sample.prediction,
                **one.scores,
            }
            for sample, one in zip(self.predictions.samples, self.scored, strict=True)
        )

    @property
    def summary(self) -> Rows:
        """A row a metric: mean, 95 % interval, n, how many answers are unscored and why (`notes`),
        direction and signature."""
        return rows_of({"metric": row.metric, **row.to_json()} for row in self.rows)

    def __getitem__(self, metric: str) -> SummaryRow:
        """The summary of one metric. Raises KeyError."""
        for row in self.rows:
            if row.metric == metric:
                return row
        known = listed(row.metric for row in self.rows)
        raise KeyError(f"no metric {quoted(metric, 60)} was measured; there are {known}")

    def __str__(self) -> str:
        return summary_terminal(self.rows)


def score(
    predictions: Iterable[str],
    references: Iterable[str],
    prompts: Iterable[str] | None = None,
    scorers: str | Sequence[str] | None = None,
    text: TextChoice = "raw",
    *,
    ids: Iterable[str | int] | None = None,
    groups: Iterable[str | int | None] | None = None,
    finish_reasons: Iterable[FinishReason | None] | None = None,
    assertions: Iterable[Sequence[Mapping[str, Any]] | None] | None = None,
    clusters: bool = True,
    name: str = "predictions",
) -> Scores:
    """Score answers against references, as `harness score --predictions FILE` does. Writes nothing.

    predictions, references, prompts: texts, one a sample, position by position.
    scorers: names of scorers or metrics, as `harness list scorers` has them, or
             evaluate:PATH_OR_NAME; None for all of ours.
    text: "raw", or "extracted": without chat around the answer and without a code fence.
    ids: of the samples, by which `harness.compare` pairs them; without them their order counts.
    groups: alike for near-duplicates, which intervals draw together unless `clusters` is False.
    finish_reasons: "stop", or "length" for an answer that was cut off; None where unknown.
    assertions: what must hold of each page, with the fields of harness.records.Assertion.
    name: what to call the answers in messages.

    The intervals are percentile bootstraps of 95 %, seeded (harness.statistics.paired).
    Scoring is done in worker processes, which need no `if __name__ == "__main__"` in a script.
    Raises UsageError for an unknown scorer, MissingError where one lacks what it needs, DataError
    for lists that are none, or of different lengths.
    """
    if text not in ("raw", "extracted"):
        raise UsageError(f"`text` is {text!r}: give 'raw' or 'extracted'.")
    given = predictions_of(
        name,
        {
            "prediction": predictions,
            "reference": references,
            "prompt": prompts,
            "id": ids,
            "group": groups,
            "finish_reason": finish_reasons,
            "assertions": assertions,
        },
    )
    wanted = names() if scorers is None else [scorers] if isinstance(scorers, str) else scorers
    chosen = get(wanted, text)
    scored = score_systems({name: given.samples}, chosen)[name]
    metrics = metrics_of(chosen)
    rows = summary_rows(metrics, scored, clusters_of(given.groups) if clusters else None)
    return Scores(given, tuple(metrics), tuple(scored), tuple(rows))
