"""Statistics against scipy, against formulas, and by hand."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.statistics.paired import (
    Comparison,
    Link,
    Pairs,
    Summary,
    bootstrap,
    compare,
    compare_many,
    describe,
    holm,
    mcnemar,
    mean,
    units_by_cluster,
)


def test_by_hand() -> None:
    # Pairs: (1,3) better, (2,2) equal, (4,3) worse, (None,1) and (1,None) dropped.
    c = compare([1, 2, 4, None, 1], [3, 2, 3, 1, None], direction="higher")
    assert (c.n, c.wins, c.ties, c.losses) == (3, 1, 1, 1)
    assert c.base == pytest.approx(7 / 3)
    assert c.tuned == pytest.approx(8 / 3)
    assert c.delta == pytest.approx(1 / 3)
    # Differences 2, 0, -1: |sum| of the four sign flips of 2 and 1: 3, 1, 1, 3; all >= 1.
    assert c.p_value == 1.0


def test_lower_direction_changes_wins_only() -> None:
    high = compare([1, 2, 3, 9], [0, 1, 2, 10], direction="higher")
    low = compare([1, 2, 3, 9], [0, 1, 2, 10], direction="lower")
    assert (high.wins, high.losses) == (1, 3)
    assert (low.wins, low.losses) == (3, 1)
    assert (low.delta, low.ci_low, low.p_value) == (high.delta, high.ci_low, high.p_value)


def test_exact_sign_flip_by_hand() -> None:
    # Six differences of 1: only all signs alike are as extreme: 2 of 64.
    assert compare([0.0] * 6, [1.0] * 6, direction="higher").p_value == 2 / 64
    # Equal pairs change nothing.
    c = compare([0.0] * 6 + [5.0] * 50, [1.0] * 6 + [5.0] * 50, direction="higher")
    assert c.p_value == 2 / 64


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (0, Comparison(0, None, None, None, None, None, None, None, 0, 0, 0)),
        (1, Comparison(1, 1.0, 2.0, 1.0, None, None, None, 1.0, 1, 0, 0)),
        (3, Comparison(3, 1.0, 2.0, 1.0, 0.0, 1.0, 1.0, 0.25, 3, 0, 0)),
    ],
)
def test_few_pairs(n: int, expected: Comparison) -> None:
    assert compare([1.0] * n, [2.0] * n, direction="higher") == expected


@pytest.mark.parametrize("binary", [True, False])
def test_equal_arms(binary: bool) -> None:
    c = compare([0, 1] * 20, [0, 1] * 20, direction="higher", binary=binary)
    assert (c.delta, c.ci_low, c.ci_high, c.p_value, c.ties) == (0.0, 0.0, 0.0, 1.0, 40)


@settings(max_examples=80, derandomize=True, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_scipys_binomial_test(wins: int, losses: int) -> None:
    expected = stats.binomtest(wins, wins + losses, 0.5).pvalue if wins + losses else 1.0
    assert mcnemar(wins, losses) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_mcnemar_of_very_many() -> None:
    assert 0.0 <= mcnemar(3000, 5000) < 1e-100


def test_binary_uses_mcnemar_on_the_discordant_pairs() -> None:
    base, tuned = [0] * 19 + [1] * 7 + [1] * 30, [1] * 19 + [0] * 7 + [1] * 30
    c = compare(base, tuned, direction="higher", binary=True)
    assert c.p_value == pytest.approx(stats.binomtest(7, 26, 0.5).pvalue)
    assert (c.wins, c.ties, c.losses) == (19, 30, 7)


def test_exact_sign_flip_is_scipys() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        base, tuned = rng.normal(size=(2, 9))
        theirs = stats.permutation_test(
            (tuned, base),
            lambda a, b, axis: np.mean(a - b, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=np.inf,
        ).pvalue
        ours = compare(list(base), list(tuned), direction="higher").p_value
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_drawn_sign_flips_agree_with_all_of_them() -> None:
    rng = np.random.default_rng(1)
    base, tuned = rng.normal(size=14), rng.normal(0.5, size=14)
    signs = np.array(list(itertools.product((1, -1), repeat=14)))
    d = tuned - base
    exact = float(np.mean(np.abs(signs @ d) >= abs(d.sum()) - 1e-12))
    ours = compare(list(base), list(tuned), direction="higher", resamples=40_000).p_value
    assert ours == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 40_000) ** 0.5)
    assert ours != exact  # drawn, not counted


def test_p_is_never_zero() -> None:
    c = compare([0.0] * 100, [1.0 + i / 100 for i in range(100)], direction="higher", resamples=999)
    assert c.p_value == 1 / 1000


def width(c: Comparison) -> float:
    assert c.ci_low is not None
    assert c.ci_high is not None
    return c.ci_high - c.ci_low


def test_interval_is_as_wide_as_the_analytic_standard_error_says() -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(size=400)
    tuned = base + rng.normal(0.1, 0.5, size=400)
    c = compare(list(base), list(tuned), direction="higher")
    error = float(np.std(tuned - base, ddof=1)) / 20
    assert width(c) / (2 * 1.96) == pytest.approx(error, rel=0.1)
    assert c.ci_low is not None
    assert c.delta is not None
    assert c.delta - c.ci_low == pytest.approx(1.96 * error, rel=0.1)


def test_pairing_narrows_the_interval() -> None:
    rng = np.random.default_rng(3)
    base = rng.normal(0, 10, size=200)
    tuned = base + 0.5 + rng.normal(0, 0.1, size=200)
    c = compare(list(base), list(tuned), direction="higher")
    assert width(c) < 0.1


def test_weighted_mean_and_ratio_bootstrap() -> None:
    rng = np.random.default_rng(4)
    weights = rng.integers(5, 400, size=300).astype(float)
    base = rng.normal(2.0, 0.5, size=300)
    tuned = base - rng.gamma(2.0, 0.1, size=300)
    c = compare(list(base), list(tuned), direction="lower", weights=list(weights))
    assert c.base == pytest.approx(np.average(base, weights=weights), abs=1e-12)
    assert c.tuned == pytest.approx(np.average(tuned, weights=weights), abs=1e-12)
    # The ratio's standard error by the delta method.
    d = tuned - base
    ratio = np.average(d, weights=weights)
    error = float(np.sqrt(np.sum((weights * (d - ratio)) ** 2)) / weights.sum())
    assert width(c) / (2 * 1.96) == pytest.approx(error, rel=0.1)
    assert c.wins > 290


def test_constant_difference_has_a_point_interval_whatever_the_weights() -> None:
    c = compare([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], direction="higher", weights=[1.0, 5.0, 9.0])
    assert c.delta == pytest.approx(1.0)
    assert (c.ci_low, c.ci_high) == (pytest.approx(1.0), pytest.approx(1.0))


def test_clusters_are_drawn_and_flipped_together() -> None:
    rng = np.random.default_rng(5)
    effects = rng.normal(0.2, 1.0, size=25)
    tuned = [float(e) for e in effects for _ in range(8)]
    base = [0.0] * len(tuned)
    labels = [f"c{i}" for i in range(25) for _ in range(8)]
    clustered = compare(base, tuned, direction="higher", clusters=labels)
    plain = compare(base, tuned, direction="higher")
    alone = compare([0.0] * 25, [float(e) for e in effects], direction="higher")
    assert clustered.n == 200
    assert width(clustered) == pytest.approx(width(alone), rel=0.05)
    assert width(clustered) > 2 * width(plain)
    assert clustered.p_value == pytest.approx(alone.p_value or 0, abs=0.02)
    # Two clusters, both better: of four flips two are as extreme. Yes/no measures, too.
    c = compare([0] * 8, [1] * 8, direction="higher", binary=True, clusters=[0, 1] * 4)
    assert c.p_value == 0.5
    single = compare([0] * 8, [1] * 8, direction="higher", clusters=["x"] * 8)
    assert (single.ci_low, single.p_value) == (None, 1.0)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(-5, 5)),
            st.floats(-5, 5),
            st.floats(0.1, 9),
            st.integers(0, 4),
        ),
        max_size=25,
    ),
    st.randoms(use_true_random=False),
)
def test_order_of_samples_does_not_matter(
    rows: list[tuple[float | None, float, float, int]], rng: random.Random
) -> None:
    def run(rows: list[tuple[float | None, float, float, int]]) -> list[Comparison]:
        base, tuned = [r[0] for r in rows], [r[1] for r in rows]
        weights, labels = [r[2] for r in rows], [r[3] for r in rows]
        return [
            compare(base, tuned, direction="higher", resamples=200),
            compare(base, tuned, direction="lower", resamples=200, weights=weights),
            compare(base, tuned, direction="lower", resamples=200, clusters=labels),
        ]

    shuffled = list(rows)
    rng.shuffle(shuffled)
    assert run(rows) == run(shuffled)


def test_unscored_pairs_change_nothing_but_are_not_counted() -> None:
    base, tuned = [1.0, 4.0, 2.0], [2.0, 3.0, 7.0]
    more = compare([*base, None, 3.0], [*tuned, 9.0, None], direction="higher")
    assert more == compare(base, tuned, direction="higher")


def test_seed_moves_the_interval_a_little_and_is_repeatable() -> None:
    rng = np.random.default_rng(6)
    base, tuned = list(rng.normal(size=50)), list(rng.normal(size=50))
    one, again = (compare(base, tuned, direction="higher", seed=1) for _ in range(2))
    other = compare(base, tuned, direction="higher", seed=2)
    assert one == again
    assert one != other
    assert width(one) == pytest.approx(width(other), rel=0.05)


def test_false_alarms_are_five_in_a_hundred() -> None:
    rng = np.random.default_rng(7)
    rounds, columns = 40, 50
    alarms = misses = 0
    for at in range(rounds):
        # Fifty measures share their draws, as those of a table do; they are independent here.
        base, tuned = rng.exponential(size=(2, columns, 60))
        pairs = [Pairs(list(b), list(t), "higher") for b, t in zip(base, tuned, strict=True)]
        for c in compare_many(pairs, resamples=1000, seed=at):
            assert c.p_value is not None
            assert c.ci_low is not None
            assert c.ci_high is not None
            alarms += c.p_value <= 0.05
            misses += not c.ci_low <= 0 <= c.ci_high
    # Binomial(2000, .05) has a standard deviation of 0.5 in a hundred.
    assert 0.035 < alarms / (rounds * columns) < 0.065
    assert 0.035 < misses / (rounds * columns) < 0.075


@pytest.mark.parametrize("what", ["plain", "weights", "clusters", "exp", "yes/no"])
def test_bootstrap_standard_error_is_the_analytic_one(what: str) -> None:
    rng = np.random.default_rng(9)
    base, tuned = rng.gamma(2.0, 0.3, size=(2, 300))
    weights = list(rng.integers(5, 60, size=300).astype(float)) if what == "weights" else None
    labels = [at // 3 for at in range(300)] if what == "clusters" else None
    link: Link = "exp" if what == "exp" else "identity"
    if what == "yes/no":
        base, tuned = (base > 0.5).astype(float), (tuned > 0.5).astype(float)
    c = compare(
        list(base), list(tuned), direction="lower", weights=weights, link=link, clusters=labels
    )
    pairs = Pairs(list(base), list(tuned), "lower", weights=weights, link=link)
    drawn = bootstrap([units_by_cluster(pairs, labels)], 10_000, seed=0)[:, 0]
    assert c.standard_error == pytest.approx(float(drawn.std(ddof=1)), rel=0.1)
    assert width(c) / (2 * 1.96) == pytest.approx(c.standard_error, rel=0.1)
    alone = describe(list(tuned), weights=weights, link=link, clusters=labels)
    assert alone.mean == c.tuned
    assert alone.ci_low is not None
    assert alone.ci_high is not None
    assert (alone.ci_high - alone.ci_low) / (2 * 1.96) == pytest.approx(
        alone.standard_error, rel=0.1
    )


def test_standard_error_by_hand() -> None:
    # 0 1 0 1: sample variance 1/3, over four.
    assert describe([0.0, 1.0, None, 0.0, 1.0]).standard_error == pytest.approx((1 / 12) ** 0.5)
    # Two clusters with means 0 and 1: as two samples.
    two = describe([0.0, 0.0, 1.0, 1.0], clusters="aabb")
    assert two.standard_error == pytest.approx(0.5)
    assert describe([3.0]) == Summary(1, 3.0, None, None, None)
    assert describe([None]) == Summary(0, None, None, None, None)
    assert describe([2.0, 2.0, 2.0]) == Summary(3, 2.0, 0.0, 2.0, 2.0)


def test_exp_of_the_mean() -> None:
    base, tuned = [1.0, 2.0, 3.0, 2.5], [0.5, 1.0, 2.0, 2.0]
    weights = [1.0, 2.0, 3.0, 4.0]
    c = compare(base, tuned, direction="lower", weights=weights, link="exp")
    plain = compare(base, tuned, direction="lower", weights=weights)
    assert c.base == pytest.approx(math.exp(np.average(base, weights=weights)))
    assert c.delta == pytest.approx(math.exp(plain.tuned or 0) - math.exp(plain.base or 0))
    assert (c.p_value, c.wins) == (plain.p_value, plain.wins)
    constant = compare([1.0] * 5, [2.0] * 5, direction="lower", link="exp")
    assert constant.ci_low == constant.ci_high == pytest.approx(math.e**2 - math.e)


def test_a_measure_is_the_same_whatever_stands_beside_it() -> None:
    rng = np.random.default_rng(10)
    table = rng.normal(size=(6, 2, 40)).round(1)
    pairs = [Pairs(list(b), list(t), "higher") for b, t in table]
    pairs.append(Pairs([None, *table[0, 0][1:]], list(table[0, 1]), "lower"))
    pairs.append(Pairs(list(table[1, 0]), list(table[1, 1]), "lower", weights=[1.0, 2.0] * 20))
    pairs.append(Pairs([0.0, 1.0] * 20, [1.0] * 40, "higher", binary=True))
    together = compare_many(pairs)
    assert together == [compare_many([each])[0] for each in pairs]


@pytest.mark.parametrize("size", [3, 5_000])
def test_chunks_do_not_change_the_result(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    base, tuned = list(rng.normal(size=30)), list(rng.normal(size=30))
    whole = compare(base, tuned, direction="higher", resamples=2000)
    monkeypatch.setattr("harness.statistics.paired._CHUNK", size)
    parts = compare(base, tuned, direction="higher", resamples=2000)
    assert width(parts) == pytest.approx(width(whole), rel=0.1)
    assert parts.p_value == pytest.approx(whole.p_value or 0, abs=0.05)


@pytest.mark.parametrize(
    "call",
    [
        lambda: compare([1.0], [1.0, 2.0], direction="higher"),
        lambda: compare([1.0], [float("nan")], direction="higher"),
        lambda: compare([1.0], [2.0], direction="higher", weights=[0.0]),
        lambda: compare([1.0], [2.0], direction="higher", weights=[1.0, 1.0]),
        lambda: compare([1.0], [0.5], direction="higher", binary=True),
        lambda: mean([1.0], [1.0, 2.0]),
    ],
)
def test_misuse_is_refused(call: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        call()  # type: ignore[operator]


def test_holm_by_hand() -> None:
    # Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04; running maximum .02 .03 .06 .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([None, 0.02]) == [None, 0.02]
    assert holm([]) == []
    assert holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12))
def test_holm_keeps_order_and_never_lowers(p_values: list[float | None]) -> None:
    adjusted = holm(p_values)
    pairs = [(p, a) for p, a in zip(p_values, adjusted, strict=True) if p is not None]
    assert [a for p, a in zip(p_values, adjusted, strict=True) if p is None] == [None] * (
        len(p_values) - len(pairs)
    )
    for p, a in pairs:
        assert a is not None
        assert p <= a <= 1
        assert all(a <= b for q, b in pairs if b is not None and p <= q)


def test_mean() -> None:
    assert mean([1.0, None, 4.0]) == 2.5
    assert mean([1.0, None, 4.0], [3.0, 100.0, 1.0]) == 1.75
    assert mean([None]) is None
    assert mean([]) is None
