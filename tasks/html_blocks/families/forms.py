"""Forms: labelled inputs with types, some required, at times a select or a textarea."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import Assertion

from .. import content
from ..banks import ACTIONS
from ..choices import Choices
from ..family import Family, listing, quote
from ..markup import Element, el, render

# label, name, type
_INPUTS = (
    ("Email", "email", "email"),
    ("Phone", "phone", "tel"),
    ("Website", "site", "url"),
    ("Full name", "name", "text"),
    ("Town", "town", "text"),
    ("Password", "password", "password"),
    ("Visit on", "visit", "date"),
    ("Arrival", "arrival", "time"),
    ("Guests", "guests", "number"),
    ("Age", "age", "number"),
    ("Search for", "query", "search"),
    ("Voucher & code", "voucher", "text"),
    ("Work email", "work", "email"),
    ("Best month", "best", "month"),
    ("Photo", "photo", "file"),
    ("Paint", "paint", "text"),
    ("Nickname", "nick", "text"),
    ("Street", "street", "text"),
    ("Mobile", "mobile", "tel"),
    ("Birthday", "birthday", "date"),
    ("Deadline", "deadline", "date"),
    ("Size in cm", "size", "number"),
    ("Tickets", "tickets", "number"),
    ("Home page", "home", "url"),
    ("Your secret", "secret", "password"),
    ("Invite a friend", "friend", "email"),
    ("Wake-up call", "wake", "time"),
    ("Meeting", "meeting", "datetime-local"),
    ("Volume", "volume", "number"),
    ("Certificate", "proof", "file"),
    ("Holiday week", "week", "week"),
    ("Find a street", "find", "search"),
)
_AREAS = (
    ("Message", "message"),
    ("Questions", "questions"),
    ("Address", "address"),
    ("Allergies", "allergies"),
    ("Why you?", "why"),
    ("Remarks", "remarks"),
    ("Your idea", "idea"),
    ("Route", "route"),
)
_SELECTS = (
    ("Topic", "topic"),
    ("Choice", "choice"),
    ("Subject", "subject"),
    ("Favourite", "favourite"),
    ("Course", "course"),
    ("Which one?", "which"),
    ("Present", "present"),
    ("Group", "group"),
)


@dataclass(frozen=True)
class Field:
    """sort: "input", "textarea" (detail: its rows) or "select" (options)."""

    sort: str
    label: str
    name: str
    detail: str
    required: bool
    options: tuple[str, ...] = ()

    @property
    def selector(self) -> str:
        kind = f'[type="{self.detail}"]' if self.sort == "input" else ""
        return f'{self.sort}{kind}[name="{self.name}"]'

    def nodes(self) -> tuple[Element, Element]:
        attributes: dict[str, str | None] = {"id": self.name, "name": self.name}
        if self.sort != "select":
            attributes["type" if self.sort == "input" else "rows"] = self.detail
        if self.required:
            attributes["required"] = None
        options = (el("option", None, option) for option in self.options)
        label = el("label", {"for": self.name}, self.label)
        return label, el(self.sort, attributes, *options)


@dataclass(frozen=True)
class Form:
    action: str
    method: str
    fields: tuple[Field, ...]
    button: str

    @property
    def required(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if field.required)


def draw_inputs(c: Choices, k: int, required: int) -> tuple[Field, ...]:
    """`k` inputs of different names; the first `required` of them in a drawn order are required."""
    chosen = c.some(_INPUTS, k)
    forced = c.some(range(k), required)
    return tuple(
        Field("input", label, name, kind, i in forced)
        for i, (label, name, kind) in enumerate(chosen)
    )


def _draw(c: Choices) -> Form:
    last = c.one(("input", "textarea", "select"))
    k = 3 if last == "input" else 2
    fields = draw_inputs(c, k, c.between(1, 2))
    if last == "textarea":
        label, name = c.one(_AREAS)
        fields += (Field(last, label, name, str(c.between(2, 9)), c.chance(3)),)
    elif last == "select":
        # Never required: a required select must begin with an empty option.
        label, name = c.one(_SELECTS)
        options = content.items(c, content.theme(c), c.between(2, 3))
        options = tuple(content.capital(option) for option in options)
        fields += (Field(last, label, name, "", False, options),)
    action = f"/{content.word(c)}/{content.word(c)}"
    return Form(action, c.one(("get", "post")), fields, c.one(ACTIONS))


def _write(x: Form) -> str:
    inside = [node for field in x.fields for node in field.nodes()]
    inside.append(el("button", {"type": "submit"}, x.button))
    return render([el("form", {"action": x.action, "method": x.method}, *inside)])


def _check(x: Form) -> list[Assertion]:
    select = [field for field in x.fields if field.options]
    return [
        Assertion("form", count=1, attribute="action", value=x.action),
        Assertion("form", attribute="method", value=x.method),
        *(Assertion(f.selector, 1, attribute="required" if f.required else None) for f in x.fields),
        Assertion("label", text=x.fields[0].label),
        *(Assertion("select option", len(f.options), f.options[-1]) for f in select),
        Assertion("form button", count=1, text=x.button),
    ]


def _kind(field: Field) -> str:
    if field.sort == "input":
        return f"type {field.detail}"
    if field.sort == "textarea":
        return f"textarea with {field.detail} rows"
    return f"select with {listing(field.options)}"


def _order(x: Form) -> str:
    fields = "; ".join(
        f"{quote(f.label)} (name {f.name}, {_kind(f)}{', required' if f.required else ''})"
        for f in x.fields
    )
    return (
        f"Create a form that sends by {x.method} to {x.action}. Labelled fields, each id equal to "
        f"its name: {fields}. The submit button says {quote(x.button)}."
    )


def _question(x: Form) -> str:
    fields = ", ".join(f"{quote(f.label)} [{f.name}, {_kind(f)}]" for f in x.fields)
    return (
        f"Can you give me a form with action {x.action} and method {x.method}? It asks for "
        f"{fields}. In brackets are name and kind; the id repeats the name and every field has "
        f"its label. Required: {listing([f.name for f in x.required])}. Submit button: "
        f"{quote(x.button)}."
    )


def _spec(x: Form) -> str:
    fields = "\n".join(
        f"- {f.label}: {f.name}, {_kind(f)}{', required' if f.required else ''}" for f in x.fields
    )
    return (
        f"form action={x.action} method={x.method}\nfields with label (id = name):\n{fields}\n"
        f"submit button: {x.button}"
    )


def _story(x: Form) -> str:
    fields = ", then ".join(f"{quote(f.label)} ({_kind(f)}, named {f.name})" for f in x.fields)
    need = listing([quote(f.label) for f in x.required])
    return (
        f"Visitors of our site fill in {fields}, and press the submit button {quote(x.button)}. "
        f"They may not leave out {need}. The form uses {x.method} and goes to {x.action}; labels "
        f"belong to fields by id, which is the name."
    )


def _table(x: Form) -> str:
    fields = "\n".join(
        f"{f.label} | {f.name} | {_kind(f)} | {'must be given' if f.required else 'optional'}"
        for f in x.fields
    )
    return (
        f"label | name and id | kind | need\n{fields}\n\nThat is what my form must collect, with a "
        f"label element for each. Target: {x.action}, by {x.method}. Text of the submit button: "
        f"{x.button}"
    )


def _button_first(x: Form) -> str:
    fields = " ".join(
        f"{'Mandatory' if f.required else 'Free'}: {quote(f.label)}, {_kind(f)}, {f.name}."
        for f in x.fields
    )
    return (
        f"A submit button {quote(x.button)} ends a form; pressing it does a {x.method} on "
        f"{x.action}. Before it stand these fields and their labels, with label text, kind, and "
        f"the word used for name and id alike (mandatory means the required attribute). {fields}"
    )


FORMS = Family(
    "form", _draw, _write, _check, (_order, _question, _spec, _story), (_table, _button_first)
)
