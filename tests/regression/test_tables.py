"""A run's table against a frozen one: what may differ, what not, and what is said of it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import DataError, UsageError
from harness.regression import tables
from harness.regression.check import check
from harness.regression.samples import read_predictions, read_samples, samples_text
from harness.reports import PredictionRow, predictions_csv
from harness.reports.comparison import ComparisonRow
from harness.reports.csv_file import comparison_csv
from harness.statistics.paired import compare

N = 60
_rng = random.Random(1)
BASE = [round(_rng.random(), 3) for _ in range(N)]
TUNED = [round(min(1.0, b + _rng.random() / 4), 3) for b in BASE]


def row(
    base: Sequence[float] = BASE, tuned: Sequence[float] = TUNED, **other: Any
) -> ComparisonRow:
    found = compare(base, tuned, direction="higher", resamples=200)
    values: dict[str, Any] = {
        "model": "m",
        "task": "t",
        "recipe": "r",
        "seed": 0,
        "metric": "chrf",
        "direction": "higher",
        "n": found.n,
        "base": found.base,
        "tuned": found.tuned,
        "delta": found.delta,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "p_value": found.p_value,
        "p_adjusted": found.p_value,
        "wins": found.wins,
        "ties": found.ties,
        "losses": found.losses,
        "reference": 1.0,
        "nearest": 0.5,
        "signature": "chrf|v1",
        "run": "r-seed0",
    }
    return ComparisonRow(**{**values, **other})


def write(
    folder: Path,
    base: Sequence[float] = BASE,
    tuned: Sequence[float] = TUNED,
    *,
    samples: bool = True,
    rows: list[ComparisonRow] | None = None,
    answer: str = "text",
) -> Path:
    """A results folder; the path of its comparison.csv."""
    folder.mkdir(exist_ok=True)
    path = folder / "comparison.csv"
    path.write_text(comparison_csv([row(base, tuned)] if rows is None else rows), newline="")
    if samples:
        lines = [
            PredictionRow(
                model="m",
                task="t",
                recipe="r",
                seed=0,
                id=f"=p{i}",
                kind="",
                prompt="p",
                reference="r",
                base=answer,
                tuned=f"{answer} {t}",
                base_extracted="",
                tuned_extracted="",
                base_finish_reason="stop",
                tuned_finish_reason="stop",
                base_scores={"chrf": b},
                tuned_scores={"chrf": t},
            )
            for i, (b, t) in enumerate(zip(base, tuned, strict=True))
        ]
        (folder / "predictions.csv").write_text(predictions_csv(lines, ["chrf"]), newline="")
    return path


def run(results: Path, baseline: Path, **options: Any) -> tuple[int, list[str]]:
    said: list[str] = []
    status = check(results=results, baseline=baseline, say=said.append, **options)
    return status, said


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    path = tmp_path / "baselines" / "mine.csv"
    assert run(write(tmp_path / "old"), path, update=True)[0] == 0
    assert sorted(p.name for p in path.parent.iterdir()) == ["mine.csv", "mine.samples.csv"]
    return path


def test_the_same_run(tmp_path: Path, baseline: Path) -> None:
    status, said = run(write(tmp_path / "new"), baseline)
    assert status == 0
    assert said == [
        "table: 3 figures of 1 rows, tolerance 2.4 standard errors "
        "(5% false alarms in the whole table)",
        "samples: none changed",
        "all is as it should be",
    ]


def test_samples_give_themselves_back(tmp_path: Path, baseline: Path) -> None:
    samples = read_predictions(write(tmp_path / "new").parent / "predictions.csv")
    assert read_samples(baseline.with_name("mine.samples.csv")) == samples
    assert len(samples["m", "t", "r", "0"]) == N
    path = tmp_path / "again.csv"
    path.write_text(samples_text(samples), newline="")
    assert read_samples(path) == samples


def test_noise_is_tolerated_and_a_shift_is_not(tmp_path: Path, baseline: Path) -> None:
    rng = random.Random(5)
    noise = [rng.gauss(0, 0.05) for _ in TUNED]
    centre = sum(noise) / N
    noisy = [t + e - centre for t, e in zip(TUNED, noise, strict=True)]
    status, said = run(write(tmp_path / "noisy", tuned=noisy), baseline)
    assert status == 0
    assert any(line.startswith("samples: ") and "changed" in line for line in said)
    shifted = [t + 0.03 for t in noisy]
    status, said = run(write(tmp_path / "shifted", tuned=shifted), baseline)
    assert status == 1
    assert any("chrf: tuned was" in line and "standard errors, paired" in line for line in said)
    assert any("chrf: delta was" in line for line in said)
    assert not any("chrf: base was" in line for line in said)


def test_no_spread_must_be_equal(tmp_path: Path, baseline: Path) -> None:
    lower = [t - 1e-6 for t in TUNED]
    status, said = run(write(tmp_path / "new", tuned=lower), baseline)
    assert status == 1
    assert any("no spread, paired" in line for line in said)


def test_one_changed_sample_is_said_not_failed(tmp_path: Path, baseline: Path) -> None:
    one = [0.0, *TUNED[1:]]
    status, said = run(write(tmp_path / "new", tuned=one), baseline)
    assert status == 0
    assert f"  m t r 0: =p0 tuned: another answer; chrf {TUNED[0]:.6g} → 0" in said


def test_changed_answers_are_counted_beyond_twenty(tmp_path: Path, baseline: Path) -> None:
    status, said = run(write(tmp_path / "new", answer="other"), baseline)
    assert status == 0
    assert sum("another answer" in line for line in said) == 20
    assert f"  m t r 0: {2 * N - 20} more answers changed" in said


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ({"signature": "chrf|v2"}, "chrf: signature was chrf|v1, is chrf|v2"),
        ({"n": N - 1}, f"chrf: n was {N}, is {N - 1}"),
        ({"direction": "lower"}, "direction was higher, is lower"),
        ({"reference": 0.99}, "reference was 1, is 0.99 (must be equal)"),
        ({"nearest": None}, "nearest was 0.5, is unscored"),
        ({"tuned": None}, "tuned was "),
        ({"metric": "bleu"}, "bleu: the row has no baseline"),
        ({"metric": "bleu"}, "chrf: the row is missing"),
        ({"seed": "all"}, "all: chrf: the row has no baseline"),
    ],
)
def test_what_fails(tmp_path: Path, baseline: Path, new: dict[str, Any], told: str) -> None:
    results = write(tmp_path / "new", rows=[replace(row(), **new)])
    status, said = run(results, baseline)
    assert status == 1
    assert any(told in line for line in said)


def test_samples_missing_and_more(tmp_path: Path, baseline: Path) -> None:
    rows = [row()]
    status, said = run(write(tmp_path / "new", BASE[:-1], TUNED[:-1], rows=rows), baseline)
    assert status == 1
    assert f"  m t r 0: samples missing: =p{N - 1}" in said


def test_without_samples_the_intervals_serve(tmp_path: Path, baseline: Path) -> None:
    error = (row().ci_high - row().ci_low) / (2 * 1.96)  # type: ignore[operator]
    for factor, expected in ((1.0, 0), (6.0, 1)):
        tuned = [t + factor * error for t in TUNED]
        status, said = run(write(tmp_path / f"x{factor}", tuned=tuned, samples=False), baseline)
        assert status == expected
        assert "samples: not compared, there is no predictions.csv" in said
    assert any("by the intervals" in line for line in said)


def test_update_without_samples_leaves_none_behind(tmp_path: Path, baseline: Path) -> None:
    status, _ = run(write(tmp_path / "new", samples=False), baseline, update=True)
    assert status == 0
    assert not baseline.with_name("mine.samples.csv").exists()


def test_false_alarms_of_a_whole_table() -> None:
    """Runs that differ by chance alone: some figure of 40 rows moves in at most about 5 %."""
    rng = np.random.default_rng(0)
    alarms, tables_tried, metrics = 0, 300, 40
    z = tables.NormalDist().inv_cdf(1 - tables.FALSE_ALARMS / 2 / (2 * metrics))
    for _ in range(tables_tried):
        moves = rng.normal(size=(N, 2 * metrics))
        error = moves.std(axis=0, ddof=1) / math.sqrt(N)
        alarms += bool((np.abs(moves.mean(axis=0)) > z * error).any())
    assert 0.01 < alarms / tables_tried < 0.12


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, UsageError), (b"", DataError), (b"a,b\n", DataError), (b"\xff", DataError)],
)
def test_bad_tables(
    tmp_path: Path, baseline: Path, content: bytes | None, error: type[Exception]
) -> None:
    bad = tmp_path / "bad.csv"
    if content is not None:
        bad.write_bytes(content)
    for results, frozen in ((bad, baseline), (write(tmp_path / "new"), bad)):
        with pytest.raises(error, match=r"bad\.csv"):
            run(results, frozen)
    with pytest.raises(UsageError):
        run(tmp_path, baseline)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("id,", "", "column 'id' is missing"),
        ("base_answer,", "base_other,", "column 'base_answer' is missing"),
        ("tuned_chrf\n", "tuned_chrf\nm,t,r,0,x,a,b,no,1\n", "base_chrf is 'no'"),
        ("tuned_chrf\n", "tuned_chrf\nm,t,r,0\n", "not as many cells"),
        ("tuned_chrf\n", "tuned_chrf\n" + "m,t,r,0,x,a,b,1,1\n" * 2, "stands twice"),
    ],
)
def test_bad_samples(tmp_path: Path, baseline: Path, old: str, new: str, told: str) -> None:
    path = baseline.with_name("mine.samples.csv")
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=told):
        run(write(tmp_path / "new"), baseline)


def test_the_shipped_results_can_be_frozen(tmp_path: Path) -> None:
    results = Path(__file__).resolve().parents[2] / "results/default/comparison.csv"
    if not results.exists():
        pytest.skip("results/default/comparison.csv is not there")
    path = tmp_path / "default.csv"
    assert run(results, path, update=True)[0] == 0
    status, said = run(results, path)
    assert status == 0
    assert "samples: none changed" in said
