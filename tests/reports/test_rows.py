"""From numbers to rows: loss columns, clusters, kinds, seeds combined."""

from __future__ import annotations

import math

import pytest

from harness.records import Metric, ReferenceLikelihood
from harness.reports.rows import (
    Column,
    Origin,
    clusters_of,
    combined_rows,
    comparison_rows,
    kind_rows,
    loss_columns,
    score_columns,
)
from harness.statistics.paired import compare, holm

ORIGIN = Origin("m", "t", "quick", 0, "folder")
SHARE = Metric("share", "higher", "share|v1")
YES = Metric("yes", "higher", "yes|v1", binary=True)


def loss(
    identity: str, nll: float, tokens: int, size: int = 10, correct: int = 1
) -> ReferenceLikelihood:
    return ReferenceLikelihood(identity, nll, correct, tokens, size)


def column(base: list[float | None], tuned: list[float | None], metric: Metric = SHARE) -> Column:
    return Column(metric, {"base": base, "tuned": tuned, "reference": [1.0] * len(base)})


def columns(
    base: dict[str, ReferenceLikelihood], tuned: dict[str, ReferenceLikelihood], ids: str
) -> list[Column]:
    return loss_columns({"base": base, "tuned": tuned}, list(ids))


def test_losses_are_the_corpus() -> None:
    base = {"a": loss("a", 6.0, 2, 8), "b": loss("b", 4.0, 8, 32, correct=6)}
    tuned = {"a": loss("a", 2.0, 2, 8), "b": loss("b", 3.0, 8, 32, correct=8)}
    rows = {r.metric: r for r in comparison_rows(columns(base, tuned, "ab"), ORIGIN, None)}
    assert list(rows) == ["cross_entropy", "perplexity", "bits_per_byte", "token_accuracy"]
    assert (rows["cross_entropy"].base, rows["cross_entropy"].tuned) == (1.0, 0.5)
    assert rows["perplexity"].base == pytest.approx(math.e)
    assert rows["perplexity"].delta == pytest.approx(math.exp(0.5) - math.e)
    assert rows["bits_per_byte"].base == pytest.approx(10 / math.log(2) / 40)
    assert (rows["token_accuracy"].base, rows["token_accuracy"].tuned) == (0.7, 0.9)
    assert all(row.n == 2 and row.reference is None for row in rows.values())
    # A sample's own perplexity, as predictions.csv shows it.
    shown = columns(base, tuned, "ab")[1].shown("base")
    assert shown == [pytest.approx(math.exp(3.0)), pytest.approx(math.exp(0.5))]


def test_a_reference_without_a_loss_or_a_token_is_not_scored() -> None:
    base = {"a": loss("a", 6.0, 2), "c": loss("c", 1.0, 0)}
    rows = comparison_rows(columns(base, {"a": loss("a", 4.0, 2)}, "abc"), ORIGIN, None)
    assert [row.n for row in rows if row.metric != "bits_per_byte"] == [1, 1, 1]


def test_two_tokenizers_are_compared_by_bytes_alone() -> None:
    base, tuned = {"a": loss("a", 6.0, 2)}, {"a": loss("a", 6.0, 3)}
    assert [c.metric.name for c in columns(base, tuned, "a")] == ["bits_per_byte"]


def test_an_overflowing_perplexity_is_not_shown() -> None:
    base = {"a": loss("a", 9000.0, 2)}
    assert columns(base, base, "a")[1].shown("base") == [None]


def test_rows_carry_the_statistics_and_holm_is_over_all() -> None:
    base: list[float | None] = [0.0, 0.1, 0.2, None, 0.4, 0.0, 0.3]
    tuned: list[float | None] = [0.5, 0.2, 0.4, 0.9, 0.5, 0.1, 0.9]
    yes = column([0.0] * 7, [1.0] * 6 + [0.0], YES)
    rows = comparison_rows([column(base, tuned), yes], ORIGIN, None)
    one = compare(base, tuned, direction="higher")
    assert (rows[0].n, rows[0].delta, rows[0].ci_low) == (6, one.delta, one.ci_low)
    assert rows[0].reference == 1.0
    assert rows[0].nearest is None
    assert [r.p_adjusted for r in rows] == holm([one.p_value, 2 / 64])
    assert (rows[1].wins, rows[1].ties, rows[1].p_value) == (6, 1, 2 / 64)


def test_clusters() -> None:
    assert clusters_of(["", "a", "", "b"]) is None
    labels = clusters_of(["a", "", "a", ""])
    assert labels is not None
    assert labels[0] == labels[2]
    assert len(set(labels)) == 3
    # Two groups of four alike: as two units, so that no p under 1/2 can come of it.
    rows = comparison_rows([column([0.0] * 8, [1.0] * 8, YES)], ORIGIN, clusters_of("aaaabbbb"))
    assert rows[0].p_value == 0.5


def test_kinds() -> None:
    columns = [column([0.0, 0.0, 0.5], [1.0, 0.5, 0.5])]
    rows = kind_rows(columns, ["new", "old", "new"], None)
    assert [(r.kind, r.n, r.base, r.tuned) for r in rows] == [
        ("new", 2, 0.25, 0.75),
        ("old", 1, 0.0, 0.5),
    ]
    assert kind_rows(columns, ["one"] * 3, None) == []


def test_seeds_combined() -> None:
    seeds = [[column([0.0, 0.0], [1.0, t])] for t in (0.5, 1.0)]
    (row,) = combined_rows(seeds, ORIGIN, None)
    assert (row.seed, row.n, row.base, row.tuned, row.wins) == ("all", 2, 0.0, 0.875, 2)


def test_score_columns_are_by_metric() -> None:
    scores = {"base": [{"yes": 0.0, "share": 0.5}, {"yes": None}], "tuned": [{"yes": 1.0}, {}]}
    found = score_columns([YES, SHARE], scores)
    assert found[0].values == {"base": [0.0, None], "tuned": [1.0, None]}
    assert found[1].values == {"base": [0.5, None], "tuned": [None, None]}
