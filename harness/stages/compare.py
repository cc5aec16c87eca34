"""compare: the rows of the tables, paired statistics included, and predictions.csv of one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.host.files import write_atomic, write_jsonl
from harness.records import Example, Metric
from harness.reports import PredictionRow, prediction_lines
from harness.reports.rows import (
    Column,
    Origin,
    clusters_of,
    comparison_rows,
    kind_rows,
    loss_columns,
    score_columns,
    system_rows,
)
from harness.runs.context import Context, stopwatch
from harness.runs.run import Run
from harness.runs.stage import Stage
from harness.runs.view import RunView
from harness.scorers import get, metrics_of
from harness.scorers.text.extract import extract
from harness.statistics.paired import RESAMPLES
from harness.systems import AS_GIVEN, COMPARED, System, generating, systems

A, B = (system.name for system in COMPARED)


def compare(context: Context) -> None:
    """Write comparison.jsonl and kinds.jsonl (rows), systems.jsonl and predictions.csv."""
    with stopwatch() as seconds:
        run, files = context.run, context.view.files
        examples = context.view.examples("test")
        columns = columns_of(context.view, metrics_of(get(run.task.scorers, run.task.text)))
        clusters = clusters_of([example.group for example in examples])
        origin = Origin(
            run.model.name, run.task.name, run.recipe.name, run.seed, context.folder.path.name
        )
        rows = comparison_rows(columns, origin, clusters)
        kinds = kind_rows(columns, [example.kind for example in examples], clusters)
        of_systems = system_rows(
            columns, [each.name for each in systems(context.view.adapters)], origin, clusters
        )
        made = [
            write_jsonl(files.comparison, (row.to_json() for row in rows)),
            write_jsonl(files.kinds, (row.to_json() for row in kinds)),
            write_jsonl(files.systems, (row.to_json() for row in of_systems)),
            files.predictions,
        ]
        write_atomic(files.predictions, "".join(_prediction_lines(context, examples, columns)))
        units = len(set(clusters)) if clusters else len(examples)
        facts = {"prompts": len(examples), "units": units, "resamples": RESAMPLES, "seed": 0}
        context.publish("compare", made, facts, seconds())


def columns_of(view: RunView, metrics: Sequence[Metric]) -> list[Column]:
    """The log-likelihoods that a run's folder holds and its scores by `metrics`, in the order of
    what is asked; where a prompt has several answers, their mean is no yes or no."""
    if view.answers_each > 1:
        metrics = [replace(metric, binary=False) for metric in metrics]
    ids = [example.id for example in view.examples("test")]
    names = [*(system.name for system in systems(view.adapters)), AS_GIVEN]
    scores = {name: found for name in names if (found := view.scores(name)) is not None}
    answering = generating(view.adapters)
    losses = {system.name: view.likelihoods(system.name) for system in answering}
    return [*loss_columns(losses, ids), *score_columns(metrics, scores)]


def _prediction_lines(
    context: Context, examples: Sequence[Example], columns: Sequence[Column]
) -> list[str]:
    view, run = context.view, context.run
    base, tuned = (view.generations(name) for name in (A, B))
    each = view.answers_each
    written = view.written_references()
    shown = {c.metric.name: {name: c.shown(name) for name in (A, B)} for c in columns}
    own = {name: [s for of in view.answer_scores(name) or [] for s in of] for name in (A, B)}

    def scores(system: str, at: int) -> dict[str, float | None]:
        """An answer's own numbers; the losses are of its prompt."""
        return {metric: v[system][at // each] for metric, v in shown.items()} | own[system][at]

    rows = [
        PredictionRow(
            model=run.model.name,
            task=run.task.name,
            recipe=run.recipe.name,
            seed=run.seed,
            id=a.id,
            kind=example.kind,
            prompt=example.prompt,
            reference=example.target,
            reference_written="" if written[at // each] == example.target else written[at // each],
            base=a.text,
            tuned=b.text,
            base_extracted=_extracted(a.text),
            tuned_extracted=_extracted(b.text),
            prompt_cut=a.cut,
            base_finish_reason=a.finish_reason,
            tuned_finish_reason=b.finish_reason,
            base_scores=scores(A, at),
            tuned_scores=scores(B, at),
        )
        for at, (a, b) in enumerate(zip(base, tuned, strict=True))
        for example in (examples[at // each],)
    ]
    return list(prediction_lines(rows, [c.metric.name for c in columns]))


def _extracted(text: str) -> str:
    """The text without chat and fence; nothing where that is the text itself."""
    found = extract(text)
    return "" if found == text else found


def _inputs(run: Run) -> dict[str, Any]:
    return {"run": [run.model.name, run.task.name, run.recipe.name, run.seed]}


def stage(systems: Sequence[System]) -> Stage:
    """The stage that compares what `systems` generated."""
    needs = ("score", *(f"likelihood-{each.name}" for each in systems))
    return Stage("compare", compare, lambda run: [__name__], _inputs, needs=needs)
