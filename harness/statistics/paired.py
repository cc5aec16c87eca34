"""Means with intervals, and the paired comparison of two systems. numpy only, seeded.

Numbers do not depend on the order of the samples: sums are exact (math.fsum), and units are
sorted before anything is drawn. Columns with as many units share their draws, so that a table of
forty metrics costs hardly more than one. What is drawn is multiplied by BLAS, whose last bits
differ between machines: results are rounded to twelve digits.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.host.signals import check
from harness.records import Direction

Link = Literal["identity", "exp"]
_Floats = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 10_000
EXACT_UP_TO = 12  # units that differ: so few have all their sign flips counted
_CHUNK = 4_000_000  # numbers drawn at once: 32 MB, and two arrays more of that size


@dataclass(frozen=True, slots=True)
class Summary:
    """The (weighted) mean of the samples that have a number.

    n:              how many have one. mean: None where n is 0.
    standard_error: of the mean, analytic: sd / sqrt(n) with the sample's sd; with weights or
                    clusters the linearised ratio's (Cochran 1977, 6.4). None below two units.
    ci_low, ci_high: 95 % interval, percentile bootstrap over units; None below two units.
    """

    n: int
    mean: float | None
    standard_error: float | None
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tuned against base on the pairs that both systems have a number for.

    n:            how many such pairs there are.
    base, tuned:  (weighted) means; delta = tuned - base. None where n is 0.
    standard_error: of delta, as Summary has it. None below two units.
    ci_low, ci_high: 95 % interval of delta; None where there are fewer than two units.
    p_value:      two-sided, of "the systems are exchangeable"; None where n is 0.
    wins, ties, losses: pairs on which tuned is better, equal, worse, by the direction.
    """

    n: int
    base: float | None
    tuned: float | None
    delta: float | None
    standard_error: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True, slots=True)
class Pairs:
    """One measure of both systems, a number a sample, position by position.

    base, tuned: a pair with None on either side is dropped.
    binary:      numbers are 0 or 1; the p-value is McNemar's exact one (where no cluster has
                 several samples).
    weights:     positive, one a sample; the mean is sum(w*v)/sum(w). For cross-entropy v is
                 nats a token and w tokens.
    link:        "exp": what is reported is exp of the mean (perplexity, v being nats); the test
                 is that of the mean itself, and wins are of v.
    """

    base: Sequence[float | None]
    tuned: Sequence[float | None]
    direction: Direction
    binary: bool = False
    weights: Sequence[float] | None = None
    link: Link = "identity"


def compare(
    base: Sequence[float | None],
    tuned: Sequence[float | None],
    *,
    direction: Direction,
    binary: bool = False,
    weights: Sequence[float] | None = None,
    link: Link = "identity",
    resamples: int = RESAMPLES,
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
) -> Comparison:
    """`compare_many` of one measure; see Pairs for its arguments."""
    pairs = Pairs(base, tuned, direction, binary, weights, link)
    return compare_many([pairs], resamples=resamples, seed=seed, clusters=clusters)[0]


def compare_many(
    measures: Sequence[Pairs],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
) -> list[Comparison]:
    """Compare two systems over the same samples, measure by measure.

    clusters: one label a sample; what has one label is drawn, and flips, together.

    Interval: paired percentile bootstrap over units (samples, or clusters), `resamples` of
    them; a weighted mean is computed anew from the weights drawn (Efron & Tibshirani 1993).
    It is a little too short for fewer than about 20 units, as all of its kind are.
    p-value: sign flips of the units' weighted differences; all of them where at most
    EXACT_UP_TO units differ, else `resamples` drawn ones and (k + 1) / (m + 1) (Phipson &
    Smyth 2010). A measure's result is the same whatever measures stand beside it.
    Raises ValueError on lengths that differ, on a number that is not finite,
    on a weight that is not positive, on a binary value other than 0 and 1.
    """
    kept = [_Kept.of(measure, clusters) for measure in measures]
    intervals = _intervals([k.units for k in kept], resamples, seed)
    flips = _sign_flips([k.units.difference for k in kept], resamples, seed)
    return [
        _comparison(k, low, high, p)
        for k, (low, high), p in zip(kept, intervals, flips, strict=True)
    ]


def describe(
    values: Sequence[float | None],
    *,
    weights: Sequence[float] | None = None,
    link: Link = "identity",
    clusters: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Summary:
    """The mean of the values that are not None, with its standard error and interval.

    Raises ValueError as `compare_many` does.
    """
    return describe_many(
        [values],
        weights=[weights],
        links=[link],
        clusters=clusters,
        resamples=resamples,
        seed=seed,
    )[0]


def describe_many(
    columns: Sequence[Sequence[float | None]],
    *,
    weights: Sequence[Sequence[float] | None] | None = None,
    links: Sequence[Link] | None = None,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Summary]:
    """`describe` of each column; all have the same samples, and share their draws."""
    weights = [None] * len(columns) if weights is None else weights
    links = ["identity"] * len(columns) if links is None else links
    # A mean is the difference to a system that has 0 everywhere (and, under exp, is not there).
    kept = [
        _Kept.of(
            Pairs([None if v is None else 0.0 for v in c], c, "higher", weights=w, link=link),
            clusters,
            alone=True,
        )
        for c, w, link in zip(columns, weights, links, strict=True)
    ]
    intervals = _intervals([k.units for k in kept], resamples, seed)
    return [
        Summary(k.n, k.units.means()[1] if k.n else None, k.units.standard_error(), low, high)
        for k, (low, high) in zip(kept, intervals, strict=True)
    ]


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided p-value of McNemar's test: Binomial(wins + losses, 1/2), doubled tail."""
    n, k = wins + losses, min(wins, losses)
    tail = term = 1
    for i in range(1, k + 1):
        term = term * (n - i + 1) // i  # n choose i
        tail += term
    return min(1.0, 2 * tail / (1 << n))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values (Holm 1979), in the order given.

    None stays None and does not count among the tests.
    """
    order = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, at) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[at] = highest
    return adjusted


def mean(values: Sequence[float | None], weights: Sequence[float] | None = None) -> float | None:
    """sum(w*v)/sum(w) over the values that are not None; None where there is none."""
    if weights is None:
        weights = [1.0] * len(values)
    pairs = [(v, w) for v, w in zip(values, weights, strict=True) if v is not None]
    if not pairs:
        return None
    return math.fsum(w * v for v, w in pairs) / math.fsum(w for _, w in pairs)


# --- samples and units -----------------------------------------------------------------------

_Sample = tuple[float, float, float, Hashable]  # base, tuned, weight, cluster


@dataclass(frozen=True, slots=True)
class Units:
    """What is drawn together (samples, or clusters): sums of w*base, w*tuned and w, sorted.

    alone: there is no base; under the link exp its mean is then no term of the difference.
    """

    base: _Floats
    tuned: _Floats
    weight: _Floats
    link: Link
    alone: bool = False

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def difference(self) -> _Floats:
        """Of each unit, sum of w*(tuned - base)."""
        return self.tuned - self.base

    def means(self) -> tuple[float, float]:
        """The figures of base and tuned: the (weighted) means, or exp of them. Not for no unit."""
        total = math.fsum(self.weight)
        base, tuned = math.fsum(self.base) / total, math.fsum(self.tuned) / total
        return (math.exp(base), math.exp(tuned)) if self.link == "exp" else (base, tuned)

    def influence(self) -> _Floats:
        """Of each unit, how much it moves the difference of the figures, times the sum of w.

        The first-order term of the ratio sum(w*v)/sum(w), and of exp where that is the link.
        """
        total = math.fsum(self.weight)
        parts = []
        for sums in (self.tuned, self.base):
            centre = math.fsum(sums) / total
            slope = math.exp(centre) if self.link == "exp" else 1.0
            parts.append(slope * (sums - centre * self.weight))
        tuned, base = parts
        return tuned if self.alone else tuned - base

    def standard_error(self) -> float | None:
        """Of the difference of the figures; None below two units."""
        count = len(self)
        if count < 2:
            return None
        squares = math.fsum(self.influence() ** 2)
        return _rounded(math.sqrt(squares * count / (count - 1)) / math.fsum(self.weight))


@dataclass(frozen=True, slots=True)
class _Kept:
    """The pairs of a measure that both systems have, counted, and their units."""

    units: Units
    n: int
    wins: int
    losses: int
    exact: bool  # McNemar's test applies

    @classmethod
    def of(cls, measure: Pairs, clusters: Sequence[Hashable] | None, alone: bool = False) -> _Kept:
        samples = _samples(measure, clusters)
        if measure.binary and any(v not in (0.0, 1.0) for b, t, _, _ in samples for v in (b, t)):
            raise ValueError("a yes/no measure has only 0 and 1")
        sign = 1.0 if measure.direction == "higher" else -1.0
        better = [sign * (t - b) for b, t, _, _ in samples]
        units = _gathered(samples, measure.link, alone)
        exact = measure.binary and measure.weights is None and len(units) == len(samples)
        wins, losses = sum(d > 0 for d in better), sum(d < 0 for d in better)
        return cls(units, len(samples), wins, losses, exact)


def _gathered(
    samples: Sequence[_Sample], link: Link, alone: bool = False, in_order: bool = False
) -> Units:
    """The units of samples, in an order of their values unless `in_order` of coming."""
    members: dict[Hashable, list[_Sample]] = {}
    for sample in samples:
        members.setdefault(sample[3], []).append(sample)
    sums = [
        (
            math.fsum(w * t - w * b for b, t, w, _ in unit),
            math.fsum(w for _, _, w, _ in unit),
            math.fsum(w * b for b, _, w, _ in unit),
            math.fsum(w * t for _, t, w, _ in unit),
        )
        for unit in members.values()
    ]
    table = np.array(sums if in_order else sorted(sums), dtype=np.float64).reshape(-1, 4)
    return Units(table[:, 2], table[:, 3], table[:, 1], link, alone)


def units_by_cluster(measure: Pairs, clusters: Sequence[Hashable] | None) -> Units:
    """The units of a measure in the order in which its clusters (or samples) come."""
    return _gathered(_samples(measure, clusters), measure.link, False, in_order=True)


def _samples(measure: Pairs, clusters: Sequence[Hashable] | None) -> list[_Sample]:
    weights = [1.0] * len(measure.base) if measure.weights is None else measure.weights
    clusters = range(len(measure.base)) if clusters is None else clusters
    samples: list[_Sample] = []
    for b, t, w, c in zip(measure.base, measure.tuned, weights, clusters, strict=True):
        if b is None or t is None:
            continue
        if not (math.isfinite(b) and math.isfinite(t)):
            raise ValueError(f"a score is not finite: {b}, {t}")
        if not (math.isfinite(w) and w > 0):
            raise ValueError(f"a weight is not positive: {w}")
        samples.append((float(b), float(t), float(w), c))
    return samples


def _comparison(kept: _Kept, low: float | None, high: float | None, flip: float) -> Comparison:
    units = kept.units
    if not kept.n:
        return Comparison(0, None, None, None, None, None, None, None, 0, 0, 0)
    base, tuned = units.means()
    return Comparison(
        n=kept.n,
        base=base,
        tuned=tuned,
        delta=tuned - base,
        standard_error=units.standard_error(),
        ci_low=low,
        ci_high=high,
        p_value=mcnemar(kept.wins, kept.losses) if kept.exact else flip,
        wins=kept.wins,
        ties=kept.n - kept.wins - kept.losses,
        losses=kept.losses,
    )


# --- bootstrap -------------------------------------------------------------------------------


def _intervals(
    columns: Sequence[Units], resamples: int, seed: int
) -> list[tuple[float, float] | tuple[None, None]]:
    """95 % percentile intervals; columns of as many units are drawn for together."""
    found: list[tuple[float, float] | tuple[None, None]] = [(None, None)] * len(columns)
    tail = (1 - CONFIDENCE) / 2
    for count in sorted({len(units) for units in columns if len(units) > 1}):
        chosen = [at for at, units in enumerate(columns) if len(units) == count]
        drawn = bootstrap([columns[at] for at in chosen], resamples, seed)
        for at, row in zip(chosen, np.quantile(drawn, [tail, 1 - tail], axis=0).T, strict=True):
            found[at] = (_rounded(row[0]), _rounded(row[1]))
    return found


def bootstrap(columns: Sequence[Units], resamples: int, seed: int) -> _Floats:
    """[resamples, columns] differences of the figures, each over units drawn with replacement.

    columns: all of the same number of units.
    """
    count = len(columns[0])
    rng = np.random.default_rng([seed, 0])
    base = np.stack([units.base for units in columns], axis=1)
    tuned = np.stack([units.tuned for units in columns], axis=1)
    weight = np.stack([units.weight for units in columns], axis=1)
    linear = np.array([units.link == "identity" for units in columns])
    alone = np.array([units.alone for units in columns])
    alike = bool((weight == weight[0]).all())
    deltas: list[_Floats] = []
    for rows in _chunks(resamples, count):
        times = _times_drawn(rng, rows, count)
        total = weight[0] * count if alike else times @ weight
        delta = times @ (tuned - base) / total
        if not linear.all():
            curved = ~linear
            under = total[curved] if alike else total[:, curved]
            exp_tuned = np.exp(times @ tuned[:, curved] / under)
            exp_base = np.exp(times @ base[:, curved] / under)
            delta[:, curved] = exp_tuned - np.where(alone[curved], 0.0, exp_base)
        deltas.append(delta)
    return np.concatenate(deltas)


def _times_drawn(rng: np.random.Generator, rows: int, count: int) -> _Floats:
    """[rows, count]: how often each of `count` units is among `count` drawn ones, row by row."""
    drawn = rng.integers(0, count, size=(rows, count), dtype=np.int32)
    drawn += np.arange(0, rows * count, count, dtype=np.int32)[:, None]
    times = np.bincount(drawn.ravel(), minlength=rows * count)
    return times.reshape(rows, count).astype(np.float64)


def _chunks(rows: int, columns: int) -> Iterator[int]:
    """Numbers of rows, `rows` in all, so that no chunk has over _CHUNK numbers or so."""
    size = max(1, _CHUNK // columns)
    for start in range(0, rows, size):
        check()
        yield min(size, rows - start)


# --- permutation -----------------------------------------------------------------------------


def _sign_flips(columns: Sequence[_Floats], resamples: int, seed: int) -> list[float]:
    """Two-sided p-values of the sums of differences; columns as long share their flips."""
    found = [1.0] * len(columns)
    many: dict[int, list[int]] = {}
    for at, column in enumerate(columns):
        differing = column[column != 0]
        if len(differing) > EXACT_UP_TO:
            many.setdefault(len(column), []).append(at)
        elif len(differing):
            every = (np.arange(1 << len(differing))[:, None] >> np.arange(len(differing))) & 1
            found[at] = _as_extreme(every, differing[:, None])[0] / (1 << len(differing))
    for count, chosen in sorted(many.items()):
        rng = np.random.default_rng([seed, 1])
        table = np.stack([columns[at] for at in chosen], axis=1)
        hits = [0] * len(chosen)
        for rows in _chunks(resamples, count):
            flips = rng.integers(0, 2, size=(rows, count), dtype=np.int8)
            hits = [a + b for a, b in zip(hits, _as_extreme(flips, table), strict=True)]
        for at, extreme in zip(chosen, hits, strict=True):
            found[at] = (extreme + 1) / (resamples + 1)
    return found


def _as_extreme(flips: NDArray[np.integer], table: _Floats) -> list[int]:
    """For each column, how many rows of flips (0 or 1) give a sum as far from 0 as observed."""
    # Sums that are equal but for rounding count as equal: the observed one itself is drawn.
    bound = np.abs(table.sum(axis=0)) - 1e-12 * np.abs(table).sum(axis=0)
    signs = (1 - 2 * flips).astype(np.float64)
    hits: list[int] = (np.abs(signs @ table) >= bound).sum(axis=0).tolist()
    return hits


def _rounded(value: float) -> float:
    return float(f"{value:.12g}")
