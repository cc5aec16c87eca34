"""A navigation of links."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.records import Assertion

from ... import content
from ...choices import Choices
from ...family import quote
from ...markup import el, render
from ..navigation import draw_links
from .draft import Change, Draft


class NavDraft(Draft):
    def __init__(self, c: Choices) -> None:
        *links, self.new = draw_links(c, c.between(4, 5))
        self.links = [(text, {"href": href}) for text, href in links]
        self.label = ""

    def write(self) -> str:
        attributes: dict[str, str | None] = {"aria-label": self.label} if self.label else {}
        rows = (el("li", None, el("a", dict(held), text)) for text, held in self.links)
        return render([el("nav", attributes, el("ul", None, *rows))])

    def changes(self) -> Sequence[Callable[[Choices], Change]]:
        return (self._append, self._current, self._label, self._href)

    def _append(self, c: Choices) -> Change:
        text, href = self.new
        self.links.append((text, {"href": href}))
        return Change(
            f"Add an entry at the end, {quote(text)} linking to {href}.",
            f"the last entry is a link {quote(text)} to {href}",
            f"at the end there lacks {quote(text)} to {href}",
            (Assertion("nav li:last-child > a", 1, text, "href", href),),
        )

    def _current(self, c: Choices) -> Change:
        text, held = self.links[0]
        held["aria-current"] = "page"
        return Change(
            f'Mark the link {quote(text)} with aria-current="page".',
            f'the link {quote(text)} has aria-current="page"',
            f"current page is {quote(text)} (aria-current)",
            (Assertion("a[aria-current]", 1, text, "aria-current", "page"),),
        )

    def _label(self, c: Choices) -> Change:
        self.label = c.one(("Main", "Footer", "Chapters", "Site", "Shortcuts", "Sections"))
        name = quote(self.label)
        return Change(
            f"Give the nav the aria-label {name}.",
            f"the nav has the aria-label {name}",
            f"nav unlabelled, aria-label {name}",
            (Assertion("nav", attribute="aria-label", value=self.label),),
        )

    def _href(self, c: Choices) -> Change:
        text, held = self.links[1]
        held["href"] = f"/{content.word(c)}/{c.between(1, 60)}"
        return Change(
            f"Let the link {quote(text)} point to {held['href']}.",
            f"the link {quote(text)} points to {held['href']}",
            f"{quote(text)} leads nowhere, use {held['href']}",
            (Assertion("nav li:nth-child(2) > a", 1, text, "href", held["href"]),),
        )

    def kept(self) -> Sequence[Assertion]:
        return (
            Assertion("nav > ul > li > a", count=len(self.links)),
            Assertion("nav li:nth-child(3) > a", 1, self.links[2][0]),
        )
