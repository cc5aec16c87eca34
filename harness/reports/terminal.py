"""The comparison at a glance, for a terminal: no line wider than asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.host.text import clip, display_width, pad, single_line, wrap
from harness.reports.comparison import (
    ComparisonRow,
    Group,
    RunReport,
    exact_match_counts,
    failure,
    group_reports,
    run_name,
    verdict,
)
from harness.reports.formats import decimals_for, format_number
from harness.reports.tables import STAR, Cell, Table, comparison_table

_GAP = "  "
_INDENT = "  "
# Where the table is too wide: names are cut first, then these columns go, in this order.
_DISPENSABLE = ("near", "ref", "w/t/l", "95 % interval", "n", "p (Holm)", "delta", "seed")
_COMFORTABLE, _LEAST = 16, 4
_NARROWEST = 24

# What is said of a column, where some table has it.
_LEGEND = {
    "metric": "↑ higher is better, ↓ lower is better",
    "p (Holm)": f"{STAR} p below 0.05 after Holm's correction",
    "w/t/l": "w/t/l: prompts on which tuned wins, ties, loses",
    "ref": "ref: the references' own score (ceiling)",
    "near": "near: copying the nearest training answer (floor)",
}


def comparison_terminal(reports: Sequence[RunReport], width: int = 100, color: bool = False) -> str:
    """One table a (model, task), its failures by name, exact-match counts; ends in a newline.

    Every line has at most `width` display columns, names cut with an ellipsis where they must be
    (under 24 it is taken for 24).
    color: the better system's score in bold, the only escape sequence there is; text from data can
    bring in none.
    """
    width = max(width, _NARROWEST)
    lines: list[str] = []
    shown: set[str] = set()
    for group in group_reports(reports):
        lines += [*_group(group, width, color, shown), ""]
    if any(report.rows for report in reports):
        told = shown or _LEGEND  # no table: every metric is alike in both systems
        lines += _join([text for column, text in _LEGEND.items() if column in told], width)
    elif not reports:
        lines.append(clip("There are no runs to compare.", width))
    return "\n".join(lines).rstrip("\n") + "\n"


def table_lines(table: Table, width: int, color: bool = False) -> list[str]:
    """A table of at most `width` columns; where it is wider, names are cut, then columns go."""
    return _lines(*_fit(table, width), color)


def _lines(table: Table, widths: Sequence[int], color: bool) -> list[str]:
    header = [
        pad(clip(column.short, w), w, not column.data)
        for column, w in zip(table.columns, widths, strict=True)
    ]
    lines = [_GAP.join(header).rstrip(), "─" * (sum(widths) + len(_GAP) * (len(widths) - 1))]
    for row in table.rows:
        cells = [
            _cell(cell, w, column.data, color)
            for cell, column, w in zip(row, table.columns, widths, strict=True)
        ]
        lines.append(_GAP.join(cells).rstrip())
    return lines


def _group(group: Group, width: int, color: bool, shown: set[str]) -> list[str]:
    """The lines of one table and what stands below it; its columns are added to `shown`."""
    several = len(group.reports) > 1
    title = [single_line(group.model), single_line(group.task)]
    if not several:
        title.append(single_line(run_name(group.reports[0])))
    told, alike = _split(group)
    counts = {row.n for row in told.rows or group.rows}
    if len(counts) == 1:
        title.append(f"n = {counts.pop()}")
    lines = _join(title, width)
    if told.rows:
        table = comparison_table(told)
        table, widths = _fit(table if counts else table.without("n"), width)
        shown |= {column.short for column in table.columns}
        lines += _lines(table, widths, color)
    if alike:
        lines += _join([f"alike in both systems: {alike[0]}", *alike[1:]], width)
    for report in group.reports:
        name = single_line(run_name(report))
        before = f"{name}: " if several else ""
        sentence = failure(report)
        if sentence is not None:
            said = f"{name if several else 'Run'} {report.status}: {single_line(sentence)}"
            lines += wrap(said, width, _INDENT)
        sentences = (verdict(report.rows), exact_match_counts(report.rows))
        for words in (*sentences, *map(single_line, report.caveats)):
            if words is not None:
                lines += wrap(before + words, width, _INDENT)
        if report.measured:
            pairs = [f"{single_line(name)} {single_line(value)}" for name, value in report.measured]
            pairs[0] = f"{before}measured: {pairs[0]}"
            lines += _join(pairs, width)
    return lines


def _split(group: Group) -> tuple[Group, list[str]]:
    """The group less the metrics that no prompt tells the systems apart by, and what those are."""
    alike: dict[str, ComparisonRow] = {}
    differing = {row.metric for row in group.rows if row.wins != 0 or row.losses != 0}
    for row in group.rows:
        if row.metric not in differing:
            alike.setdefault(row.metric, row)
    reports = tuple(
        replace(report, rows=[row for row in report.rows if row.metric in differing])
        for report in group.reports
    )
    return replace(group, reports=reports), [_alike(row) for row in alike.values()]


def _alike(row: ComparisonRow) -> str:
    """ "scripts 0.000", with the references' score where that is another one."""
    name = single_line(row.metric)
    if not row.n:
        return f"{name} not scored"
    places = decimals_for([row.base, row.reference])
    base, reference = (format_number(v, places) for v in (row.base, row.reference))
    other = row.reference is not None and reference != base
    return f"{name} {base}" + (f" (ref {reference})" if other else "")


def _fit(table: Table, width: int) -> tuple[Table, list[int]]:
    """The columns that fit `width` and how wide each is; base and tuned stay to the last."""
    for names, drops in ((_COMFORTABLE, ()), (_COMFORTABLE, _DISPENSABLE), (_LEAST, ())):
        for drop in (None, *drops):
            if drop is not None:
                table = table.without(drop)
            widths = _widths(table, width, names)
            if _total(widths) <= width:
                return table, widths
    # Narrower than the numbers themselves: as much of each column as there is room for.
    room = max(0, width - len(_GAP) * (len(widths) - 1))
    return table, [min(w, room // len(widths)) for w in widths]


def _widths(table: Table, width: int, least: int) -> list[int]:
    """The natural widths, those of names cut evenly (not under `least`) as far as is needed."""
    widths = [
        max(display_width(text) for text in (column.short, *(row[i].text for row in table.rows)))
        for i, column in enumerate(table.columns)
    ]
    names = [i for i, column in enumerate(table.columns) if column.data]
    while _total(widths) > width:
        widest = max(names, key=lambda i: widths[i])
        if widths[widest] <= least:
            break
        widths[widest] -= 1
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _cell(cell: Cell, width: int, data: bool, color: bool) -> str:
    text = _clip_name(cell.text, width) if data else clip(cell.text, width)
    padded = pad(text, width, not data)
    return padded.replace(text, f"\x1b[1m{text}\x1b[0m", 1) if color and cell.bold else padded


def _clip_name(text: str, width: int) -> str:
    """A name cut before its arrow, so that the direction stays in sight."""
    if display_width(text) <= width or text[-2:] not in (" ↑", " ↓") or width < _LEAST:
        return clip(text, width)
    return clip(text[:-2], width - 2) + text[-2:]


def _join(parts: Sequence[str], width: int) -> list[str]:
    """The parts with " · " between them, a new line begun rather than a part broken."""
    lines: list[str] = []
    for part in parts:
        if lines and display_width(lines[-1]) + 3 + display_width(part) <= width:
            lines[-1] += f" · {part}"
        else:
            lines += wrap(part, width, _INDENT)
    return lines
