"""Navigation: a labelled nav with a list of links, one of them the current page."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import Assertion

from .. import content
from ..banks import WORDS
from ..choices import Choices
from ..family import Family, an, lines, listing, quote, quoted
from ..markup import Node, el, render


@dataclass(frozen=True)
class Navigation:
    label: str
    tag: str
    links: tuple[tuple[str, str], ...]
    current: int

    @property
    def here(self) -> tuple[str, str]:
        return self.links[self.current]


def draw_links(c: Choices, k: int) -> tuple[tuple[str, str], ...]:
    """`k` links (text, href), all texts and all addresses different."""
    of = content.theme(c)
    style = c.one(("/{}", "#{}", "/{}.html", "/{}/"))
    texts = content.items(c, of, k)
    words = c.some(WORDS, k)
    return tuple(
        (content.capital(text), style.format(word)) for text, word in zip(texts, words, strict=True)
    )


def _draw(c: Choices) -> Navigation:
    k = c.between(3, 5)
    label = c.one(("Main", "Footer", "Chapters", "Site", "Shortcuts", "Sections", "Help", "Shop"))
    return Navigation(label, c.one(("ul", "ol")), draw_links(c, k), c.below(k))


def _write(x: Navigation) -> str:
    rows: list[Node] = []
    for i, (text, href) in enumerate(x.links):
        attributes: dict[str, str | None] = {"href": href}
        if i == x.current:
            attributes["aria-current"] = "page"
        rows.append(el("li", None, el("a", attributes, text)))
    return render([el("nav", {"aria-label": x.label}, el(x.tag, None, *rows))])


def _check(x: Navigation) -> list[Assertion]:
    return [
        Assertion("nav", count=1, attribute="aria-label", value=x.label),
        Assertion(f"nav > {x.tag} > li > a", count=len(x.links)),
        Assertion("nav li:first-child > a", 1, x.links[0][0], "href", x.links[0][1]),
        Assertion("nav li:last-child > a", 1, x.links[-1][0], "href", x.links[-1][1]),
        Assertion("nav a[aria-current]", 1, x.here[0], "aria-current", "page"),
    ]


def _order(x: Navigation) -> str:
    links = listing([f"{quote(text)} to {href}" for text, href in x.links])
    return (
        f"Write a nav with the aria-label {quote(x.label)} and {an(x.tag)} of links: {links}. "
        f'Mark {quote(x.here[0])} with aria-current="page".'
    )


def _question(x: Navigation) -> str:
    links = ", ".join(f"{text} ({href})" for text, href in x.links)
    return (
        f"What would a navigation labelled {quote(x.label)} (aria-label on nav) look like, with a "
        f"{x.tag} holding these links: {links}? The visitor is on {quote(x.here[0])}, so that link "
        f"needs aria-current page."
    )


def _spec(x: Navigation) -> str:
    links = lines([f"{text} -> {href}" for text, href in x.links])
    return f"nav, aria-label={x.label}, {x.tag} of links\n{links}\naria-current=page: {x.here[0]}"


def _story(x: Navigation) -> str:
    links = ", then ".join(f"{quote(text)} leading to {href}" for text, href in x.links)
    return (
        f"People get lost on our site. They need a nav, named {quote(x.label)} by its aria-label, "
        f"with {an(x.tag)} in it: {links}. They are reading {quote(x.here[0])} right now; say so "
        f"with aria-current set to page."
    )


def _star(x: Navigation) -> str:
    links = "\n".join(
        f"{href} {text}{' *' if i == x.current else ''}" for i, (text, href) in enumerate(x.links)
    )
    return (
        f"{links}\n\nAddresses and link texts as above, the current page starred (aria-current is "
        f"page there, and the star is dropped). Put them as {x.tag} in a nav; its aria-label: "
        f"{x.label}"
    )


def _two_lists(x: Navigation) -> str:
    return (
        f"Take the link texts {quoted([text for text, _ in x.links])} with, in the same order, the "
        f"targets {listing([href for _, href in x.links])}. One a in one li each, all in "
        f"{an(x.tag)} inside nav. Screen readers announce the nav as {quote(x.label)} "
        f"(aria-label) and the link number {x.current + 1} as the current page (aria-current)."
    )


NAVIGATION = Family(
    "navigation", _draw, _write, _check, (_order, _question, _spec, _story), (_star, _two_lists)
)
