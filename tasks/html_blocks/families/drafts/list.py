"""A heading and a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.records import Assertion

from ... import content
from ...choices import Choices
from ...family import quote
from ...markup import el, render
from .draft import Change, Draft


class ListDraft(Draft):
    def __init__(self, c: Choices) -> None:
        self.of = content.theme(c)
        self.title, self.new_title = content.titles(c, self.of, 2)
        *entries, self.new_last, self.new_first = content.entries(c, self.of, c.between(5, 6))
        self.entries = entries
        self.removable, self.stays = entries[1], entries[2]
        self.tag, self.css_class = "ul", ""

    def write(self) -> str:
        attributes: dict[str, str | None] = {"class": self.css_class} if self.css_class else {}
        rows = (el("li", None, entry) for entry in self.entries)
        return render([el("h2", None, self.title), el(self.tag, attributes, *rows)])

    def changes(self) -> Sequence[Callable[[Choices], Change]]:
        return (self._title, self._first, self._remove, self._append, self._number, self._class)

    def _title(self, c: Choices) -> Change:
        self.title = self.new_title
        text = quote(self.title)
        return Change(
            f"Change the text of the h2 to {text}.",
            f"the h2 reads {text}",
            f"h2 outdated, now {text}",
            (Assertion("h2", count=1, text=self.title),),
        )

    def _first(self, c: Choices) -> Change:
        self.entries[0] = self.new_first
        text = quote(self.new_first)
        return Change(
            f"Replace the text of the first li by {text}.",
            f"the first li reads {text}",
            f"li 1 to become {text}",
            (Assertion("li:first-child", text=self.new_first),),
        )

    def _remove(self, c: Choices) -> Change:
        self.entries.remove(self.removable)
        text = quote(self.removable)
        return Change(
            f"Remove the li {text}.", f"the li {text} is gone", f"no more {text} (drop the li)", ()
        )

    def _append(self, c: Choices) -> Change:
        self.entries.append(self.new_last)
        text = quote(self.new_last)
        return Change(
            f"Add {text} as the last li.",
            f"a last li {text} is added",
            f"one li missing at the end: {text}",
            (Assertion("li:last-child", text=self.new_last),),
        )

    def _number(self, c: Choices) -> Change:
        self.tag = "ol"
        return Change(
            "Turn the ul into an ol.",
            "the ul is an ol",
            "ol wanted, not ul",
            (Assertion("ol > li", count=None), Assertion("ul", count=0)),
        )

    def _class(self, c: Choices) -> Change:
        self.css_class = content.word(c)
        name = quote(self.css_class)
        return Change(
            f"Give the list the class {name}.",
            f"the list has the class {name}",
            f"list without class, add {name}",
            (Assertion("ul, ol", attribute="class", value=self.css_class),),
        )

    def kept(self) -> Sequence[Assertion]:
        return (
            Assertion("ul, ol", count=1),
            Assertion("li", count=len(self.entries), text=self.stays),
            Assertion("h2", count=1, text=self.title),
        )
