"""Tables with a caption, a head and one cell that spans: a foot, a group row or a shared cell."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import Assertion

from .. import content
from ..banks import DAYS, PEOPLE
from ..choices import Choices
from ..family import Family, quote
from ..markup import Element, el, render


@dataclass(frozen=True)
class Table:
    """span: "foot" a last row in tfoot over all columns; "group" a first row in tbody over all
    columns (a th); "shared" the first column's cell over all rows of the body."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    span: str
    spanned: str

    @property
    def columns(self) -> int:
        return len(self.head)


def _draw(c: Choices) -> Table:
    of = content.theme(c)
    span = c.one(("shared", "foot", "group"))
    k = c.between(2, 3)
    head: tuple[str, ...] = (
        c.one(("Name", "Thing", "What", "Article")),
        *c.some(("Price", "Number", "Day", "Keeper", "Time"), 2 if span != "shared" else 1),
    )
    rows = tuple(
        (content.capital(item), *(_cell(c, column) for column in head[1:]))
        for item in content.items(c, of, k)
    )
    caption = content.title(c, of)
    if span == "shared":
        spanned = content.capital(c.one(of.places))
        head = (c.one(("Place", "Where")), *head)
    else:
        spanned = content.sentence(c, of) if span == "foot" else content.capital(c.one(of.places))
    return Table(caption, head, rows, span, spanned)


def _cell(c: Choices, column: str) -> str:
    if column == "Price":
        return content.price(c)
    if column == "Day":
        return c.one(DAYS)
    if column == "Keeper":
        return c.one(PEOPLE)
    return content.clock(c) if column == "Time" else str(c.between(1, 400))


def _row(cells: tuple[str, ...], tag: str = "td") -> Element:
    return el("tr", None, *(el(tag, None, cell) for cell in cells))


def _write(x: Table) -> str:
    rows = [_row(cells) for cells in x.rows]
    over_all: dict[str, str | None] = {"colspan": str(x.columns)}
    if x.span == "group":
        rows.insert(0, el("tr", None, el("th", over_all, x.spanned)))
    if x.span == "shared":
        shared = el("td", {"rowspan": str(len(rows))}, x.spanned)
        rows[0] = el("tr", None, shared, *rows[0].children)
    parts = [
        el("caption", None, x.caption),
        el("thead", None, _row(x.head, "th")),
        el("tbody", None, *rows),
    ]
    if x.span == "foot":
        parts.append(el("tfoot", None, el("tr", None, el("td", over_all, x.spanned))))
    return render([el("table", None, *parts)])


def _check(x: Table) -> list[Assertion]:
    spanning = {
        "foot": Assertion("tfoot td", 1, x.spanned, "colspan", str(x.columns)),
        "group": Assertion("tbody th", 1, x.spanned, "colspan", str(x.columns)),
        "shared": Assertion("tbody td[rowspan]", 1, x.spanned, "rowspan", str(len(x.rows))),
    }
    return [
        Assertion("table > caption", count=1, text=x.caption),
        Assertion("thead th", count=x.columns, text=x.head[-1]),
        Assertion("tbody tr", count=len(x.rows) + (x.span == "group")),
        Assertion("tbody td", text=x.rows[0][-1]),
        Assertion("tbody td", text=x.rows[-1][0]),
        spanning[x.span],
    ]


def _data(x: Table, between: str = "; ", cells: str = ", ") -> str:
    return between.join(cells.join(row) for row in x.rows)


def _order(x: Table) -> str:
    span = {
        "foot": f"Add a tfoot with one cell over all {x.columns} columns: {quote(x.spanned)}",
        "group": f"The first row of the tbody is one th over all {x.columns} columns, "
        f"{quote(x.spanned)}.",
        "shared": f"The first column is one cell {quote(x.spanned)} that spans all body rows.",
    }
    return (
        f"Create a table with the caption {quote(x.caption)}, a thead with {', '.join(x.head)} "
        f"and a tbody with these rows: {_data(x)}. {span[x.span]}"
    )


def _question(x: Table) -> str:
    span = {
        "foot": f"a tfoot where one cell with colspan {x.columns} says {quote(x.spanned)}",
        "group": f"{quote(x.spanned)} as a th with colspan {x.columns} in a row on top of the "
        "tbody",
        "shared": f"{quote(x.spanned)} as the first cell, with rowspan {len(x.rows)}",
    }
    return (
        f"Could you put this into a table called {quote(x.caption)} (caption)? Head cells in "
        f"thead: {' | '.join(x.head)}. Rows in tbody: {_data(x, ' / ', ' | ')}. I also need "
        f"{span[x.span]}"
    )


def _spec(x: Table) -> str:
    span = {
        "foot": f"tfoot, colspan {x.columns}",
        "group": f"tbody, first row, th, colspan {x.columns}",
        "shared": f"tbody, first cell, rowspan {len(x.rows)}",
    }
    return (
        f"caption: {x.caption}\nthead: {', '.join(x.head)}\ntbody:\n{_data(x, chr(10))}\n"
        f"{span[x.span]}: {x.spanned}"
    )


def _story(x: Table) -> str:
    span = {
        "foot": f"Below, in a tfoot, one wide cell (colspan {x.columns}) remarks: "
        f"{quote(x.spanned)}",
        "group": f"All rows belong to {quote(x.spanned)}, so begin the tbody with a row of a "
        f"single th, colspan {x.columns}, saying so.",
        "shared": f"They are all at {quote(x.spanned)}, so that is one td with rowspan "
        f"{len(x.rows)} at the start.",
    }
    return (
        f"I keep a list titled {quote(x.caption)} and want it as a table with that caption. The "
        f"thead says {', '.join(x.head)}; the tbody has {_data(x, ' and then ')}. {span[x.span]}"
    )


def _csv(x: Table) -> str:
    span = {
        "foot": f"Close with a tfoot: one td, colspan={x.columns}, text {quote(x.spanned)}",
        "group": f"In front of the body's rows goes <tr> with a th, colspan={x.columns}, text "
        f"{quote(x.spanned)}",
        "shared": f"One td, rowspan={len(x.rows)}, text {quote(x.spanned)}, fills the first "
        "column.",
    }
    return (
        f"{','.join(x.head)}\n{_data(x, chr(10), ',')}\n\nThat was CSV. As an HTML table (thead, "
        f"tbody) its caption reads {quote(x.caption)}. {span[x.span]}"
    )


def _by_record(x: Table) -> str:
    own = x.head[1:] if x.span == "shared" else x.head
    records = "\n".join(
        ", ".join(f"{name} = {cell}" for name, cell in zip(own, row, strict=True)) for row in x.rows
    )
    span = {
        "foot": f"a footer row (tfoot) whose only cell covers {x.columns} columns: {x.spanned}",
        "group": f"a th that covers {x.columns} columns as the first body row: {x.spanned}",
        "shared": f"under {x.head[0]}, the leftmost column, a cell over all {len(x.rows)} body "
        f"rows: {x.spanned}",
    }
    return (
        f"{len(x.rows)} records:\n{records}\nTabulate them, names in the thead, records in the "
        f"tbody, {quote(x.caption)} as caption; with {span[x.span]}"
    )


TABLES = Family(
    "table", _draw, _write, _check, (_order, _question, _spec, _story), (_csv, _by_record)
)
