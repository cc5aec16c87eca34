"""compare: the rows of the tables, paired statistics included, and predictions.csv of one run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.files import write_atomic
from harness.records import Direction, Example, Metric, SampleLoss
from harness.reports import ComparisonRow, KindRow, PredictionRow, prediction_lines
from harness.stages.context import Context, read_jsonl, stopwatch, write_jsonl
from harness.stages.score import SYSTEMS

if TYPE_CHECKING:
    from harness.statistics import Comparison

Values = list[float | None]


@dataclass(frozen=True, slots=True)
class Column:
    """One metric of every system, in the order of the prompts; weights: None for a plain mean."""

    metric: Metric
    values: dict[str, Values]
    weights: list[float] | None = None


def compare(context: Context) -> None:
    """Write comparison.jsonl (rows), kinds.jsonl and predictions.csv."""
    with stopwatch() as seconds:
        examples = context.examples("test")
        columns = [*_loss_columns(context, examples), *_score_columns(context, examples)]
        kinds = sorted({example.kind for example in examples} - {""})
        files = [
            write_jsonl(
                context.path("comparison.jsonl"),
                (row.to_json() for row in _rows(context, columns)),
            ),
            write_jsonl(
                context.path("kinds.jsonl"),
                (
                    row.to_json()
                    for kind in (kinds if len(kinds) > 1 else ())
                    for row in _kind_rows(kind, examples, columns)
                ),
            ),
            context.path("predictions.csv"),
        ]
        write_atomic(files[-1], "".join(_prediction_lines(context, examples, columns)))
        context.publish("compare", files, {}, seconds())


def _score_columns(context: Context, examples: Sequence[Example]) -> list[Column]:
    from harness.scorers import get

    scores = {
        system: {
            row["id"]: row["scores"]
            for row in read_jsonl(context.path("scores", f"{system}.jsonl"))
        }
        for system in SYSTEMS
    }
    return [
        Column(
            metric,
            {s: [scores[s][e.id].get(metric.name) for e in examples] for s in SYSTEMS},
        )
        for scorer in get(context.run.task.scorers)
        for metric in scorer.metrics
    ]


def _loss_columns(context: Context, examples: Sequence[Example]) -> list[Column]:
    """Cross-entropy and its kin, weighted by tokens (or bytes): the mean is the corpus'."""
    losses: dict[str, dict[str, SampleLoss]] = {
        arm: {
            row["id"]: SampleLoss(**row)
            for row in read_jsonl(context.path("losses", f"{arm}.jsonl"))
        }
        for arm in ("base", "tuned")
    }

    def column(
        name: str,
        direction: Direction,
        unit: str,
        weight: Callable[[SampleLoss], int],
        value: Callable[[SampleLoss], float],
    ) -> Column:
        found = {
            arm: [
                value(loss) if (loss := losses[arm].get(e.id)) and weight(loss) else None
                for e in examples
            ]
            for arm in ("base", "tuned")
        }
        weights = [
            float(weight(loss)) if (loss := losses["base"].get(e.id)) else 0.0 for e in examples
        ]
        signature = f"{name}|of:reference|unit:{unit}|mean:corpus|v1"
        return Column(Metric(name, direction, signature), found, weights)

    return [
        column(
            "cross_entropy", "lower", "nats/token", lambda s: s.tokens, lambda s: s.nll / s.tokens
        ),
        column(
            "bits_per_byte",
            "lower",
            "bits/byte",
            lambda s: s.bytes,
            lambda s: s.nll / math.log(2) / s.bytes,
        ),
        column(
            "token_accuracy", "higher", "share", lambda s: s.tokens, lambda s: s.correct / s.tokens
        ),
    ]


def _rows(context: Context, columns: Sequence[Column]) -> list[ComparisonRow]:
    from harness import statistics

    run = context.run
    compared = [_compared(c, range(len(c.values["base"]))) for c in columns]
    adjusted = statistics.holm([found.p_value for found in compared])
    return [
        ComparisonRow(
            model=run.model.name,
            task=run.task.name,
            recipe=run.recipe.name,
            seed=run.seed,
            metric=column.metric.name,
            direction=column.metric.direction,
            n=found.n,
            base=found.base,
            tuned=found.tuned,
            delta=found.delta,
            ci_low=found.ci_low,
            ci_high=found.ci_high,
            p_value=found.p_value,
            p_adjusted=p_adjusted,
            wins=found.wins,
            ties=found.ties,
            losses=found.losses,
            reference=statistics.mean(column.values.get("reference", [])),
            nearest=statistics.mean(column.values.get("nearest", [])),
            signature=column.metric.signature,
            run=context.folder.path.name,
        )
        for column, found, p_adjusted in zip(columns, compared, adjusted, strict=True)
    ]


def _compared(column: Column, chosen: Sequence[int]) -> Comparison:
    """Both arms on the prompts at the positions `chosen`."""
    from harness import statistics

    return statistics.compare(
        [column.values["base"][i] for i in chosen],
        [column.values["tuned"][i] for i in chosen],
        direction=column.metric.direction,
        binary=column.metric.binary,
        weights=None if column.weights is None else [column.weights[i] for i in chosen],
    )


def _kind_rows(kind: str, examples: Sequence[Example], columns: Sequence[Column]) -> list[KindRow]:
    chosen = [i for i, example in enumerate(examples) if example.kind == kind]
    rows = []
    for column in columns:
        found = _compared(column, chosen)
        rows.append(
            KindRow(
                kind=kind,
                metric=column.metric.name,
                direction=column.metric.direction,
                n=found.n,
                base=found.base,
                tuned=found.tuned,
                delta=found.delta,
                ci_low=found.ci_low,
                ci_high=found.ci_high,
                p_value=found.p_value,
            )
        )
    return rows


def _prediction_lines(
    context: Context, examples: Sequence[Example], columns: Sequence[Column]
) -> list[str]:
    answers: dict[str, dict[str, Any]] = {
        arm: {row["id"]: row for row in read_jsonl(context.path("generations", f"{arm}.jsonl"))}
        for arm in ("base", "tuned")
    }
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
            base=answers["base"][example.id]["text"],
            tuned=answers["tuned"][example.id]["text"],
            base_finish_reason=answers["base"][example.id]["finish_reason"],
            tuned_finish_reason=answers["tuned"][example.id]["finish_reason"],
            base_scores={c.metric.name: c.values["base"][i] for c in columns},
            tuned_scores={c.metric.name: c.values["tuned"][i] for c in columns},
        )
        for i, example in enumerate(examples)
    ]
    return list(prediction_lines(rows, [c.metric.name for c in columns]))
