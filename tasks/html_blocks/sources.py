"""What rules draw from, by name: words of the banks, and texts and records composed of them.

A source gets the choices, the values drawn before, and how many to draw. <item>, <place>, <state>
and all that is composed of them are of the theme, so a rule for `theme` comes before them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .banks import BANKS, ENTRIES, PATTERNS, SENTENCES, THEMES, TITLES, capital
from .choices import Choices
from .draws import SOURCES, Source, fill
from .template import Values, joined

Record = dict[str, Any]

_UNUSUAL_ONCE_IN = 14


def _bank(options: tuple[Any, ...]) -> Source:
    return lambda c, values, k: list(c.some(options, k))


def _each(one: Callable[[Choices, Values], Any]) -> Source:
    return lambda c, values, k: [one(c, values) for _ in range(k)]


def _pattern(pattern: str) -> Source:
    return _each(lambda c, values: fill(c, pattern, values))


def _texts(patterns: tuple[str, ...]) -> Source:
    """Texts of different patterns, so different texts."""
    return lambda c, values, k: [fill(c, pattern, values) for pattern in c.some(patterns, k)]


def _of_theme(sort: str) -> Source:
    return lambda c, values, k: list(c.some(getattr(values["theme"], sort), k))


def _items(c: Choices, values: Values, k: int) -> list[str]:
    """Different things of the theme, now and then one with other scripts or `&` and `<`."""
    drawn = list(c.some(values["theme"].items, k))
    if c.chance(max(2, _UNUSUAL_ONCE_IN // k)):
        drawn[c.below(k)] = c.one(BANKS["unusual"])
    return drawn


def _entries(c: Choices, values: Values, k: int) -> list[str]:
    """Different list entries of one pattern."""
    pattern = c.one(ENTRIES)
    return [
        fill(c, pattern, {**values, "item": item, "Item": capital(item)})
        for item in _items(c, values, k)
    ]


def _sentence_parts(c: Choices, values: Values) -> list[str]:
    """A sentence in three: a phrase that an emphasis can stand on, between the rest."""
    before, _, rest = c.one(SENTENCES).rpartition("<")
    phrase, _, after = rest.partition(">")
    return [fill(c, before, values), fill(c, f"<{phrase}>", values), after]


def _date_pair(c: Choices, values: Values) -> list[str]:
    """A date as people write it and as `datetime` wants it: "3 May 2026" and "2026-05-03"."""
    year, month, day = c.between(2019, 2030), c.below(12), c.between(1, 28)
    return [f"{day} {BANKS['month'][month]} {year}", f"{year}-{month + 1:02d}-{day:02d}"]


def _links(c: Choices, values: Values, k: int) -> list[Record]:
    """Links (text, href) of one style; all texts and all addresses are different."""
    style = c.one(("/{}", "#{}", "/{}.html", "/{}/"))
    texts = _items(c, values, k)
    words = c.some(BANKS["word"], k)
    return [
        {"text": capital(text), "href": style.format(word)}
        for text, word in zip(texts, words, strict=True)
    ]


def _inputs(c: Choices, values: Values, k: int) -> list[Record]:
    """Inputs of different names, none of them required."""
    drawn = [row.split(", ") for row in c.some(BANKS["input"], k)]
    return [_field("input", name, label, f"type {kind}", type=kind) for label, name, kind in drawn]


def _fields(c: Choices, values: Values, k: int) -> list[Record]:
    """Inputs, one or two of them required; the last field may be a textarea or a select."""
    last = c.one(("input", "textarea", "select"))
    required = c.between(1, 2)
    fields = _inputs(c, values, k if last == "input" else k - 1)
    for i in c.some(range(len(fields)), required):
        fields[i]["required"] = "required"
    if last == "input":
        return fields
    label, name = c.one(BANKS[last]).split(", ")
    if last == "textarea":
        rows = c.between(2, 9)
        fields.append(_field(last, name, label, f"textarea with {rows} rows", rows=rows))
        fields[-1]["required"] = "required" if c.chance(3) else ""
    else:  # Never required: a required select must begin with an empty option.
        theme, n = c.one(THEMES), c.between(2, 3)
        options = [capital(item) for item in _items(c, {"theme": theme}, n)]
        kind = f"select with {joined(options)}"
        fields.append(_field(last, name, label, kind, options=options))
    return fields


def _field(sort: str, name: str, label: str, kind: str, **more: object) -> Record:
    return {
        "sort": sort,
        "name": name,
        "label": label,
        "kind": kind,
        "required": "",
        "options": [],
        **more,
    }


def _groups(c: Choices, values: Values, k: int) -> list[tuple[str, list[str]]]:
    """Places of the theme, each with as many entries as `sizes` says."""
    places = c.some(values["theme"].places, k)
    sizes = [int(size) for size in values["sizes"]]
    left = iter(_entries(c, values, sum(sizes)))
    return [
        (capital(place), [next(left) for _ in range(size)])
        for place, size in zip(places, sizes, strict=True)
    ]


SOURCES.update({name: _bank(bank) for name, bank in BANKS.items()})
SOURCES.update({name: _pattern(pattern) for name, pattern in PATTERNS.items()})
SOURCES.update(
    theme=_bank(THEMES),
    item=_items,
    place=_of_theme("places"),
    state=_of_theme("states"),
    title=_texts(TITLES),
    sentence=_texts(SENTENCES),
    sentence_parts=_each(_sentence_parts),
    entries=_entries,
    date_pair=_each(_date_pair),
    date=_each(lambda c, values: _date_pair(c, values)[0]),
    link=_links,
    input=_inputs,
    field=_fields,
    group=_groups,
)
