"""`harness score`: every metric of given answers, as scores.jsonl and summary.json."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from harness.pipeline.outputs import check_out, write_together
from harness.pipeline.predictions import Predictions, read_predictions
from harness.pipeline.stored import open_run
from harness.records import Metric, Scored, TextChoice
from harness.reports.rows import clusters_of
from harness.reports.summary import SummaryRow, summary_terminal, systems_terminal
from harness.runs.environment import SCORER_LIBRARIES, environment
from harness.scorers import Chosen, get, metrics_of, names, score_systems
from harness.stages.score import score_row
from harness.statistics.paired import CONFIDENCE, RESAMPLES, describe_many
from harness.systems import systems as systems_of

SEED = 0
SCORES, SUMMARY = "scores.jsonl", "summary.json"
_ROOT = Path("results", "scores")


@dataclass(frozen=True, slots=True)
class Table:
    """The summaries of one system or more, what was drawn as one, and where all was written."""

    rows: dict[str, list[SummaryRow]]
    clusters: str
    folders: list[Path]

    def text(self, width: int) -> str:
        """For a terminal; ends in a newline."""
        one = len(self.rows) == 1
        table = (
            summary_terminal(next(iter(self.rows.values())), width)
            if one
            else systems_terminal(self.rows, width)
        )
        folder = self.folders[0] if one else f"{self.folders[0].parent}/*"
        return (
            f"{table}\nclusters: {self.clusters}\n"
            f"summary: {folder}/{SUMMARY}\nscores: {folder}/{SCORES}\n"
        )


def score_predictions(
    path: Path,
    scorers: Sequence[str] | None = None,
    text: TextChoice | None = None,
    out: Path | None = None,
    *,
    by_group: bool = True,
) -> Table:
    """Score the answers in a file of predictions (harness.pipeline.predictions.read_predictions).

    scorers: names, None for all of ours. text: "raw" unless given. out: results/scores/<stem>.
    by_group: whether samples of one group are drawn together.
    Raises UsageError before anything is scored or written, StorageError.
    """
    predictions = read_predictions(path)
    folder = out or _ROOT / path.stem
    check_out(folder, (SCORES, SUMMARY), [path])
    chosen = get(scorers or names(), text or "raw")
    return _score({predictions.name: predictions}, [folder], chosen, text or "raw", by_group)


def score_run(
    path: Path,
    scorers: Sequence[str] | None = None,
    text: TextChoice | None = None,
    out: Path | None = None,
    *,
    by_group: bool = True,
) -> Table:
    """Score again what a run's folder holds: base, tuned, reference, nearest, a folder each.

    scorers, text: the task's unless given. out: results/scores/<folder's name>.
    Raises UsageError before anything is scored or written, StorageError.
    """
    run = open_run(path)
    folder = out or _ROOT / run.name
    every = [system.name for system in systems_of(run.view.adapters)]
    check_out(folder, [f"{system}/{name}" for system in every for name in (SCORES, SUMMARY)])
    wanted = text or run.text
    chosen = get(scorers or run.scorers, wanted)
    systems = {system: run.answers(system) for system in every}
    folders = [folder / system for system in every]
    return _score(systems, folders, chosen, wanted, by_group)


def summary_rows(
    metrics: Sequence[Metric], scored: Sequence[Scored], clusters: Sequence[Hashable] | None
) -> list[SummaryRow]:
    """A row a metric over all answers of a system. clusters: as `clusters_of` has them."""
    columns = [[one.scores[metric.name] for one in scored] for metric in metrics]
    summaries = describe_many(columns, clusters=clusters, resamples=RESAMPLES, seed=SEED)
    return [
        SummaryRow.of(metric, summary, scored)
        for metric, summary in zip(metrics, summaries, strict=True)
    ]


def versions() -> dict[str, str]:
    """Versions of what a score stands on: this program, Python, the libraries of the scorers."""
    names = ("harness", "python", "system", "numpy", *SCORER_LIBRARIES)
    return {name: version for name, version in environment().items() if name in names}


def clusters_said(clusters: Sequence[Any] | None, count: int, by_group: bool) -> str:
    """What was drawn as one, in words."""
    if not by_group:
        return f"none, as asked: each of {count:,} samples is drawn for itself"
    if clusters is None:
        return f"none: each of {count:,} samples is drawn for itself"
    return f"{len(set(clusters)):,} of {count:,} samples, those of one group are drawn together"


def _score(
    systems: dict[str, Predictions],
    folders: list[Path],
    chosen: Sequence[Chosen],
    text: TextChoice,
    by_group: bool,
) -> Table:
    first = next(iter(systems.values()))
    clusters = clusters_of(first.groups) if by_group else None
    metrics = metrics_of(chosen)
    scored = score_systems({name: each.samples for name, each in systems.items()}, chosen)
    files: dict[Path, bytes] = {}
    rows: dict[str, list[SummaryRow]] = {}
    for (system, predictions), folder in zip(systems.items(), folders, strict=True):
        found = scored[system]
        rows[system] = summary_rows(metrics, found, clusters)
        files[folder / SCORES] = _lines(predictions, found)
        summary = {
            "metrics": {row.metric: row.to_json() for row in rows[system]},
            "predictions": predictions.source,
            "scores": {"name": SCORES, "sha256": sha256(files[folder / SCORES]).hexdigest()},
            "text": text,
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
            "seed": SEED,
            "clusters": None if clusters is None else len(set(clusters)),
            "versions": versions(),
        }
        files[folder / SUMMARY] = _encoded(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    write_together(files)
    return Table(rows, clusters_said(clusters, len(first.samples), by_group), folders)


def _lines(predictions: Predictions, scored: Sequence[Scored]) -> bytes:
    rows = map(score_row, predictions.samples, scored)
    return _encoded(
        "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    )


def _encoded(text: str) -> bytes:
    # A lone surrogate as its escape, which inside a JSON string is the same character.
    return text.encode("utf-8", "backslashreplace")
