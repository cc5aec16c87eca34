"""Definition lists: terms with one description each, and one term with two."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import Assertion

from .. import content
from ..banks import COLOURS, DAYS, PEOPLE, Theme
from ..choices import Choices
from ..family import Family, quote, quoted
from ..markup import Node, el, render

_FACTS = ("Price", "Opens", "Keeper", "Colour", "Since", "Shelf", "Number", "Rest day", "Place")


@dataclass(frozen=True)
class Definitions:
    title: str
    level: int
    css_class: str
    facts: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def described(self) -> list[str]:
        return [text for _, texts in self.facts for text in texts]


def _draw(c: Choices) -> Definitions:
    of = content.theme(c)
    title, level, css_class = content.title(c, of), c.between(2, 4), content.word(c)
    terms = c.some(_FACTS, c.between(2, 3))
    facts: list[tuple[str, tuple[str, ...]]] = [(term, (_fact(c, of, term),)) for term in terms]
    last = content.capital(content.items(c, of, 1)[0])
    facts.append((last, content.sentences(c, of, c.between(1, 2))))
    return Definitions(title, level, css_class, tuple(facts))


def _fact(c: Choices, of: Theme, term: str) -> str:
    if term == "Price":
        return f"{content.price(c)} euros"
    if term == "Opens":
        return f"{content.clock(c)} to {c.between(22, 23)}:{c.below(4) * 15:02d}"
    if term == "Keeper":
        return f"{c.one(PEOPLE)} & {c.one(('son', 'team', 'sister', 'friends'))}"
    if term == "Colour":
        return f"{c.one(COLOURS)} or {c.one(('white', 'grey', 'cream', 'silver', 'rose'))}"
    if term == "Since":
        return content.date(c)[0]
    if term == "Shelf":
        return f"{c.one('ABCDEFGH')}-{c.between(1, 60)}"
    if term == "Number":
        return f"{c.between(2, 400)} left"
    return c.one(DAYS) if term == "Rest day" else content.capital(c.one(of.places))


def _write(x: Definitions) -> str:
    rows: list[Node] = []
    for term, texts in x.facts:
        rows += [el("dt", None, term), *(el("dd", None, text) for text in texts)]
    return render([el(f"h{x.level}", None, x.title), el("dl", {"class": x.css_class}, *rows)])


def _check(x: Definitions) -> list[Assertion]:
    return [
        Assertion(f"h{x.level}", count=1, text=x.title),
        Assertion("dl", count=1, attribute="class", value=x.css_class),
        Assertion("dl dt", count=len(x.facts), text=x.facts[0][0]),
        Assertion("dl dd", count=len(x.described), text=x.described[0]),
        Assertion("dt + dd", text=x.facts[1][1][0]),
        Assertion("dl dt", text=x.facts[-1][0]),
        Assertion("dl dd", text=x.described[-1]),
    ]


def _order(x: Definitions) -> str:
    facts = "; ".join(f"{quote(term)}: {quoted(texts)}" for term, texts in x.facts)
    return (
        f"Write an h{x.level} {quote(x.title)} and after it a definition list (dl) with class "
        f"{quote(x.css_class)}. Terms and descriptions: {facts}. Every description is a dd of its "
        "own."
    )


def _question(x: Definitions) -> str:
    facts = ", ".join(f"{quote(term)} means {quoted(texts)}" for term, texts in x.facts)
    return (
        f"Which HTML defines these terms, where {facts}? I want a dl of class "
        f"{quote(x.css_class)}, a dd for each quoted meaning, and an h{x.level} on top: "
        f"{quote(x.title)}."
    )


def _spec(x: Definitions) -> str:
    facts = "\n".join(
        f"dt: {term}\n" + "\n".join(f"dd: {text}" for text in texts) for term, texts in x.facts
    )
    return f"h{x.level}: {x.title}\ndl, class={x.css_class}\n{facts}"


def _story(x: Definitions) -> str:
    facts = " ".join(f"For {quote(term)} it is {quoted(texts)}." for term, texts in x.facts)
    return (
        f"Visitors keep asking the same, so we write down the facts under {quote(x.title)} "
        f"(h{x.level}), as a dl whose class is {quote(x.css_class)}. {facts} If a term has two "
        f"facts, give it two dd."
    )


def _glossary(x: Definitions) -> str:
    facts = "\n".join(f"{term} :: {' :: '.join(texts)}" for term, texts in x.facts)
    return (
        f"{facts}\n\nWhat stands before the first :: is a dt, every piece after it a dd. Gather "
        f"them in one dl that carries the class {x.css_class}; its h{x.level} headline: {x.title}"
    )


def _counts(x: Definitions) -> str:
    facts = " / ".join(f"{term} ({len(texts)})" for term, texts in x.facts)
    return (
        f"A dl with class {quote(x.css_class)} and {len(x.facts)} terms comes below the h{x.level} "
        f"{quote(x.title)}. Terms with their number of dd: {facts}. The dd texts in turn: "
        f"{' / '.join(x.described)}"
    )


DEFINITIONS = Family(
    "definitions", _draw, _write, _check, (_order, _question, _spec, _story), (_glossary, _counts)
)
