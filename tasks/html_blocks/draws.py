"""Rules by which values are drawn, one after another, as a family's [draw] table gives them.

A rule is a text, in which what stands between angle brackets is drawn and what stands between
braces was drawn before. A text of nothing but one of these is that value itself.

<ul|ol>               one of these
<2 of en|de|fr>       so many of these, none twice
<1..30>               a number
<title> <3 titles>    one from a source (see sources.py), or a list of so many; <Title> and
                      <3 Titles> begin with capitals
<pick links>          two values: which one of the list it is, counted from 1, and the one itself

"So many" is a number, a range to draw it from (<2..3 titles>), or a value: a number, or a list of
which it is the length.

A rule may be made of rules, too:

["{links}", "{new}"]                             a list; lists in it are taken apart
{ by = "last", footer = "...", else = "..." }    the rule for the value of `last`, "" where there
                                                 is none; if it is a list, a list with one for each
{ for = "a in links", by = ... }                 a list with one for each, as in a template
{ text = "...", href = "..." }                   a record

A rule named `a, *more, b` gives several values: from a list, or from a text split at its commas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .banks import capital
from .choices import Choices
from .template import Values, find, scopes

Rules = Mapping[str, Any]
Source = Callable[[Choices, Values, int], list[Any]]

SOURCES: dict[str, Source] = {}
"""By name, what draws so many of a kind; it sees the values drawn before (sources.py fills it)."""

_SLOT = re.compile(r"<([^<>]+)>|\{(\w[\w.:-]*)\}")


def draw(c: Choices, rules: Rules, values: Values) -> dict[str, Any]:
    """The values, and those that the rules draw one after another."""
    values = dict(values)
    for names, rule in rules.items():
        first, *others = names.split(", ")
        drawn = value(c, rule, values)
        if not others:
            values[first] = drawn
            continue
        left = drawn.split(", ") if isinstance(drawn, str) else list(drawn)
        rest = len(left) - len(others)
        for name in (first, *others):
            if name.startswith("*"):
                values[name[1:]], left = left[:rest], left[rest:]
            else:
                values[name] = left.pop(0)
    return values


def value(c: Choices, rule: Any, values: Values) -> Any:
    """What one rule draws."""
    if isinstance(rule, str):
        return fill(c, rule, values)
    if isinstance(rule, list):
        drawn = [value(c, part, values) for part in rule]
        return [one for part in drawn for one in (part if isinstance(part, list) else [part])]
    rest = dict(rule)
    if loop := rest.pop("for", None):
        return [value(c, rest, scope) for scope in scopes(values, loop)]
    if path := rest.pop("by", None):
        cases = find(values, path)
        if isinstance(cases, list):
            return [value(c, _case(rest, case), values) for case in cases]
        return value(c, _case(rest, cases), values)
    return {key: value(c, part, values) for key, part in rest.items()}


def _case(rules: Rules, case: object) -> Any:
    return rules.get(str(case), rules.get("else", ""))


def fill(c: Choices, pattern: str, values: Values) -> Any:
    """A text rule's value, drawn from left to right."""

    def slot(match: re.Match[str]) -> Any:
        return _drawn(c, match[1], values) if match[1] else find(values, match[2])

    whole = _SLOT.fullmatch(pattern)
    return slot(whole) if whole else _SLOT.sub(lambda match: str(slot(match)), pattern)


def _drawn(c: Choices, slot: str, values: Values) -> Any:
    many, of, options = slot.partition(" of ")
    if of:
        return list(c.some(options.split("|"), _number(c, many, values)))
    if "|" in slot:
        return c.one(slot.split("|"))
    many, _, name = slot.rpartition(" ")
    if not many and ".." in name:
        return _number(c, name, values)
    if many == "pick":
        at = c.below(len(values[name]))
        return at + 1, values[name][at]
    source = name.lower()
    if source not in SOURCES:
        source = source.removesuffix("s")
    drawn = SOURCES[source](c, values, _number(c, many, values) if many else 1)
    if name[0].isupper():
        drawn = [capital(one) for one in drawn]
    return drawn if many else drawn[0]


def _number(c: Choices, many: str, values: Values) -> int:
    if ".." in many:
        return c.between(*map(int, many.split("..")))
    found = many if many.isdigit() else find(values, many)
    return len(found) if isinstance(found, list) else int(found)
