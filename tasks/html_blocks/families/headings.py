"""Headings and text: a heading with an emphasis in its first paragraph, and parts under it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import Assertion

from .. import content
from ..choices import Choices
from ..family import Family, an, quote
from ..markup import Node, el, render


@dataclass(frozen=True)
class Headings:
    level: int
    title: str
    intro: str
    key: str
    tag: str
    parts: tuple[tuple[str, str], ...]

    @property
    def under(self) -> str:
        return f"h{self.level + 1}"


def _draw(c: Choices) -> Headings:
    of = content.theme(c)
    level = c.between(1, 3)
    tag = c.one(("strong", "em", "mark", "b"))
    intro, key = content.sentence_with_key(c, of)
    k = c.between(1, 2)
    title, *subs = content.titles(c, of, k + 1)
    texts = content.sentences(c, of, k)
    return Headings(level, title, intro, key, tag, tuple(zip(subs, texts, strict=True)))


def _write(x: Headings) -> str:
    before, _, after = x.intro.rpartition(x.key)
    marked = [n for n in (before, el(x.tag, None, x.key), after) if n]
    nodes: list[Node] = [el(f"h{x.level}", None, x.title), el("p", None, *marked)]
    for sub, text in x.parts:
        nodes += [el(x.under, None, sub), el("p", None, text)]
    return render(nodes)


def _check(x: Headings) -> list[Assertion]:
    return [
        Assertion(f"h{x.level}", count=1, text=x.title),
        Assertion(x.under, count=len(x.parts)),
        *(Assertion(x.under, text=sub) for sub, _ in x.parts),
        Assertion("p", count=len(x.parts) + 1, text=x.intro),
        Assertion(f"p {x.tag}", count=1, text=x.key),
        Assertion("p", text=x.parts[-1][1]),
    ]


def _order(x: Headings) -> str:
    parts = ", then ".join(
        f"an {x.under} {quote(a)} with the paragraph {quote(b)}" for a, b in x.parts
    )
    return (
        f"Write an h{x.level} heading {quote(x.title)} and under it the paragraph {quote(x.intro)} "
        f"with {quote(x.key)} in {an(x.tag)} element. Then add {parts}."
    )


def _question(x: Headings) -> str:
    parts = " ".join(f"Next: {x.under} {quote(a)}, paragraph {quote(b)}" for a, b in x.parts)
    return (
        f"Can you mark up this text? The h{x.level} reads {quote(x.title)}. A paragraph follows: "
        f"{quote(x.intro)} There, {quote(x.key)} goes in {x.tag} tags. {parts}"
    )


def _spec(x: Headings) -> str:
    parts = "\n".join(f"{x.under}: {a}\np: {b}" for a, b in x.parts)
    return f"h{x.level}: {x.title}\np: {x.intro} ({x.tag}: {x.key})\n{parts}"


def _story(x: Headings) -> str:
    parts = " ".join(
        f"Below come the {x.under} {quote(a)} and its paragraph {quote(b)}" for a, b in x.parts
    )
    return (
        f"I am writing a notice called {quote(x.title)}; that is the h{x.level}. It opens with the "
        f"paragraph {quote(x.intro)} and I want {quote(x.key)} inside {x.tag}. {parts}"
    )


def _outline(x: Headings) -> str:
    parts = "\n".join(f"{'#' * (x.level + 1)} {a}\n{b}" for a, b in x.parts)
    before, _, after = x.intro.rpartition(x.key)
    return (
        f"Turn this outline into headings and paragraphs. One # is h1, two are h2 and so on; "
        f"what stands between stars becomes {an(x.tag)} element.\n"
        f"{'#' * x.level} {x.title}\n{before}*{x.key}*{after}\n{parts}"
    )


def _inventory(x: Headings) -> str:
    texts = [x.intro, *(b for _, b in x.parts)]
    return (
        f"Needed in this order: one h{x.level}, one paragraph, then for each {x.under} one "
        f"paragraph. Headings: {'; '.join([x.title, *(a for a, _ in x.parts)])}. Paragraphs: "
        f"{' / '.join(texts)} In the first paragraph wrap the words {quote(x.key)} in {x.tag}."
    )


HEADINGS = Family(
    "headings", _draw, _write, _check, (_order, _question, _spec, _story), (_outline, _inventory)
)
