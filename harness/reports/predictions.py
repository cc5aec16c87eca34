"""predictions.csv: each held-out prompt with its reference, both answers and their scores."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.host.text import ELLIPSIS
from harness.reports.csv_file import cell, csv_line

# Python's csv reader stops at 131,072 characters, spreadsheets at 32,767 a cell.
CELL_LIMIT = 30_000

_WHOLE_TEXT = {
    "prompt": "data/",
    "reference": "data/",
    "reference_written": "likelihoods/written.jsonl",
    "base": "generations/base.jsonl",
    "tuned": "generations/tuned.jsonl",
    "base_extracted": "scores/base.jsonl",
    "tuned_extracted": "scores/tuned.jsonl",
}
_TEXT_COLUMNS = ("id", "kind", *_WHOLE_TEXT)


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """An answer of each system to one held-out prompt of one run.

    id: of the answer; where a prompt has but one, its own.
    reference_written: what the tokenizer can write of the reference, where that differs.
    base_extracted, tuned_extracted: the answers without chat and fence, where that differs.
    prompt_cut: the prompt was longer than the context allows and lost its beginning.
    The scores: metric → number, None where not scored.
    """

    model: str
    task: str
    recipe: str
    seed: int
    id: str
    kind: str
    prompt: str
    reference: str
    base: str
    tuned: str
    base_extracted: str
    tuned_extracted: str
    base_finish_reason: str
    tuned_finish_reason: str
    base_scores: Mapping[str, float | None]
    tuned_scores: Mapping[str, float | None]
    reference_written: str = ""
    prompt_cut: bool = False


def predictions_csv(rows: Iterable[PredictionRow], metrics: Sequence[str]) -> str:
    """The whole file as one string; `prediction_lines` gives it piece by piece."""
    return "".join(prediction_lines(rows, metrics))


def prediction_lines(rows: Iterable[PredictionRow], metrics: Sequence[str]) -> Iterator[str]:
    """The records of predictions.csv, the header first, each ended by "\\n"; rows are streamed.

    metrics: which scores become columns base_<metric>, tuned_<metric>, in this order; a metric
    that a row lacks is an empty cell. Text is as in comparison.csv: formulas escaped, controls
    shown; a cell over 30,000 characters is an excerpt with the length and the SHA-256 of the
    whole (of its UTF-8 bytes). Write the text as UTF-8 with newline="".
    """
    yield csv_line(
        [
            *("model", "task", "recipe", "seed", *_TEXT_COLUMNS),
            *("prompt_cut", "base_finish_reason", "tuned_finish_reason"),
            *(f"{system}_{metric}" for metric in metrics for system in ("base", "tuned")),
        ]
    )
    for row in rows:
        scores = (s.get(m) for m in metrics for s in (row.base_scores, row.tuned_scores))
        yield csv_line(
            [
                *(cell(row.model), cell(row.task), cell(row.recipe), cell(int(row.seed))),
                *(_text_cell(getattr(row, name), name) for name in _TEXT_COLUMNS),
                *(cell(int(row.prompt_cut)), cell(row.base_finish_reason)),
                cell(row.tuned_finish_reason),
                *(cell(None if score is None else float(score)) for score in scores),
            ]
        )


def joined_predictions(texts: Iterable[str], runs: Sequence[str] | None = None) -> str:
    """Several predictions.csv as one, with all their columns; what a run lacks is empty.

    runs: a name for each, as a column "run", where model, task, recipe and seed do not tell.
    """
    tables = [list(csv.DictReader(io.StringIO(text, newline=""))) for text in texts]
    for name, rows in zip(runs or (), tables, strict=runs is not None):
        for row in rows:
            row["run"] = cell(name)
    columns = list(dict.fromkeys(name for rows in tables for row in rows[:1] for name in row))
    joined = [csv_line(row.get(name, "") for name in columns) for rows in tables for row in rows]
    return "".join([csv_line(columns), *joined] if columns else [])


def _text_cell(text: str, column: str) -> str:
    if len(text) <= CELL_LIMIT:
        return cell(text)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    place = _WHOLE_TEXT.get(column, "data/")
    note = f"[{len(text)} characters, sha256 {digest}; whole text in {place}]"
    return f"{cell(text[:CELL_LIMIT])}{ELLIPSIS} {note}"
