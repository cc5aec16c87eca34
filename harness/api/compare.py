"""`harness.compare`: two results of `harness.score` on the same samples, paired."""

from __future__ import annotations

from dataclasses import replace

from harness.api.rows import Rows, rows_of
from harness.api.score import Scores
from harness.errors import DataError, UsageError
from harness.host.text import one_line
from harness.pipeline.joining import join
from harness.records import Metric
from harness.reports.rows import clusters_of, comparison_rows, score_columns


def compare(a: Scores, b: Scores, *, clusters: bool = True) -> Rows:
    """B against A, as `harness compare` does: a row for each metric that both have.

    a, b: what `harness.score` gave for two systems' answers to the same samples: paired by id where
    both were given ids, else by order. clusters: draw samples of one group together.

    Columns: metric, direction ("higher" or "lower" is better), n (pairs with a number in both),
    a, b (means of those), delta (b - a), ci_low, ci_high (95 %, paired bootstrap), p_value
    (two-sided: sign flips, McNemar for yes/no metrics), p_adjusted (Holm's correction over the
    rows), wins, ties, losses (samples on which B is better, equal, worse), signature.
    Raises DataError where the samples are not the same, UsageError where the metrics are not.
    """
    for side in (a, b):
        if not isinstance(side, Scores):
            raise UsageError(
                f"compare takes two results of harness.score, not a {type(side).__name__}: "
                "score the predictions first."
            )
    metrics = _common(a, b)
    one, other = a.predictions, b.predictions
    if one.name == other.name:  # messages tell them apart
        one, other = replace(one, name="A"), replace(other, name="B")
    joined = join(one, other)
    for side, samples in ((a, joined.a), (b, joined.b)):
        own = {sample.id: sample.assertions for sample in side.predictions.samples}
        for sample in samples:
            if sample.assertions != own[sample.id]:
                raise DataError(
                    f"only one side has assertions for sample '{one_line(sample.id, 60)}': score "
                    "both with the same."
                )
    of_b = zip(b.predictions.samples, b.scored, strict=True)
    by_id = {sample.id: scored.scores for sample, scored in of_b}
    scores = {
        "base": [scored.scores for scored in a.scored],
        "tuned": [by_id[sample.id] for sample in joined.b],
    }
    columns = score_columns(metrics, scores)
    labels = clusters_of(joined.groups) if clusters else None
    rows = comparison_rows(columns, a.predictions.origin, labels)
    return rows_of({name: getattr(row, field) for name, field in _COLUMNS.items()} for row in rows)


_COLUMNS = {
    **{name: name for name in ("metric", "direction", "n")},
    "a": "base",
    "b": "tuned",
    **{name: name for name in ("delta", "ci_low", "ci_high", "p_value", "p_adjusted")},
    **{name: name for name in ("wins", "ties", "losses", "signature")},
}
"""A row's columns, and the fields of a ComparisonRow that they are."""


def _common(a: Scores, b: Scores) -> list[Metric]:
    """The metrics of both, in the order of A. Raises UsageError."""
    of_b = {metric.name: metric for metric in b.metrics}
    common = [metric for metric in a.metrics if metric.name in of_b]
    if not common:
        raise UsageError("the two sides have no metric in common: score both with the same.")
    for metric in common:
        one, other = metric.signature, of_b[metric.name].signature
        if one != other:
            raise UsageError(
                f"{metric.name} is {one} on one side and {other} on the other: score both with the "
                "same settings."
            )
    return common
