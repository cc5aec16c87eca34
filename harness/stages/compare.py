"""compare: the rows of the tables, paired statistics included, and predictions.csv of one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.host.files import write_atomic
from harness.records import ARMS, Example, Metric, SampleLoss
from harness.reports import PredictionRow, prediction_lines
from harness.reports.rows import (
    Column,
    Origin,
    clusters_of,
    comparison_rows,
    kind_rows,
    loss_columns,
    score_columns,
)
from harness.scorers import get
from harness.scorers.text.extract import extract
from harness.stages.context import Context, read_jsonl, stopwatch, write_jsonl
from harness.stages.score import AS_GIVEN, SYSTEMS, written_references
from harness.statistics.paired import RESAMPLES


def compare(context: Context) -> None:
    """Write comparison.jsonl (rows), kinds.jsonl and predictions.csv."""
    with stopwatch() as seconds:
        run, examples = context.run, context.examples("test")
        chosen = get(run.task.scorers, run.task.text)
        metrics = [metric for scorer in chosen for metric in scorer.metrics]
        columns = columns_of(context.folder.path, metrics, examples)
        clusters = clusters_of([example.group for example in examples])
        origin = Origin(
            run.model.name, run.task.name, run.recipe.name, run.seed, context.folder.path.name
        )
        rows = comparison_rows(columns, origin, clusters)
        kinds = kind_rows(columns, [example.kind for example in examples], clusters)
        files = [
            write_jsonl(context.path("comparison.jsonl"), (row.to_json() for row in rows)),
            write_jsonl(context.path("kinds.jsonl"), (row.to_json() for row in kinds)),
            context.path("predictions.csv"),
        ]
        write_atomic(files[-1], "".join(_prediction_lines(context, examples, columns)))
        units = len(set(clusters)) if clusters else len(examples)
        facts = {"prompts": len(examples), "units": units, "resamples": RESAMPLES, "seed": 0}
        context.publish("compare", files, facts, seconds())


def columns_of(
    folder: Path, metrics: Sequence[Metric], examples: Sequence[Example]
) -> list[Column]:
    """The losses that a run's folder holds and its scores by `metrics`, in the examples' order."""
    ids = [example.id for example in examples]
    losses = {
        arm: {
            row["id"]: SampleLoss(**row) for row in read_jsonl(folder / "losses" / f"{arm}.jsonl")
        }
        for arm in ARMS
    }
    scores = {}
    for system in (*SYSTEMS, AS_GIVEN):
        if system == AS_GIVEN and not (folder / "scores" / f"{system}.jsonl").exists():
            continue
        found = {r["id"]: r["scores"] for r in read_jsonl(folder / "scores" / f"{system}.jsonl")}
        scores[system] = [found[i] for i in ids]
    return [*loss_columns(losses["base"], losses["tuned"], ids), *score_columns(metrics, scores)]


def _prediction_lines(
    context: Context, examples: Sequence[Example], columns: Sequence[Column]
) -> list[str]:
    answers: dict[str, dict[str, Any]] = {
        arm: {row["id"]: row for row in read_jsonl(context.path("generations", f"{arm}.jsonl"))}
        for arm in ("base", "tuned")
    }
    written = written_references(context.folder.path, examples)
    shown = {c.metric.name: {arm: c.shown(arm) for arm in ARMS} for c in columns}
    run = context.run
    rows = [
        PredictionRow(
            model=run.model.name,
            task=run.task.name,
            recipe=run.recipe.name,
            seed=run.seed,
            id=example.id,
            kind=example.kind,
            prompt=example.prompt,
            reference=example.target,
            reference_written="" if written[i] == example.target else written[i],
            base=answers["base"][example.id]["text"],
            tuned=answers["tuned"][example.id]["text"],
            base_extracted=_extracted(answers["base"][example.id]["text"]),
            tuned_extracted=_extracted(answers["tuned"][example.id]["text"]),
            prompt_cut=answers["base"][example.id]["cut"],
            base_finish_reason=answers["base"][example.id]["finish_reason"],
            tuned_finish_reason=answers["tuned"][example.id]["finish_reason"],
            base_scores={name: values["base"][i] for name, values in shown.items()},
            tuned_scores={name: values["tuned"][i] for name, values in shown.items()},
        )
        for i, example in enumerate(examples)
    ]
    return list(prediction_lines(rows, [c.metric.name for c in columns]))


def _extracted(text: str) -> str:
    """The text without chat and fence; nothing where that is the text itself."""
    found = extract(text)
    return "" if found == text else found
