"""Texts with values between braces: prompts, references and checks are written as these.

{name} {links.0.text} {names.-1} {names.1:}   a value, or a part of it: keys, Python's indices
{an tag} {quoted names}                       a value as one of WAYS puts it
{if name}...{else}...{end}                    if there is such a value and it is not empty
{if name is word}...{end}                     if it equals the word, or the value of that name
{for a in list}...{join}, {at last} and {end} once for each; what follows `join` stands between
                                              two of them that have a text, and what follows
                                              `at last`, if it is there, between the last two
{for a, b in pairs} {for a, b in one, two}    pairs taken apart, or lists walked side by side
{number}                                      in a `for`: which one this is, counted from 1

A line that holds nothing but if, for, else and end leaves no line in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Values = Mapping[str, Any]

_TAG = re.compile(r"\{(\w[^{}]*)\}")
_TAGS_ALONE = re.compile(r"^ *((?:\{(?:(?:if|for) [^{}]*|else|end)\})+) *(?:\n|\Z)", re.MULTILINE)


class Template:
    """A text to be filled in; `escape` is applied to each value shown."""

    def __init__(self, text: str, escape: Callable[[str], str] = str) -> None:
        self._parts = _parse(enumerate(_TAG.split(_TAGS_ALONE.sub(r"\1", text))))
        self._escape = escape

    def __call__(self, values: Values) -> str:
        return self._fill(self._parts[""], values).rstrip("\n")

    def _fill(self, parts: Sequence[Any], values: Values) -> str:
        return "".join(part if isinstance(part, str) else self._tag(part, values) for part in parts)

    def _tag(self, part: tuple[str, dict[str, list[Any]]], values: Values) -> str:
        tag, inside = part
        word, _, rest = tag.partition(" ")
        if word == "if":
            return self._fill(inside["" if _holds(values, rest) else "else"], values)
        if word == "for":
            texts = [self._fill(inside[""], scope) for scope in scopes(values, rest)]
            between, last = (self._fill(inside[part], values) for part in ("join", "at last"))
            return joined(texts, between, last or between)
        return self._escape(str(WAYS[word](find(values, rest)) if rest else find(values, word)))


def _parse(pieces: Iterator[tuple[int, str]], opened: str = "") -> dict[str, list[Any]]:
    """The parts of a text, or of what `opened` up to its {end}: texts, and tags with their parts.

    Raises ValueError where an {end} is missing or closes nothing.
    """
    parts: dict[str, list[Any]] = {"": [], "else": [], "join": [], "at last": []}
    part = parts[""]
    for i, piece in pieces:
        if i % 2 == 0:
            part.append(piece)
        elif piece == "end":
            if not opened:
                raise ValueError("an {end} closes nothing")
            return parts
        elif piece in parts:
            part = parts[piece]
        else:
            inside = _parse(pieces, piece) if piece.startswith(("if ", "for ")) else {}
            part.append((piece, inside))
    if opened:
        raise ValueError(f"{{{opened}}} has no {{end}}")
    return parts


def find(values: Values, path: str) -> Any:
    """What stands under a path such as `title`, `links.0.text` or `names.1:`."""
    name, *steps = path.split(".")
    found = values[name]
    for step in steps:
        if isinstance(found, dict):
            found = found[step]
        else:
            found = found[int(step[:-1]) :] if step.endswith(":") else found[int(step)]
    return found


def scopes(values: Values, loop: str) -> Iterator[Values]:
    """The values that hold in each round of a loop such as `a, b in pairs`."""
    names, _, lists = loop.partition(" in ")
    walked = [find(values, path) for path in lists.split(", ")]
    keys = names.split(", ")
    for i, found in enumerate(zip(*walked, strict=True) if len(walked) > 1 else walked[0], 1):
        yield {
            **values,
            "number": i,
            **dict(zip(keys, found if keys[1:] else [found], strict=True)),
        }


def _holds(values: Values, condition: str) -> bool:
    path, asks, word = condition.partition(" is ")
    try:
        found = find(values, path)
    except (KeyError, IndexError):
        return False
    return str(found) == str(values.get(word, word)) if asks else bool(found)


def joined(texts: Sequence[str], between: str = ", ", last: str = " and ") -> str:
    """The texts in a sentence, empty ones left out."""
    texts = [text for text in texts if text]
    return last.join(filter(None, [between.join(texts[:-1]), *texts[-1:]]))


WAYS: dict[str, Callable[[Any], object]] = {
    "an": lambda name: f"an {name}" if name[0] in "aeio" else f"a {name}",
    "count": len,
    "commas": lambda texts: ", ".join(map(str, texts)),
    "quoted": lambda texts: joined([f'"{text}"' for text in texts]),
}
