"""Whether the tags of a text open and close one another, by the HTML standard's rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.scorers.html.page import Tag


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


VOID = _set("area base br col embed hr img input link meta param source track wbr")

_SECTIONS = frozenset({"thead", "tbody", "tfoot"})
_HEAD = _set("base basefont bgsound link meta noscript script style template title")
_TABLE = frozenset({"thead", "tbody", "tfoot", "tr", "colgroup"})
# Elements whose end tag may be left out, and the start tags before which it may
# (HTML Living Standard, 13.1.2.4); all may also end with their parent. The standard puts
# it more widely for caption, colgroup and head, and the parser does for thead and tfoot:
# they end before what cannot stand inside them.
_ENDED_BY = {
    "li": frozenset({"li"}),
    "dt": frozenset({"dt", "dd"}),
    "dd": frozenset({"dt", "dd"}),
    "p": _set(
        "address article aside blockquote details dialog div dl fieldset figcaption figure footer "
        "form h1 h2 h3 h4 h5 h6 header hgroup hr main menu nav ol p pre search section table "
        "ul"
    ),
    "rt": frozenset({"rt", "rp"}),
    "rp": frozenset({"rt", "rp"}),
    "optgroup": frozenset({"optgroup", "hr"}),
    "option": frozenset({"option", "optgroup", "hr"}),
    "caption": _TABLE | {"caption", "col"},
    "colgroup": _TABLE | {"caption"},
    "thead": _SECTIONS,
    "tbody": _SECTIONS,
    "tfoot": _SECTIONS,
    "tr": frozenset({"tr"}),
    "td": frozenset({"td", "th"}),
    "th": frozenset({"td", "th"}),
    "head": frozenset({"body"}),
    "body": frozenset(),
    "html": frozenset(),
}
# A p may not be left open at the end of these.
_KEEPS_P = _set("a audio del ins map noscript video")
# Start tags that may be left out in a table, before these.
_IMPLIED = {"tr": "tbody", "col": "colgroup"}
_ROOTS = frozenset({"html", "head", "body"})
# Inside svg and math "/>" closes an element; inside these HTML's rules hold again.
_FOREIGN = frozenset({"svg", "math"})
_HTML_AGAIN = _set("foreignobject desc annotation-xml mi mo mn ms mtext")


class _Open(NamedTuple):
    name: str
    foreign: bool  # what stands directly inside is SVG or MathML


def balanced(tags: Sequence[Tag]) -> bool:
    """Whether each end tag closes the element that is open, and nothing stays open.

    Elements whose end tag is optional close where the standard lets the tag be left out;
    void elements have none; "/>" closes in svg and math only; html, head and body stand once
    at most. Linear in the number of tags. Order alone is seen: not whether an element may
    stand where it does.
    """
    stack: list[_Open] = []
    roots: set[str] = set()
    for tag in tags:
        if tag.kind == "end":
            if not _close(stack, tag.name, roots):
                return False
            continue
        if tag.name in _ROOTS:
            if tag.name in roots:
                return False
            roots.add(tag.name)
        _end_optional(stack, tag.name)
        inside = bool(stack) and stack[-1].foreign
        if tag.name in VOID and not inside:
            continue
        if not (tag.self_closing and (inside or tag.name in _FOREIGN)):
            foreign = tag.name in _FOREIGN or (inside and tag.name not in _HTML_AGAIN)
            stack.append(_Open(tag.name, foreign))
    return _may_end(stack, 0)


def _close(stack: list[_Open], name: str, roots: set[str]) -> bool:
    """Take `name` and what may end with it off the stack; False where it is not so open."""
    for at in range(len(stack) - 1, -1, -1):
        if stack[at].name == name:
            if not _may_end(stack, at + 1):
                return False
            del stack[at:]
            return True
        if stack[at].name not in _ENDED_BY:
            return False
    # <html>, <head> and <body> may be left out though their end tags are there.
    if name not in _ROOTS or name in roots:
        return False
    roots.add(name)
    return True


def _end_optional(stack: list[_Open], name: str) -> None:
    """Before a start tag `name`: end what the tag ends, begin what it implies."""
    if stack and stack[-1].name == "head" and name not in _HEAD:
        stack.pop()
    # The elements looked at are optional ones, of which each kind ends the one before it:
    # a few at most, however long the stack.
    for at in range(len(stack) - 1, -1, -1):
        ended_by = _ENDED_BY.get(stack[at].name)
        if ended_by is None:
            break
        if name in ended_by and _may_end(stack, at + 1):
            del stack[at:]
            break
    implied = _IMPLIED.get(name)
    if implied and stack and stack[-1].name == "table":
        stack.append(_Open(implied, False))


def _may_end(stack: list[_Open], start: int) -> bool:
    """Whether the elements from `start` on may all end where their parents do."""
    return all(
        element.name in _ENDED_BY
        and not (element.name == "p" and at > 0 and stack[at - 1].name in _KEEPS_P)
        for at, element in enumerate(stack[start:], start)
    )
