"""systems.csv: each system's mean of each metric, and its difference to A and to B."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from harness.records import Direction
from harness.reports.csv_file import cell, csv_line


@dataclass(frozen=True, slots=True)
class SystemRow:
    """One metric of one system of a run. None: it cannot be told, or the system is that one itself.

    n:        prompts with a number; unscored: prompts without.
    mean, ci_low, ci_high: the (weighted) mean with its 95 % interval.
    to_base, to_tuned: the system minus that one, paired, with interval and p-value, which is not
              adjusted for the number of rows.
    """

    model: str
    task: str
    recipe: str
    seed: int | str
    system: str
    metric: str
    direction: Direction
    n: int
    unscored: int
    mean: float | None
    ci_low: float | None
    ci_high: float | None
    to_base: float | None
    to_base_ci_low: float | None
    to_base_ci_high: float | None
    to_base_p_value: float | None
    to_tuned: float | None
    to_tuned_ci_low: float | None
    to_tuned_ci_high: float | None
    to_tuned_p_value: float | None
    signature: str
    run: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def systems_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """The text of systems.csv, from rows as `SystemRow.to_json` gives them. Floats are exact."""
    names = [field.name for field in fields(SystemRow)]
    return "".join([csv_line(names), *(csv_line(cell(row[n]) for n in names) for row in rows)])
