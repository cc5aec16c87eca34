"""Cards: a div with a heading, a text, a price or date, and a link that looks like a button."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import Assertion

from .. import content
from ..banks import ACTIONS, PEOPLE
from ..choices import Choices
from ..family import Family, quote
from ..markup import el, render


@dataclass(frozen=True)
class Card:
    css_class: str
    id: str
    level: int
    title: str
    text: str
    note_class: str
    note: str
    action: str
    href: str


def _draw(c: Choices) -> Card:
    of = content.theme(c)
    note_class = c.one(("price", "date", "author"))
    note = {
        "price": lambda: f"{content.price(c)} euros",
        "date": lambda: content.date(c)[0],
        "author": lambda: f"By {c.one(PEOPLE)}",
    }[note_class]()
    return Card(
        c.one(("card", "card wide", "card dark", "card teaser", "tile", "box")),
        f"{content.word(c)}-{c.between(1, 30)}",
        c.between(2, 4),
        content.title(c, of),
        content.sentence(c, of),
        note_class,
        note,
        c.one(ACTIONS),
        f"/{of.name}/{content.word(c)}",
    )


def _write(x: Card) -> str:
    return render(
        [
            el(
                "div",
                {"id": x.id, "class": x.css_class},
                el(f"h{x.level}", None, x.title),
                el("p", None, x.text),
                el("p", {"class": x.note_class}, x.note),
                el("a", {"class": "button", "href": x.href}, x.action),
            )
        ]
    )


def _check(x: Card) -> list[Assertion]:
    return [
        Assertion(f"div#{x.id}", count=1, attribute="class", value=x.css_class),
        Assertion(f"#{x.id} > h{x.level}", count=1, text=x.title),
        Assertion(f"#{x.id} > p", count=2, text=x.text),
        Assertion(f"p.{x.note_class}", count=1, text=x.note),
        Assertion("a.button", count=1, text=x.action),
        Assertion("a.button", attribute="href", value=x.href),
    ]


def _order(x: Card) -> str:
    return (
        f"Build a div with id {quote(x.id)} and class {quote(x.css_class)}. In it: an h{x.level} "
        f"{quote(x.title)}, a paragraph {quote(x.text)}, a paragraph of class "
        f"{quote(x.note_class)} with {quote(x.note)}, and a link of class {quote('button')} to "
        f"{x.href} that reads {quote(x.action)}."
    )


def _question(x: Card) -> str:
    return (
        f"Can I have a card headed {quote(x.title)} (h{x.level})? It says {quote(x.text)} and "
        f"then, in a p with class {quote(x.note_class)}, {quote(x.note)}. Below is "
        f"{quote(x.action)}, an a with class {quote('button')} that goes to {x.href}. The card is "
        f"a div, id {quote(x.id)}, class {quote(x.css_class)}."
    )


def _spec(x: Card) -> str:
    return (
        f"div id={x.id} class={quote(x.css_class)}\nh{x.level}: {x.title}\np: {x.text}\n"
        f"p.{x.note_class}: {x.note}\na.button ({x.href}): {x.action}"
    )


def _story(x: Card) -> str:
    return (
        f"Our start page gets one more card, a div known as {quote(x.id)} (its id) and styled by "
        f"the class {quote(x.css_class)}. The h{x.level} is {quote(x.title)}. A first paragraph "
        f"tells {quote(x.text)}, a second one, with class {quote(x.note_class)}, just "
        f"{quote(x.note)}. Whoever clicks on {quote(x.action)}, a link with class "
        f"{quote('button')}, lands on {x.href}."
    )


def _json(x: Card) -> str:
    return (
        f"Card data:\nid: {x.id}\nclasses: {x.css_class}\ntitle: {x.title}\nbody: {x.text}\n"
        f"{x.note_class}: {x.note}\nbutton: {x.action} > {x.href}\nTemplate: the card is a div; "
        f"title in h{x.level}; body in p; {x.note_class} in a p with the class {x.note_class}; "
        f"button as an a with the class button."
    )


def _inside_out(x: Card) -> str:
    return (
        f"An a.button to {x.href} with the text {quote(x.action)} closes a box; above it, from "
        f"the top, come {quote(x.title)} as h{x.level}, {quote(x.text)} as plain p, and "
        f"{quote(x.note)} as p.{x.note_class}. The box: a div whose class attribute is "
        f"{quote(x.css_class)} and whose id is {quote(x.id)}."
    )


CARDS = Family(
    "card", _draw, _write, _check, (_order, _question, _spec, _story), (_json, _inside_out)
)
