"""The cells of the tables, the same for Markdown and the terminal, which render each its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.host.text import single_line
from harness.reports.comparison import ComparisonRow, Group, KindRow, best_system, is_significant
from harness.reports.formats import (
    decimals_for,
    format_count,
    format_interval,
    format_number,
    format_p_value,
)

ARROWS = {"higher": "↑", "lower": "↓"}
STAR = "*"


@dataclass(frozen=True, slots=True)
class Column:
    """short: its title where room is scarce. data: the cells hold names from data, left-aligned."""

    title: str
    short: str
    data: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    columns: list[Column]
    rows: list[list[Cell]]

    def without(self, short: str) -> Table:
        """The table less the column of that short title."""
        keep = [i for i, column in enumerate(self.columns) if column.short != short]
        return Table([self.columns[i] for i in keep], [[row[i] for i in keep] for row in self.rows])


def comparison_table(group: Group) -> Table:
    """The table of one (model, task): a row a metric and run, the better system's score in bold.

    A column for recipe, seed or run stands only where it tells the runs apart, and then a metric
    is named in the first of its rows.
    """
    columns = [Column("metric", "metric", data=True)]
    if group.by_recipe:
        columns.append(Column("recipe", "recipe", data=True))
    if group.by_seed:
        columns.append(Column("seed", "seed"))
    if group.by_run:
        columns.append(Column("run", "run", data=True))
    columns += _SCORES
    columns += [
        Column("p (Holm)", "p (Holm)"),
        Column("wins/ties/losses", "w/t/l"),
        Column("reference", "ref"),
        Column("nearest", "near"),
    ]
    rows: list[list[Cell]] = []
    before = None
    starred = any(map(is_significant, group.rows))  # then the other rows leave its place free
    for row in group.rows:
        cells = [_metric(row) if row.metric != before else Cell("")]
        before = row.metric
        if group.by_recipe:
            cells.append(Cell(single_line(row.recipe)))
        if group.by_seed:
            cells.append(Cell(row.seed if isinstance(row.seed, str) else format_count(row.seed)))
        if group.by_run:
            cells.append(Cell(single_line(row.run)))
        places = decimals_for([row.base, row.tuned, row.delta, row.reference, row.nearest])
        cells += _scores(row, places)
        star = f" {STAR}" if is_significant(row) else "  " if starred else ""
        cells += [
            Cell(format_p_value(row.p_adjusted) + star),
            Cell(_counts(row)),
            Cell(format_number(row.reference, places)),
            Cell(format_number(row.nearest, places)),
        ]
        rows.append(cells)
    return Table(columns, rows)


def kind_table(kinds: Sequence[KindRow]) -> Table:
    """The small table by kind of prompt: the kinds of one metric together, p not adjusted."""
    columns = [
        Column("metric", "metric", data=True),
        Column("kind of prompt", "kind", data=True),
        *_SCORES,
        Column("p", "p"),
    ]
    order: dict[str, list[KindRow]] = {}
    for kind in kinds:
        order.setdefault(kind.metric, []).append(kind)
    rows: list[list[Cell]] = []
    for same in order.values():
        for index, row in enumerate(same):
            places = decimals_for([row.base, row.tuned, row.delta])
            rows.append(
                [
                    _metric(row) if index == 0 else Cell(""),
                    Cell(single_line(row.kind)),
                    *_scores(row, places),
                    Cell(format_p_value(row.p_value)),
                ]
            )
    return Table(columns, rows)


_SCORES = [
    Column("n", "n"),
    Column("base", "base"),
    Column("tuned", "tuned"),
    Column("delta", "delta"),
    Column("95 % interval", "95 % interval"),
]


def _metric(row: ComparisonRow | KindRow) -> Cell:
    return Cell(f"{single_line(row.metric)} {ARROWS.get(row.direction, '')}".rstrip())


def _scores(row: ComparisonRow | KindRow, places: int) -> list[Cell]:
    base, tuned = format_number(row.base, places), format_number(row.tuned, places)
    # What differs only beyond the digits shown would look like an arbitrary choice in bold.
    best = best_system(row) if base != tuned else None
    return [
        Cell(format_count(row.n)),
        Cell(base, bold=best == "base"),
        Cell(tuned, bold=best == "tuned"),
        Cell(format_number(row.delta, places, sign=True)),
        Cell(format_interval(row.ci_low, row.ci_high, places)),
    ]


def _counts(row: ComparisonRow) -> str:
    counts = (row.wins, row.ties, row.losses)
    return format_count(None) if None in counts else "/".join(map(format_count, counts))
