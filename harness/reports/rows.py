"""From numbers of each sample to the rows of the tables: columns, paired statistics, clusters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.records import Metric, ReferenceLikelihood
from harness.reports import ComparisonRow, KindRow
from harness.reports.comparison import ALL_SEEDS
from harness.reports.systems import SystemRow
from harness.scorers.likelihood import LIKELIHOOD_METRICS
from harness.statistics.paired import (
    Comparison,
    Link,
    Pairs,
    compare_many,
    describe_many,
    holm,
    mean,
)
from harness.statistics.seeds import combine

Values = list[float | None]


@dataclass(frozen=True, slots=True)
class Column:
    """One metric of every system, in the order of the prompts.

    values:  by system: "base" and "tuned", and where there are "reference" and "nearest".
    weights: None for a plain mean. link: "exp" where the figure is exp of the mean.
    """

    metric: Metric
    values: dict[str, Values]
    weights: list[float] | None = None
    link: Link = "identity"

    def shown(self, system: str) -> Values:
        """The numbers of a system as they are printed for one sample."""
        values = self.values[system]
        if self.link == "identity":
            return values
        return [None if v is None else _exp(v) for v in values]

    def pairs(
        self, chosen: Sequence[int] | None = None, a: str = "base", b: str = "tuned"
    ) -> Pairs:
        """Systems A and B, on the prompts at the positions `chosen` (None: all)."""
        one, other, weights = self.values[a], self.values[b], self.weights
        if chosen is not None:
            one, other = [one[i] for i in chosen], [other[i] for i in chosen]
            weights = weights and [weights[i] for i in chosen]
        return Pairs(one, other, self.metric.direction, self.metric.binary, weights, self.link)


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose numbers a row has, as the table's columns name it."""

    model: str
    task: str
    recipe: str
    seed: int | str
    run: str


def clusters_of(groups: Sequence[str]) -> list[Hashable] | None:
    """Labels for what is drawn together: samples of one group, each other sample for itself.

    None where no group has two members: samples are then the units.
    """
    sizes = Counter(group for group in groups if group)
    if not any(size > 1 for size in sizes.values()):
        return None
    return [("group", group) if group else ("sample", at) for at, group in enumerate(groups)]


def score_columns(
    metrics: Iterable[Metric], scores: Mapping[str, Sequence[Mapping[str, float | None]]]
) -> list[Column]:
    """A column a metric from the scores of each system, a mapping a prompt."""
    return [
        Column(metric, {s: [row.get(metric.name) for row in rows] for s, rows in scores.items()})
        for metric in metrics
    ]


def loss_columns(
    losses: Mapping[str, Mapping[str, ReferenceLikelihood]], ids: Sequence[str]
) -> list[Column]:
    """Cross-entropy and its kin, weighted by tokens (or bytes): the figure is the corpus'.

    losses: of each system, by prompt. perplexity is exp of the corpus' cross-entropy. Where systems
    count a reference's tokens differently (two tokenizers) a number a token compares nothing:
    bits_per_byte alone is left.
    """
    first = next(iter(losses.values()))
    same = all(
        first[i].tokens == other[i].tokens
        for other in losses.values()
        for i in ids
        if i in first and i in other
    )
    columns = []
    for loss in LIKELIHOOD_METRICS:
        if loss.by_token and not same:
            continue
        values: dict[str, Values] = {
            system: [
                loss.value(found[i]) if i in found and loss.weight(found[i]) else None for i in ids
            ]
            for system, found in losses.items()
        }
        weights = [float(loss.weight(first[i])) if i in first else 0.0 for i in ids]
        columns.append(Column(loss.metric, values, weights, loss.link))
    return columns


def comparison_rows(
    columns: Sequence[Column], origin: Origin, clusters: Sequence[Hashable] | None
) -> list[ComparisonRow]:
    """A row a column, p-values adjusted by Holm over all of them."""
    compared = compare_many([column.pairs() for column in columns], clusters=clusters)
    return _rows(columns, compared, origin)


def combined_rows(
    seeds: Sequence[Sequence[Column]], origin: Origin, clusters: Sequence[Hashable] | None
) -> list[ComparisonRow]:
    """Rows over several seeds of one recipe (see harness.statistics.seeds), `origin.seed` "all".

    seeds: the columns of each, of the same metrics on the same prompts.
    """
    compared = [
        combine([column.pairs() for column in same], clusters=clusters)
        for same in zip(*seeds, strict=True)
    ]
    origin = Origin(origin.model, origin.task, origin.recipe, ALL_SEEDS, origin.run)
    return _rows(seeds[0], compared, origin)


def system_rows(
    columns: Sequence[Column],
    systems: Sequence[str],
    origin: Origin,
    clusters: Sequence[Hashable] | None,
) -> list[SystemRow]:
    """A row a system and metric: its mean, and its difference to A and to B; p not adjusted."""
    rows = []
    for system in systems:
        own = [column for column in columns if system in column.values]
        means = describe_many(
            [column.values[system] for column in own],
            weights=[column.weights for column in own],
            links=[column.link for column in own],
            clusters=clusters,
        )
        to_a, to_b = (
            compare_many([column.pairs(a=other, b=system) for column in own], clusters=clusters)
            if own and other != system
            else [None] * len(own)
            for other in ("base", "tuned")
        )
        for column, found, a, b in zip(own, means, to_a, to_b, strict=True):
            rows.append(
                SystemRow(
                    model=origin.model,
                    task=origin.task,
                    recipe=origin.recipe,
                    seed=origin.seed,
                    system=system,
                    metric=column.metric.name,
                    direction=column.metric.direction,
                    n=found.n,
                    unscored=len(column.values[system]) - found.n,
                    mean=found.mean,
                    ci_low=found.ci_low,
                    ci_high=found.ci_high,
                    to_base=None if a is None else a.delta,
                    to_base_ci_low=None if a is None else a.ci_low,
                    to_base_ci_high=None if a is None else a.ci_high,
                    to_base_p_value=None if a is None else a.p_value,
                    to_tuned=None if b is None else b.delta,
                    to_tuned_ci_low=None if b is None else b.ci_low,
                    to_tuned_ci_high=None if b is None else b.ci_high,
                    to_tuned_p_value=None if b is None else b.p_value,
                    signature=str(column.metric.signature),
                    run=origin.run,
                )
            )
    return rows


def kind_rows(
    columns: Sequence[Column], kinds: Sequence[str], clusters: Sequence[Hashable] | None
) -> list[KindRow]:
    """The same by kind of prompt, where there are two kinds or more; p-values not adjusted."""
    names = sorted(set(kinds) - {""})
    rows = []
    for kind in names if len(names) > 1 else ():
        chosen = [i for i, name in enumerate(kinds) if name == kind]
        labels = None if clusters is None else [clusters[i] for i in chosen]
        compared = compare_many([c.pairs(chosen) for c in columns], clusters=labels)
        for column, found in zip(columns, compared, strict=True):
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


def _exp(value: float) -> float | None:
    return math.exp(value) if value < 700 else None  # a float ends at exp(709)


def _rows(
    columns: Sequence[Column], compared: Sequence[Comparison], origin: Origin
) -> list[ComparisonRow]:
    adjusted = holm([found.p_value for found in compared])
    return [
        ComparisonRow(
            model=origin.model,
            task=origin.task,
            recipe=origin.recipe,
            seed=origin.seed,
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
            reference=mean(column.values.get("reference", [])),
            nearest=mean(column.values.get("nearest", [])),
            signature=str(column.metric.signature),
            run=origin.run,
            reference_as_given=mean(column.values.get("reference_as_given", [])),
        )
        for column, found, p_adjusted in zip(columns, compared, adjusted, strict=True)
    ]
