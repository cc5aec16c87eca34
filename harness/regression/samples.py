"""Per-sample scores of a run: of results/predictions.csv, and of baselines/NAME.samples.csv.

The baseline keeps of each prompt the scores and a digest of either answer, not the texts.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import DataError
from harness.host.paths import no_file
from harness.host.text import quoted
from harness.reports.csv_file import cell, csv_line, unescape_formula
from harness.systems import COMPARED

RunKey = tuple[str, str, str, str]  # model, task, recipe, seed
_RUN = ("model", "task", "recipe", "seed")
NAMES = tuple(system.name for system in COMPARED)
_ANSWERS = tuple(f"{name}_answer" for name in NAMES)


@dataclass(frozen=True, slots=True)
class SampleScores:
    """One prompt of one run. answers: by system, a digest of the text; scores: by system
    and metric."""

    answers: dict[str, str]
    scores: dict[tuple[str, str], float | None]


Runs = dict[RunKey, dict[str, SampleScores]]


def read_predictions(path: Path) -> Runs:
    """The samples of a predictions.csv, by run and id. Raises DataError."""
    return _read(path, [*NAMES], digested=False)


def read_samples(path: Path) -> Runs:
    """The samples of a baseline. Raises DataError."""
    return _read(path, [*_ANSWERS], digested=True)


def samples_text(runs: Runs) -> str:
    """The text of a baseline's file; `read_samples` gives the same back."""
    columns = list(
        dict.fromkeys(
            key for samples in runs.values() for one in samples.values() for key in one.scores
        )
    )
    lines = [csv_line([*_RUN, "id", *_ANSWERS, *("_".join(column) for column in columns)])]
    for run, samples in runs.items():
        for name, one in samples.items():
            scores = [cell(one.scores.get(column)) for column in columns]
            answers = [one.answers[system] for system in NAMES]
            lines.append(csv_line([*map(cell, run), cell(name), *answers, *scores]))
    return "".join(lines)


def _read(path: Path, texts: list[str], digested: bool) -> Runs:
    runs: Runs = {}
    for number, row in _rows(path, [*_RUN, "id", *texts]):
        run = tuple(unescape_formula(row[name]) for name in _RUN)
        key: RunKey = (run[0], run[1], run[2], run[3])
        samples = runs.setdefault(key, {})
        name = unescape_formula(row["id"])
        if name in samples:
            raise DataError(f"{path}, line {number}: the id {name:.60} stands twice in one run.")
        samples[name] = SampleScores(
            {
                system: row[text] if digested else _digest(row[text])
                for system, text in zip(NAMES, texts, strict=True)
            },
            _scores(row, f"{path}, line {number}"),
        )
    return runs


def _rows(path: Path, wanted: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    if fault := no_file(path):
        raise DataError(f"{quoted(path)} {fault}; write it again, or move it away.")
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            missing = [name for name in wanted if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}, line 1: column '{missing[0]}' is missing; restore it.")
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}, line {reader.line_num}: not as many cells as columns."
                    )
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}); write it again.") from None


def _scores(row: dict[str, str], where: str) -> dict[tuple[str, str], float | None]:
    """The cells <system>_<metric>: what of them is a number, or empty. The texts are left out."""
    scores: dict[tuple[str, str], float | None] = {}
    for name, text in row.items():
        system, _, metric = name.partition("_")
        if system not in NAMES or metric in ("", "answer", "extracted", "finish_reason"):
            continue
        try:
            value = float(text) if text else None
        except ValueError:
            value = math.nan
        if value is not None and not math.isfinite(value):
            raise DataError(f"{where}: {name} is '{text:.40}' where a number belongs.")
        scores[system, metric] = value
    return scores


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
