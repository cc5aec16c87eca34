"""Flat lists under a heading, and lists within lists."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import Assertion

from .. import content
from ..choices import Choices
from ..family import Family, an, lines, listing, quote, quoted
from ..markup import el, render

_SORT = {"ul": "bulleted", "ol": "numbered"}


@dataclass(frozen=True)
class FlatList:
    title: str
    level: int
    tag: str
    attribute: str
    value: str
    entries: tuple[str, ...]
    linked: int
    href: str

    @property
    def link_text(self) -> str:
        return self.entries[self.linked]


def _draw_flat(c: Choices) -> FlatList:
    of = content.theme(c)
    k = c.between(3, 5)
    title, level = content.title(c, of), c.between(2, 3)
    tag = c.one(("ul", "ol"))
    attribute = c.one(("id", "class") if tag == "ul" else ("id", "class", "start"))
    value = str(c.between(2, 60)) if attribute == "start" else content.word(c)
    entries = content.entries(c, of, k)
    return FlatList(title, level, tag, attribute, value, entries, c.below(k), f"/{content.word(c)}")


def _write_flat(x: FlatList) -> str:
    rows = [
        el("li", None, el("a", {"href": x.href}, text) if i == x.linked else text)
        for i, text in enumerate(x.entries)
    ]
    return render([el(f"h{x.level}", None, x.title), el(x.tag, {x.attribute: x.value}, *rows)])


def _check_flat(x: FlatList) -> list[Assertion]:
    return [
        Assertion(f"h{x.level}", count=1, text=x.title),
        Assertion(x.tag, count=1, attribute=x.attribute, value=x.value),
        Assertion(f"{x.tag} > li", count=len(x.entries)),
        Assertion(f"{x.tag} > li:first-child", text=x.entries[0]),
        Assertion(f"{x.tag} > li:last-child", text=x.entries[-1]),
        Assertion("li a", count=1, text=x.link_text),
        Assertion("li a", attribute="href", value=x.href),
    ]


def _flat_order(x: FlatList) -> str:
    return (
        f"Make a {_SORT[x.tag]} list ({x.tag}) with {x.attribute} {quote(x.value)} under an "
        f"h{x.level} that says {quote(x.title)}. The entries are {quoted(x.entries)}. "
        f"Link {quote(x.link_text)} to {x.href}."
    )


def _flat_question(x: FlatList) -> str:
    return (
        f"How do I write {quoted(x.entries, ' and then ')} as a list in HTML? Use {x.tag} with "
        f"{x.attribute} set to {quote(x.value)}, an h{x.level} {quote(x.title)} before it, and "
        f"make the text of {quote(x.link_text)} a link to {x.href}."
    )


def _flat_spec(x: FlatList) -> str:
    return (
        f"h{x.level}: {x.title}\n{x.tag}, {x.attribute}={x.value}\n{lines(x.entries)}\n"
        f"link: {x.link_text} -> {x.href}"
    )


def _flat_story(x: FlatList) -> str:
    return (
        f"Our page has a part called {quote(x.title)}, an h{x.level}, and readers want to see "
        f"{len(x.entries)} things there: {'; '.join(x.entries)}. Please use one {x.tag} whose "
        f"{x.attribute} is {quote(x.value)}. A click on {quote(x.link_text)} leads to {x.href}."
    )


def _flat_numbered(x: FlatList) -> str:
    rows = "\n".join(f"{i}. {text}" for i, text in enumerate(x.entries, 1))
    return (
        f"Entries:\n{rows}\nEach becomes an li of a single <{x.tag} {x.attribute}={x.value}>, and "
        f"number {x.linked + 1} is wrapped in a link to {x.href}. Above: an h{x.level} with the "
        f"words {quote(x.title)}."
    )


def _flat_backwards(x: FlatList) -> str:
    return (
        f"{quote(x.link_text)} must point to {x.href}; it is one entry of {an(x.tag)} which holds, "
        f"from first to last, {' | '.join(x.entries)}. The {x.tag} carries the {x.attribute} "
        f"{quote(x.value)} and follows an h{x.level}: {x.title}"
    )


FLAT_LIST = Family(
    "list",
    _draw_flat,
    _write_flat,
    _check_flat,
    (_flat_order, _flat_question, _flat_spec, _flat_story),
    (_flat_numbered, _flat_backwards),
)


@dataclass(frozen=True)
class NestedList:
    outer: str
    inner: str
    css_class: str
    groups: tuple[tuple[str, tuple[str, ...]], ...]


def _draw_nested(c: Choices) -> NestedList:
    of = content.theme(c)
    sizes = c.one(((2, 2), (1, 2), (3, 2), (2, 1, 2), (2, 2, 1)))
    outer, inner, css_class = c.one(("ul", "ol")), c.one(("ul", "ol")), content.word(c)
    labels = [content.capital(place) for place in c.some(of.places, len(sizes))]
    left = list(content.entries(c, of, sum(sizes)))
    groups = tuple(
        (label, tuple(left.pop(0) for _ in range(size)))
        for label, size in zip(labels, sizes, strict=True)
    )
    return NestedList(outer, inner, css_class, groups)


def _write_nested(x: NestedList) -> str:
    rows = [
        el("li", None, label, el(x.inner, None, *(el("li", None, text) for text in texts)))
        for label, texts in x.groups
    ]
    return render([el(x.outer, {"class": x.css_class}, *rows)])


def _check_nested(x: NestedList) -> list[Assertion]:
    inner = f"{x.outer}.{x.css_class} > li > {x.inner}"
    return [
        Assertion(f"{x.outer}.{x.css_class}", count=1),
        Assertion(f"{x.outer}.{x.css_class} > li", count=len(x.groups)),
        Assertion(inner, count=len(x.groups)),
        Assertion(f"{inner} > li", count=sum(len(texts) for _, texts in x.groups)),
        Assertion(f"{inner} > li", text=x.groups[0][1][0]),
        Assertion(f"{inner} > li", text=x.groups[-1][1][-1]),
    ]


def _nested_order(x: NestedList) -> str:
    groups = "; ".join(f"{quote(label)} with {quoted(texts)}" for label, texts in x.groups)
    return (
        f"Build a nested list. The outer list is {x.outer} with class {quote(x.css_class)}; each "
        f"of its entries holds an inner {x.inner}: {groups}."
    )


def _nested_question(x: NestedList) -> str:
    groups = " ".join(f"Under {quote(label)} come {quoted(texts)}." for label, texts in x.groups)
    return (
        f"What is the HTML for {an(x.outer)} of class {quote(x.css_class)} where every entry has "
        f"its own {x.inner} inside? {groups}"
    )


def _nested_spec(x: NestedList) -> str:
    groups = "\n".join(f"- {label}\n{lines(texts, '  - ')}" for label, texts in x.groups)
    return f"Outer: {x.outer}, class={x.css_class}. Inner: {x.inner}.\n{groups}"


def _nested_story(x: NestedList) -> str:
    groups = ", while ".join(f"{quote(label)} has {quoted(texts)}" for label, texts in x.groups)
    return (
        f"We sort our things by place: {groups}. Show the places as {an(x.outer)} with the class "
        f"{quote(x.css_class)} and the things of each place as {an(x.inner)} within its entry."
    )


def _nested_paths(x: NestedList) -> str:
    paths = "\n".join(f"{label} / {text}" for label, texts in x.groups for text in texts)
    return (
        f"These are paths of a two-level list:\n{paths}\nLevel one is <{x.outer} "
        f"class={x.css_class}>, one li a name; level two is {an(x.inner)} in that li."
    )


def _nested_table_of_contents(x: NestedList) -> str:
    groups = "; ".join(f"{label} ({listing(texts, ', ')})" for label, texts in x.groups)
    return (
        f"Contents to be shown, inner entries in brackets: {groups}. Brackets turn into {x.inner} "
        f"lists, and all of it sits in one {x.outer} that has {x.css_class} for its class."
    )


NESTED_LIST = Family(
    "nested-list",
    _draw_nested,
    _write_nested,
    _check_nested,
    (_nested_order, _nested_question, _nested_spec, _nested_story),
    (_nested_paths, _nested_table_of_contents),
)
