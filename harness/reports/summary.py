"""What the scorers say of one system's answers, and of several side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.host.text import single_line, wrap
from harness.records import Direction, Metric, Scored
from harness.reports.formats import MISSING, decimals_for, format_count, format_number
from harness.reports.tables import ARROWS, Cell, Column, Table
from harness.reports.terminal import table_lines
from harness.statistics.paired import Summary

_REASONS = 12  # of unscored numbers, printed at most


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One metric over all answers of a system.

    n:        answers with a number; mean, standard_error and the 95 % interval are theirs.
    unscored: how many answers have none; notes: why, and how many each.
    """

    metric: str
    mean: float | None
    n: int
    unscored: int
    standard_error: float | None
    ci_low: float | None
    ci_high: float | None
    direction: Direction
    signature: str
    notes: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """The row as it stands in summary.json, under its metric's name."""
        return {
            "mean": self.mean,
            "n": self.n,
            "unscored": self.unscored,
            "standard_error": self.standard_error,
            "ci_low": self.ci_low,
            "ci_high": self.ci_high,
            "direction": self.direction,
            "signature": self.signature,
            "notes": self.notes,
        }

    @staticmethod
    def of(metric: Metric, summary: Summary, scored: Sequence[Scored]) -> SummaryRow:
        """The row of a metric; scored: the answers that `summary` is of."""
        notes = Counter(one.notes[metric.name] for one in scored if metric.name in one.notes)
        return SummaryRow(
            metric.name,
            summary.mean,
            summary.n,
            len(scored) - summary.n,
            summary.standard_error,
            summary.ci_low,
            summary.ci_high,
            metric.direction,
            str(metric.signature),
            dict(sorted(notes.items(), key=lambda pair: (-pair[1], pair[0]))),
        )


def summary_terminal(rows: Sequence[SummaryRow], width: int = 100) -> str:
    """A table for a terminal, a line a metric, and below it why answers are unscored."""
    columns = [
        _METRIC,
        Column("mean", "mean"),
        Column("95 % interval", "95 % interval"),
        Column("standard error", "se"),
        Column("n", "n"),
        Column("unscored", "unscored"),
    ]
    table = Table(columns, [[_name(row), *_numbers(row)] for row in rows])
    return "\n".join([*table_lines(table, width), *_unscored([rows], width)]) + "\n"


def systems_terminal(systems: Mapping[str, Sequence[SummaryRow]], width: int = 100) -> str:
    """The means of several systems side by side, the same metrics of each."""
    columns = [_METRIC, *(Column(name, name) for name in systems), Column("unscored", "unscored")]
    lines = []
    for same in zip(*systems.values(), strict=True):
        places = decimals_for([row.mean for row in same])
        means = [Cell(format_number(row.mean, places)) for row in same]
        lines.append([_name(same[0]), *means, Cell(format_count(sum(r.unscored for r in same)))])
    table = table_lines(Table(columns, lines), width)
    return "\n".join([*table, *_unscored(list(systems.values()), width)]) + "\n"


def reasons(notes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Why numbers are missing, the commonest first, metrics that miss alike together.

    notes: by metric, how often each reason was given.
    """
    found: dict[tuple[str, int], list[str]] = {}
    for metric, counts in notes.items():
        for reason, count in counts.items():
            found.setdefault((single_line(reason), count), []).append(single_line(metric))
    ordered = sorted(found.items(), key=lambda item: (-item[0][1], item[0][0]))
    lines = [
        f"{count} × {reason} ({', '.join(metrics)})"
        for (reason, count), metrics in ordered[:_REASONS]
    ]
    more = len(ordered) - _REASONS
    return [*lines, f"{more} reasons more"] if more > 0 else lines


_METRIC = Column("metric", "metric", data=True)


def _name(row: SummaryRow) -> Cell:
    return Cell(f"{single_line(row.metric)} {ARROWS[row.direction]}")


def _numbers(row: SummaryRow) -> list[Cell]:
    places = decimals_for([row.mean, row.ci_low, row.ci_high])
    low, high = (format_number(end, places) for end in (row.ci_low, row.ci_high))
    error = row.standard_error
    return [
        Cell(format_number(row.mean, places)),
        Cell(MISSING if row.ci_low is None else f"[{low}, {high}]"),
        Cell(format_number(error, max(places, decimals_for([error])))),
        Cell(format_count(row.n)),
        Cell(format_count(row.unscored)),
    ]


def _unscored(systems: Sequence[Sequence[SummaryRow]], width: int) -> list[str]:
    """Below the table: "unscored: 3 × the sample has no assertions (assertions_all)"."""
    notes = {
        same[0].metric: sum((Counter(row.notes) for row in same), Counter[str]())
        for same in zip(*systems, strict=True)
    }
    return [line for reason in reasons(notes) for line in wrap(f"unscored: {reason}", width, "  ")]
