"""Several seeds combined: Student's distribution against scipy, the variance by hand, coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.statistics.paired import Pairs, compare
from harness.statistics.seeds import combine, student_quantile, student_two_sided


@pytest.mark.parametrize("freedom", [1.0, 1.3, 2.0, 3.7, 10.0, 63.0, 1e3, 1e5])
def test_student_is_scipys(freedom: float) -> None:
    for t in (0.0, 0.001, 0.5, 1.0, 2.7, 12.0, 100.0):
        assert student_two_sided(t, freedom) == pytest.approx(
            2 * stats.t.sf(t, freedom), rel=1e-7, abs=1e-12
        )
    for p in (0.5, 0.9, 0.975, 0.999):
        assert student_quantile(p, freedom) == pytest.approx(
            stats.t.ppf(p, freedom), rel=1e-9, abs=1e-9
        )


def pairs(differences: np.ndarray) -> list[Pairs]:
    """A measure of each seed from [seeds, prompts] of differences to a base of 0."""
    return [Pairs([0.0] * len(row), [float(d) for d in row], "higher") for row in differences]


def test_by_hand() -> None:
    # Seed effects -1 and +1 about 3, prompt effects -1, 0, +1, nothing else: MS_rest = 0,
    # MS_seeds = 3 * 2 / 1 = 6, MS_prompts = 2 * 2 / 2 = 2; (2 + 6 - 0) / 6 = 4 / 3.
    c = combine(pairs(np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])))
    assert (c.n, c.base, c.tuned, c.delta) == (3, 0.0, 3.0, 3.0)
    assert c.standard_error == pytest.approx((4 / 3) ** 0.5)
    freedom = 8**2 / (2**2 / 2 + 6**2 / 1)
    reach = stats.t.ppf(0.975, freedom) * (4 / 3) ** 0.5
    assert (c.ci_low, c.ci_high) == (pytest.approx(3 - reach), pytest.approx(3 + reach))
    # Student's p is 0.17; of the 8 sign flips of 2, 3, 4 two are as extreme.
    assert 2 * stats.t.sf(3 / (4 / 3) ** 0.5, freedom) < 0.25
    assert c.p_value == 0.25
    assert (c.wins, c.ties, c.losses) == (3, 0, 0)


def test_equal_seeds_are_one_seed() -> None:
    rng = np.random.default_rng(0)
    row = rng.normal(0.2, 1.0, size=80)
    c = combine(pairs(np.stack([row, row, row])))
    one = compare([0.0] * 80, list(row), direction="higher")
    assert c.delta == pytest.approx(one.delta)
    assert c.standard_error == pytest.approx(one.standard_error)
    student = stats.ttest_1samp(row, 0).pvalue
    assert c.p_value == pytest.approx(max(student, one.p_value or 0), rel=1e-6)


def test_students_p() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(1.0, 0.5, (2, 1)) + rng.normal(0, 0.1, (2, 40))
    c = combine(pairs(rows))  # the seeds differ far more than the prompts
    assert c.p_value is not None
    assert c.p_value > 0.05 > (compare([0.0] * 40, list(rows[0]), direction="higher").p_value or 1)
    alike = combine(pairs(np.ones((3, 6))))  # no spread at all: the six prompts speak
    assert (alike.ci_low, alike.ci_high, alike.p_value) == (1.0, 1.0, 2 / 64)


def test_nothing_differs() -> None:
    c = combine(pairs(np.zeros((3, 10))))
    assert (c.delta, c.ci_low, c.ci_high, c.p_value, c.ties) == (0.0, 0.0, 0.0, 1.0, 10)


def test_unscored_in_one_seed_is_left_out_of_all() -> None:
    first = Pairs([0.0, 0.0, 0.0, None], [1.0, 2.0, 4.0, 9.0], "lower")
    second = Pairs([0.0, 0.0, 0.0, 1.0], [2.0, None, 4.0, 9.0], "lower")
    c = combine([first, second])
    assert (c.n, c.tuned, c.losses) == (2, 2.75, 2)
    assert combine([Pairs([None], [1.0], "lower"), second.__class__([1.0], [1.0], "lower")]).n == 0
    alone = combine([Pairs([0.0], [1.0], "lower"), Pairs([0.0], [2.0], "lower")])
    assert (alone.n, alone.standard_error, alone.ci_low, alone.p_value) == (1, None, None, None)
    with pytest.raises(ValueError, match="at least two"):
        combine([first])


def test_weights_and_clusters() -> None:
    rng = np.random.default_rng(1)
    weights = [float(w) for w in rng.integers(1, 9, size=60)]
    rows = rng.normal(1.0, 1.0, size=(2, 60))
    seeds = [Pairs([0.0] * 60, list(row), "higher", weights=weights) for row in rows]
    c = combine(seeds)
    assert c.delta == pytest.approx(np.mean([np.average(row, weights=weights) for row in rows]))
    doubled = [Pairs(p.base * 2, [*p.tuned, *p.tuned], "higher") for p in pairs(rows)]  # type: ignore[operator]
    assert combine(doubled, clusters=[*range(60)] * 2).standard_error == pytest.approx(
        combine(pairs(rows)).standard_error
    )


@pytest.mark.parametrize(
    ("seeds", "spread"),
    [(2, 0.3), *(pytest.param(*p, marks=pytest.mark.slow) for p in ((3, 0.0), (3, 0.3), (5, 0.2)))],
)
def test_interval_covers_prompts_and_seeds(seeds: int, spread: float) -> None:
    rng = np.random.default_rng(2)
    rounds, covered, naive = 500, 0, 0
    for _ in range(rounds):
        effects = rng.normal(0, spread, (seeds, 1)) + rng.normal(0, 1, (1, 60))
        table = effects + rng.normal(0, 1, (seeds, 60))
        c = combine(pairs(table), resamples=10)
        assert c.ci_low is not None
        assert c.ci_high is not None
        covered += c.ci_low <= 0 <= c.ci_high
        mean = table.mean(axis=0)
        naive += abs(mean.mean()) <= stats.t.ppf(0.975, 59) * mean.std(ddof=1) / 60**0.5
    # Binomial(500, .95) has a standard deviation of 1 in a hundred.
    assert 0.90 < covered / rounds <= 1.0
    if spread:  # an interval over prompts alone is too short
        assert covered > naive + 0.02 * rounds
