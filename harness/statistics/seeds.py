"""Several trainings of one recipe, by seed, as one comparison: the interval covers both the prompts
that were asked and the seeds that were trained.

Prompts and seeds are crossed (every seed answers every prompt) and both are random effects. With
m units of prompts and S seeds the variance of the mean difference is estimated as
(MS_units + MS_seeds - MS_rest) / (S m), its degrees of freedom by Satterthwaite (1946), and the
interval is Student's. A bootstrap over two to five seeds would be much too short.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from harness.statistics.paired import (
    CONFIDENCE,
    RESAMPLES,
    Comparison,
    Pairs,
    Units,
    compare_many,
    units_by_cluster,
)


def combine(
    seeds: Sequence[Pairs],
    *,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
) -> Comparison:
    """One measure over several seeds, each with both systems on the same prompts in the same order.

    A prompt is kept where all seeds have both numbers. base, tuned and delta are means over the
    seeds; a prompt is won where tuned is better on average over them. p_value is the larger of
    Student's, from the same standard error as the interval, and that of the sign flips of the
    prompts' averages, for Student's is too sure of a few prompts that all differ alike. None,
    with the interval, below two units. Raises ValueError with fewer than two seeds.
    """
    if len(seeds) < 2:
        raise ValueError("to combine seeds takes at least two")
    whole = [
        all(s.base[i] is not None and s.tuned[i] is not None for s in seeds)
        for i in range(len(seeds[0].base))
    ]
    kept = [_restricted(pairs, whole) for pairs in seeds]
    units = [units_by_cluster(pairs, clusters) for pairs in kept]
    if not len(units[0]):
        return Comparison(0, None, None, None, None, None, None, None, 0, 0, 0)
    means = [u.means() for u in units]
    base, tuned = (math.fsum(system) / len(seeds) for system in zip(*means, strict=True))
    flipped = compare_many([_averaged(kept)], clusters=clusters, resamples=resamples)[0]
    error, freedom = _standard_error(units)
    low = high = p_value = None
    delta = tuned - base
    if error is not None and flipped.p_value is not None:
        reach = student_quantile((1 + CONFIDENCE) / 2, freedom) * error
        low, high = delta - reach, delta + reach
        student = student_two_sided(delta / error, freedom) if error > 0 else 0.0
        p_value = max(student, flipped.p_value)
    return Comparison(
        n=flipped.n,
        base=base,
        tuned=tuned,
        delta=delta,
        standard_error=error,
        ci_low=low,
        ci_high=high,
        p_value=p_value,
        wins=flipped.wins,
        ties=flipped.ties,
        losses=flipped.losses,
    )


def student_two_sided(t: float, freedom: float) -> float:
    """P(|T| >= |t|) of Student's distribution: I_x(f/2, 1/2) at x = f / (f + t^2)
    (NIST DLMF 8.17; Abramowitz & Stegun 26.7.1)."""
    return _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def student_quantile(p: float, freedom: float) -> float:
    """The t >= 0 that Student's T stays below with probability `p`, for 1/2 <= p < 1."""
    tail = 2 * (1 - p)
    low, high = 0.0, 1.0
    while student_two_sided(high, freedom) > tail:
        low, high = high, 2 * high
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if student_two_sided(middle, freedom) > tail:
            low = middle
        else:
            high = middle
    return high


def _standard_error(seeds: Sequence[Units]) -> tuple[float | None, float]:
    """Of the mean over seeds of the difference, and its degrees of freedom; None below two units.

    Each seed's units enter by their influence on its figure, the first order of the ratio.
    """
    count, units = len(seeds), len(seeds[0])
    if units < 2:
        return None, 0.0
    rows = []
    for seed in seeds:
        base, tuned = seed.means()
        rows.append(seed.influence() * units / math.fsum(seed.weight) + (tuned - base))
    table = np.array(rows)  # [seeds, units]; the mean of a row is the seed's difference
    centre = table.mean()
    by_unit, by_seed = table.mean(axis=0) - centre, table.mean(axis=1) - centre
    rest = table - centre - by_unit[None, :] - by_seed[:, None]
    f_unit, f_seed = units - 1, count - 1
    ms_unit = count * float((by_unit**2).sum()) / f_unit
    ms_seed = units * float((by_seed**2).sum()) / f_seed
    ms_rest = float((rest**2).sum()) / (f_unit * f_seed)
    if ms_seed <= ms_rest:  # the seeds differ no more than chance among prompts makes them
        return math.sqrt(ms_unit / (count * units)), float(f_unit)
    total = ms_unit + ms_seed - ms_rest
    freedom = total**2 / (
        ms_unit**2 / f_unit + ms_seed**2 / f_seed + ms_rest**2 / (f_unit * f_seed)
    )
    return math.sqrt(total / (count * units)), freedom


def _restricted(pairs: Pairs, keep: Sequence[bool]) -> Pairs:
    base = [v if k else None for v, k in zip(pairs.base, keep, strict=True)]
    tuned = [v if k else None for v, k in zip(pairs.tuned, keep, strict=True)]
    return Pairs(base, tuned, pairs.direction, False, pairs.weights, pairs.link)


def _averaged(seeds: Sequence[Pairs]) -> Pairs:
    """Both systems of each prompt, averaged over the seeds."""
    first = seeds[0]
    base, tuned = (
        [
            None if None in same else math.fsum(same) / len(seeds)
            for same in zip(*(getattr(pairs, system) for pairs in seeds), strict=True)
        ]
        for system in ("base", "tuned")
    )
    return Pairs(base, tuned, first.direction, False, first.weights, first.link)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised I_x(a, b), by its continued fraction (DLMF 8.17.22, Lentz's method)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    fraction = d
    for m in range(1, 10_000):
        for top in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + top * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + top / c
            c = c if abs(c) > tiny else tiny
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return front * fraction / a
