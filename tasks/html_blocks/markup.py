"""Nodes of a page, and the one style in which they are written.

Lower case, attributes in double quotes in the order given, two spaces a level, no end tag on
void elements, `&`, `<` and `>` escaped in text and attributes. An element that holds only text and
inline elements stands on one line, and so does a table row; any other, and a landmark always, puts
each child on a line of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

DOCTYPE = "<!DOCTYPE html>"

_VOID = frozenset(["br", "hr", "img", "input", "meta"])
_INLINE = frozenset(
    ["a", "abbr", "b", "code", "em", "mark", "small", "span", "strong", "time", "td", "th"]
)
_ALWAYS_TALL = frozenset(["article", "aside", "div", "footer", "header", "main", "nav", "style"])


@dataclass(frozen=True, slots=True)
class Element:
    """An element; an attribute whose value is None is written without one (`required`)."""

    tag: str
    attributes: tuple[tuple[str, str | None], ...]
    children: tuple[Element | str, ...]


Node = Element | str


def el(tag: str, attributes: dict[str, str | None] | None = None, *children: Node) -> Element:
    """An element from its tag, its attributes in the order to write them, and its children."""
    return Element(tag, tuple((attributes or {}).items()), children)


def escape(text: str) -> str:
    """Text as it stands between tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def render(nodes: Sequence[Node], *, page: bool = False) -> str:
    """The nodes as HTML, no newline at the end; with `page`, a doctype before them."""
    lines = [DOCTYPE] if page else []
    for node in nodes:
        lines.extend(_lines(node, ""))
    return "\n".join(lines)


def _lines(node: Node, indent: str) -> Iterator[str]:
    if isinstance(node, str):
        yield indent + escape(node)
    elif _short(node):
        yield indent + _inline(node)
    else:
        yield indent + _start(node)
        for child in node.children:
            yield from _lines(child, indent + "  ")
        yield f"{indent}</{node.tag}>"


def _short(node: Element) -> bool:
    if node.tag in _ALWAYS_TALL:
        return False
    return all(isinstance(child, str) or child.tag in _INLINE for child in node.children)


def _inline(node: Node) -> str:
    if isinstance(node, str):
        return escape(node)
    if node.tag in _VOID:
        return _start(node)
    return f"{_start(node)}{''.join(map(_inline, node.children))}</{node.tag}>"


def _start(node: Element) -> str:
    written = "".join(
        f" {name}" if value is None else f' {name}="{escape(value).replace(chr(34), "&quot;")}"'
        for name, value in node.attributes
    )
    return f"<{node.tag}{written}>"
