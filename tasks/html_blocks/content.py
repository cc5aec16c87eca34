"""Short texts, numbers and names, composed from the banks by drawn choices."""

from __future__ import annotations

from string import Formatter

from .banks import (
    DAYS,
    ENTRIES,
    MONTHS,
    PEOPLE,
    SENTENCES,
    THEMES,
    TITLES,
    UNUSUAL,
    WORDS,
    Theme,
)
from .choices import Choices

_UNUSUAL_ONCE_IN = 14


def theme(c: Choices) -> Theme:
    return c.one(THEMES)


def capital(text: str) -> str:
    """The text with a capital first letter; unusual texts stay as they are."""
    return text if text in UNUSUAL else text[:1].upper() + text[1:]


def items(c: Choices, of: Theme, k: int) -> tuple[str, ...]:
    """`k` different things of the theme, now and then one with other scripts or `&` and `<`."""
    drawn = list(c.some(of.items, k))
    if c.chance(max(2, _UNUSUAL_ONCE_IN // k)):
        drawn[c.below(k)] = c.one(UNUSUAL)
    return tuple(drawn)


def price(c: Choices) -> str:
    return f"{c.between(1, 99)}.{c.below(20) * 5:02d}"


def clock(c: Choices) -> str:
    return f"{c.between(7, 21)}:{c.below(4) * 15:02d}"


def date(c: Choices) -> tuple[str, str]:
    """A date as people write it and as `datetime` wants it: ("3 May 2026", "2026-05-03")."""
    year, month, day = c.between(2019, 2030), c.below(12), c.between(1, 28)
    return f"{day} {MONTHS[month]} {year}", f"{year}-{month + 1:02d}-{day:02d}"


def word(c: Choices) -> str:
    return c.one(WORDS)


def _value(c: Choices, of: Theme, slot: str) -> str:
    if slot in ("item", "Item"):
        item = items(c, of, 1)[0]
        return capital(item) if slot == "Item" else item
    if slot in ("place", "Place"):
        place = c.one(of.places)
        return capital(place) if slot == "Place" else place
    if slot == "state":
        return c.one(of.states)
    if slot == "person":
        return c.one(PEOPLE)
    if slot == "day":
        return c.one(DAYS)
    if slot == "month":
        return c.one(MONTHS)
    if slot == "time":
        return clock(c)
    return str(c.between(2, 60))


def _fill(c: Choices, of: Theme, pattern: str) -> tuple[str, str]:
    """The pattern with its slots filled, and the value of its last slot."""
    slots = [slot for _, slot, _, _ in Formatter().parse(pattern) if slot]
    values = {slot: _value(c, of, slot) for slot in slots}
    return pattern.format(**values), values[slots[-1]]


def titles(c: Choices, of: Theme, k: int) -> tuple[str, ...]:
    """`k` headings of different patterns, so of different texts."""
    return tuple(_fill(c, of, pattern)[0] for pattern in c.some(TITLES, k))


def title(c: Choices, of: Theme) -> str:
    return titles(c, of, 1)[0]


def sentences(c: Choices, of: Theme, k: int) -> tuple[str, ...]:
    """`k` sentences of different patterns, so of different texts."""
    return tuple(_fill(c, of, pattern)[0] for pattern in c.some(SENTENCES, k))


def sentence(c: Choices, of: Theme) -> str:
    return sentences(c, of, 1)[0]


def sentence_with_key(c: Choices, of: Theme) -> tuple[str, str]:
    """A sentence, and a phrase that it holds: what an emphasis or a link can stand on."""
    return _fill(c, of, c.one(SENTENCES))


def entries(c: Choices, of: Theme, k: int) -> tuple[str, ...]:
    """`k` different list entries of one pattern."""
    pattern = c.one(ENTRIES)
    filled = []
    for item in items(c, of, k):
        slots = [slot for _, slot, _, _ in Formatter().parse(pattern) if slot]
        values = {slot: _value(c, of, slot) for slot in slots if slot.lower() != "item"}
        filled.append(pattern.format(**values, item=item, Item=capital(item)))
    return tuple(filled)
