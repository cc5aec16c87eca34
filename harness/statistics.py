"""Paired comparison of two arms: interval, p-value, wins. numpy only, seeded.

Numbers do not depend on the order of the samples: sums are exact (math.fsum), and units are
sorted before anything is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.records import Direction

_Floats = NDArray[np.float64]

CONFIDENCE = 0.95
EXACT_UP_TO = 12  # units that differ: so few have all their sign flips counted
_CHUNK = 4_000_000  # numbers drawn at once: 32 MB, and two arrays more of that size


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tuned against base on the pairs that both arms have a number for.

    n:            how many such pairs there are.
    base, tuned:  (weighted) means; delta = tuned - base. None where n is 0.
    ci_low, ci_high: 95 % interval of delta; None where there are fewer than two units.
    p_value:      two-sided, of "the arms are exchangeable"; None where n is 0.
    wins, ties, losses: pairs on which tuned is better, equal, worse, by the direction.
    """

    n: int
    base: float | None
    tuned: float | None
    delta: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    wins: int
    ties: int
    losses: int


def compare(
    base: Sequence[float | None],
    tuned: Sequence[float | None],
    *,
    direction: Direction,
    binary: bool = False,
    weights: Sequence[float] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    clusters: Sequence[Hashable] | None = None,
) -> Comparison:
    """Compare two arms over the same samples, position by position.

    base, tuned: one number a sample; a pair with None on either side is dropped.
    binary:      numbers are 0 or 1; the p-value is McNemar's exact one (not with clusters).
    weights:     positive, one a sample; the mean is sum(w*v)/sum(w). For cross-entropy v is
                 nats a token and w tokens.
    clusters:    one label a sample; what has one label is drawn, and flips, together.

    Interval: paired percentile bootstrap over units (samples, or clusters), `resamples` of
    them; a weighted mean is computed anew from the weights drawn (Efron & Tibshirani 1993).
    It is a little too short for fewer than about 20 units, as all of its kind are.
    p-value: sign flips of the units' weighted differences; all of them where at most
    EXACT_UP_TO units differ, else `resamples` drawn ones and (k + 1) / (m + 1) (Phipson &
    Smyth 2010). Raises ValueError on lengths that differ, on a number that is not finite,
    on a weight that is not positive, on a binary value other than 0 and 1.
    """
    pairs = _pairs(base, tuned, weights, clusters)
    if binary and any(v not in (0.0, 1.0) for b, t, _, _ in pairs for v in (b, t)):
        raise ValueError("a yes/no measure has only 0 and 1")
    better = [t - b if direction == "higher" else b - t for b, t, _, _ in pairs]
    wins = sum(d > 0 for d in better)
    losses = sum(d < 0 for d in better)
    if not pairs:
        return Comparison(0, None, None, None, None, None, None, 0, 0, 0)

    total = math.fsum(w for _, _, w, _ in pairs)
    mean_base = math.fsum(w * b for b, _, w, _ in pairs) / total
    mean_tuned = math.fsum(w * t for _, t, w, _ in pairs) / total
    difference, weight = _units(pairs)
    interval: tuple[float, float] | tuple[None, None] = (None, None)
    if len(difference) > 1:
        interval = _bootstrap(difference, weight, resamples, np.random.default_rng([seed, 0]))
    if binary and clusters is None and weights is None:
        p_value = mcnemar(wins, losses)
    else:
        p_value = _sign_flip(difference, resamples, np.random.default_rng([seed, 1]))
    return Comparison(
        n=len(pairs),
        base=mean_base,
        tuned=mean_tuned,
        delta=mean_tuned - mean_base,
        ci_low=interval[0],
        ci_high=interval[1],
        p_value=p_value,
        wins=wins,
        ties=len(pairs) - wins - losses,
        losses=losses,
    )


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


_Pair = tuple[float, float, float, Hashable]  # base, tuned, weight, cluster


def _pairs(
    base: Sequence[float | None],
    tuned: Sequence[float | None],
    weights: Sequence[float] | None,
    clusters: Sequence[Hashable] | None,
) -> list[_Pair]:
    weights = [1.0] * len(base) if weights is None else weights
    clusters = range(len(base)) if clusters is None else clusters
    pairs: list[_Pair] = []
    for b, t, w, c in zip(base, tuned, weights, clusters, strict=True):
        if b is None or t is None:
            continue
        if not (math.isfinite(b) and math.isfinite(t)):
            raise ValueError(f"a score is not finite: {b}, {t}")
        if not (math.isfinite(w) and w > 0):
            raise ValueError(f"a weight is not positive: {w}")
        pairs.append((float(b), float(t), float(w), c))
    return pairs


def _units(pairs: Sequence[_Pair]) -> tuple[_Floats, _Floats]:
    """Sums of w*(tuned - base) and of w of each unit, sorted by both."""
    members: dict[Hashable, list[_Pair]] = {}
    for pair in pairs:
        members.setdefault(pair[3], []).append(pair)
    sums = sorted(
        (math.fsum(w * (t - b) for b, t, w, _ in unit), math.fsum(w for _, _, w, _ in unit))
        for unit in members.values()
    )
    both = np.array(sums, dtype=np.float64)
    return both[:, 0], both[:, 1]


def _chunks(rows: int, columns: int) -> Iterator[int]:
    """Numbers of rows, `rows` in all, so that no chunk has over _CHUNK numbers or so."""
    size = max(1, _CHUNK // columns)
    for start in range(0, rows, size):
        yield min(size, rows - start)


def _bootstrap(
    difference: _Floats, weight: _Floats, resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    units = len(difference)
    if not difference.any():
        return 0.0, 0.0
    alike = bool((weight == weight[0]).all())
    deltas: list[_Floats] = []
    for rows in _chunks(resamples, units):
        drawn = rng.integers(0, units, size=(rows, units), dtype=np.int32)
        total = weight[0] * units if alike else weight[drawn].sum(axis=1)
        deltas.append(difference[drawn].sum(axis=1) / total)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(deltas), [tail, 1 - tail])
    return float(low), float(high)


def _sign_flip(difference: _Floats, resamples: int, rng: np.random.Generator) -> float:
    differing = difference[difference != 0]  # a zero is the same either way up
    units = len(differing)
    if units == 0:
        return 1.0
    # Sums that are equal but for rounding count as equal: the observed one itself is drawn.
    bound = abs(float(differing.sum())) - 1e-12 * float(np.abs(differing).sum())
    if units <= EXACT_UP_TO:
        flips = (np.arange(1 << units)[:, None] >> np.arange(units)) & 1
        return _as_extreme(flips, differing, bound) / (1 << units)
    extreme = sum(
        _as_extreme(rng.integers(0, 2, size=(rows, units), dtype=np.int8), differing, bound)
        for rows in _chunks(resamples, units)
    )
    return (extreme + 1) / (resamples + 1)


def _as_extreme(flips: NDArray[np.integer], differing: _Floats, bound: float) -> int:
    """How many rows of flips (0 or 1, a column a unit) give a sum as far from 0 as `bound`."""
    sums = (1.0 - 2.0 * flips) @ differing
    return int((np.abs(sums) >= bound).sum())
