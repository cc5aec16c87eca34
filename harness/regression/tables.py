"""A run's comparison.csv against a frozen one, with tolerances from the standard errors.

A figure (base, tuned or delta of a row) has moved where it differs by more than z standard
errors of the difference. Where both sides have the scores of each sample, that is the paired
error: the standard error of the mean of (new - old) over the samples. It is 0 where nothing or
everything changed alike, and then the figures must be equal. Figures that are weighted means have
it from the plain samples too, as the weights are not in the files. Without the samples it is
sqrt(old^2 + new^2), with each row's error read off the width of its interval.

A table has some hundred figures, so that two or three standard errors would raise a false alarm
in most clean runs. z is Bonferroni's instead: the chance of any false alarm among all figures is
at most 5 % (z = 3.5 for 120). A few changed samples never reach it (k samples that change alike
give at most sqrt(k) standard errors); the list of changed samples shows them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from harness.errors import DataError, UsageError
from harness.host.files import write_atomic
from harness.host.paths import no_file
from harness.host.temporary import remove
from harness.host.text import one_line, quoted
from harness.regression.samples import (
    NAMES,
    RunKey,
    Runs,
    SampleScores,
    read_predictions,
    read_samples,
    samples_text,
)
from harness.reports.comparison import ComparisonRow
from harness.reports.csv_file import comparison_csv, parse_comparison_csv

FALSE_ALARMS = 0.05
EXACT = 1e-9  # relative, beyond 1: differences below are of the last digits
_FIGURES = ("base", "tuned", "delta")
_MADE_WITHOUT_A_MODEL = ("reference", "nearest")
_WIDTH = 2 * 1.959963984540054  # of a 95 % interval, in standard errors
_MOST_SAMPLES, _MOST_METRICS = 20, 6

RowKey = tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """A comparison.csv with what stands beside it. samples: None where there is no such file."""

    rows: dict[RowKey, ComparisonRow]
    samples: Runs | None


@dataclass(frozen=True, slots=True)
class Found:
    """moved: what makes the check fail. changed: samples that differ, for information."""

    moved: list[str]
    changed: list[str]
    figures: int
    z: float


def read_results(path: Path) -> Table:
    """A run's table, and predictions.csv beside it. Raises UsageError and DataError."""
    rows = _rows(path, "--results")
    beside = path.parent / "predictions.csv"
    return Table(rows, read_predictions(beside) if os.path.lexists(beside) else None)


def read_baseline(path: Path) -> Table:
    """A frozen table, and NAME.samples.csv beside it. Raises UsageError and DataError."""
    rows = _rows(path, "--baseline")
    beside = _beside(path)
    return Table(rows, read_samples(beside) if os.path.lexists(beside) else None)


def freeze(results: Table, baseline: Path) -> list[Path]:
    """Write the results as the baseline; the files written. Raises StorageError."""
    write_atomic(baseline, comparison_csv(results.rows.values()))
    beside = _beside(baseline)
    if results.samples is None:
        remove(beside)  # of another run
        return [baseline]
    write_atomic(beside, samples_text(results.samples))
    return [baseline, beside]


def compare_tables(old: Table, new: Table) -> Found:
    """What moved from the baseline `old` to the results `new`."""
    moved = [f"{_named(key)}: the row is missing" for key in old.rows if key not in new.rows]
    moved += [f"{_named(key)}: the row has no baseline" for key in new.rows if key not in old.rows]
    both = [key for key in old.rows if key in new.rows]
    z = -NormalDist().inv_cdf(FALSE_ALARMS / 2 / max(1, len(_FIGURES) * len(both)))
    for key in both:
        was, now = old.rows[key], new.rows[key]
        faults = [
            f"{name} was {getattr(was, name)}, is {getattr(now, name)}"
            for name in ("signature", "direction", "n")
            if getattr(was, name) != getattr(now, name)
        ]
        # Numbers of another definition, or of other samples, are not to be compared.
        faults = faults or [*_figures(key, old, new, z), *_exact(was, now)]
        moved += [f"{_named(key)}: {fault}" for fault in faults]
    changed: list[str] = []
    if old.samples is not None and new.samples is not None:
        for run in dict.fromkeys([*old.samples, *new.samples]):
            one, other = (table.get(run, {}) for table in (old.samples, new.samples))
            moved += _sides(run, one, other)
            changed += _changed(run, one, other)
    return Found(moved, changed, len(_FIGURES) * len(both), z)


def _figures(key: RowKey, old: Table, new: Table, z: float) -> Iterator[str]:
    was, now = old.rows[key], new.rows[key]
    for figure in _FIGURES:
        before, after = getattr(was, figure), getattr(now, figure)
        if before is None or after is None:
            if before is not after:
                yield f"{figure} was {_shown(before)}, is {_shown(after)}"
            continue
        error = _paired_error(key, figure, old.samples, new.samples)
        kind = "paired"
        if error is None:
            error, kind = math.hypot(_from_interval(was), _from_interval(now)), "by the intervals"
        if _equal(before, after) or (error > 0 and abs(after - before) <= z * error):
            continue
        by = f"{abs(after - before) / error:.1f} standard errors" if error else "no spread"
        yield f"{figure} was {_shown(before)}, is {_shown(after)} ({by}, {kind})"


def _exact(was: ComparisonRow, now: ComparisonRow) -> Iterator[str]:
    """What no model has a part in must be as it was."""
    for name in _MADE_WITHOUT_A_MODEL:
        before, after = getattr(was, name), getattr(now, name)
        same = before is after if None in (before, after) else _equal(before, after)
        if not same:
            yield f"{name} was {_shown(before)}, is {_shown(after)} (must be equal)"


def _paired_error(key: RowKey, figure: str, old: Runs | None, new: Runs | None) -> float | None:
    """The standard error of the mean of new - old over the samples; None without samples."""
    *run, metric = key
    name: RunKey = (run[0], run[1], run[2], run[3])
    if old is None or new is None or name not in old or name not in new:
        return None
    moves = []
    for place, before in old[name].items():
        after = new[name].get(place)
        pair = (_value(before, metric, figure), _value(after, metric, figure) if after else None)
        if pair[0] is not None and pair[1] is not None:
            moves.append(pair[1] - pair[0])
    if len(moves) < 2:
        return None
    centre = math.fsum(moves) / len(moves)
    squares = math.fsum((move - centre) ** 2 for move in moves)
    error = math.sqrt(squares / (len(moves) - 1) / len(moves))
    return error if error > EXACT * max(map(abs, moves)) else 0.0  # else: rounding


def _value(sample: SampleScores, metric: str, figure: str) -> float | None:
    base, tuned = (sample.scores.get((system, metric)) for system in NAMES)
    if base is None or tuned is None:  # rows are of samples that both systems have
        return None
    return {"base": base, "tuned": tuned}.get(figure, tuned - base)


def _from_interval(row: ComparisonRow) -> float:
    if row.ci_low is None or row.ci_high is None:
        return 0.0
    return (row.ci_high - row.ci_low) / _WIDTH


def _sides(run: RunKey, old: Iterable[str], new: Iterable[str]) -> list[str]:
    old, new = list(old), list(new)
    lines = []
    for what, ids in (
        ("missing", [name for name in old if name not in set(new)]),
        ("not in the baseline", [name for name in new if name not in set(old)]),
    ):
        if ids:
            lines.append(f"{' '.join(run)}: samples {what}: {_some(ids, 10)}")
    return lines


def _changed(run: RunKey, old: dict[str, SampleScores], new: dict[str, SampleScores]) -> list[str]:
    lines = []
    for place in old:
        for system in NAMES:
            if place not in new:
                continue
            was, now = old[place], new[place]
            parts = []
            for (side, metric), before in was.scores.items():
                after = now.scores.get((side, metric))
                if side == system and (side, metric) in now.scores and not _same(before, after):
                    parts.append(f"{metric} {_shown(before)} → {_shown(after)}")
            answer = (
                "another answer"
                if was.answers[system] != now.answers[system]
                else "the same answer"
            )
            if parts or answer == "another answer":
                shown = "; ".join([answer, *([_some(parts, _MOST_METRICS)] if parts else [])])
                lines.append(f"{' '.join(run)}: {place} {system}: {shown}")
    if len(lines) > _MOST_SAMPLES:
        more = f"{' '.join(run)}: {len(lines) - _MOST_SAMPLES} more answers changed"
        lines = [*lines[:_MOST_SAMPLES], more]
    return lines


def _rows(path: Path, option: str) -> dict[RowKey, ComparisonRow]:
    if fault := no_file(path):
        raise UsageError(f"{option} {quoted(path)} {fault}; give a comparison.csv.")
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:  # a disk that fails
        raise UsageError(f"{option} {quoted(path)}: {error.strerror}; check the disk.") from None
    except UnicodeDecodeError:
        raise DataError(f"{quoted(path)} is not UTF-8 text; give a comparison.csv.") from None
    return {
        (row.model, row.task, row.recipe, str(row.seed), row.metric): row
        for row in parse_comparison_csv(text, one_line(path, 300))
    }


def _beside(baseline: Path) -> Path:
    return baseline.with_name(f"{baseline.stem}.samples.csv")


def _named(key: RowKey) -> str:
    model, task, recipe, seed, metric = key
    return f"{model} {task} {recipe} {seed}: {metric}"


def _equal(before: float, after: float) -> bool:
    return math.isclose(before, after, rel_tol=EXACT, abs_tol=EXACT)


def _same(before: float | None, after: float | None) -> bool:
    return before is after if before is None or after is None else _equal(before, after)


def _shown(value: float | None) -> str:
    return "unscored" if value is None else f"{value:.6g}"


def _some(parts: Sequence[str], most: int) -> str:
    more = [f"and {len(parts) - most} more"] if len(parts) > most else []
    return ", ".join([*parts[:most], *more])
