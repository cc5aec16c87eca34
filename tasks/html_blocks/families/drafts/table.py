"""A table with a caption, a head and two columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.records import Assertion

from ... import content
from ...choices import Choices
from ...family import quote
from ...markup import Element, el, render
from .draft import Change, Draft


class TableDraft(Draft):
    def __init__(self, c: Choices) -> None:
        self.of = content.theme(c)
        self.caption, self.new_caption = content.titles(c, self.of, 2)
        self.head = [c.one(("Name", "Thing", "What")), c.one(("Price", "Cost", "Euros"))]
        items = content.items(c, self.of, 3)
        *rows, new = [[content.capital(item), content.price(c)] for item in items]
        self.rows, self.new = rows, new

    def write(self) -> str:
        def row(cells: list[str], tag: str = "td") -> Element:
            return el("tr", None, *(el(tag, None, cell) for cell in cells))

        table = el(
            "table",
            None,
            el("caption", None, self.caption),
            el("thead", None, row(self.head, "th")),
            el("tbody", None, *(row(cells) for cells in self.rows)),
        )
        return render([table])

    def changes(self) -> Sequence[Callable[[Choices], Change]]:
        return (self._caption, self._row, self._head, self._cell)

    def _caption(self, c: Choices) -> Change:
        self.caption = self.new_caption
        text = quote(self.caption)
        return Change(
            f"Change the caption to {text}.",
            f"the caption reads {text}",
            f"caption stale, take {text}",
            (Assertion("caption", count=1, text=self.caption),),
        )

    def _row(self, c: Choices) -> Change:
        self.rows.append(self.new)
        first, second = (quote(cell) for cell in self.new)
        return Change(
            f"Add a last row to the tbody with {first} and {second}.",
            f"the tbody has one more row at its end, {first} and {second}",
            f"tbody lacks a last row: {first}, {second}",
            (
                Assertion("tbody tr:last-child > td:first-child", text=self.new[0]),
                Assertion("tbody tr:last-child > td:last-child", text=self.new[1]),
            ),
        )

    def _head(self, c: Choices) -> Change:
        self.head[1] = c.one(("In euros", "Per piece", "Price today", "From"))
        text = quote(self.head[1])
        return Change(
            f"Rename the last head cell to {text}.",
            f"the last head cell reads {text}",
            f"2nd th should be {text}",
            (Assertion("thead th:last-child", text=self.head[1]),),
        )

    def _cell(self, c: Choices) -> Change:
        self.rows[0][1] = f"{c.between(100, 400)}.00"
        name, text = quote(self.rows[0][0]), quote(self.rows[0][1])
        return Change(
            f"Set the price of {name} to {text}.",
            f"the price of {name} is {text}",
            f"new price for {name}, {text}",
            (Assertion("tbody tr:first-child > td:last-child", text=self.rows[0][1]),),
        )

    def kept(self) -> Sequence[Assertion]:
        return (
            Assertion("tbody tr", count=len(self.rows)),
            Assertion("tbody td", count=2 * len(self.rows), text=self.rows[1][0]),
        )
