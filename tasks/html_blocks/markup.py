"""The one style in which references are written, whatever the lines of the markup given.

Two spaces a level, no end tag on void elements. An element that holds only text and inline
elements stands on one line, and so does a table row; any other, and a landmark always, puts each
child on a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_VOID = frozenset(["!DOCTYPE", "br", "hr", "img", "input", "meta"])
_INLINE = frozenset(
    ["a", "abbr", "b", "code", "em", "mark", "small", "span", "strong", "time", "td", "th"]
)
_ALWAYS_TALL = frozenset(["article", "aside", "div", "footer", "header", "main", "nav", "style"])


@dataclass
class _Element:
    tag: str
    start: str = ""
    children: list[_Element | str] = field(default_factory=list)


def escape(text: str) -> str:
    """Text as it stands between tags or in double quotes."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;")


def layout(markup: str) -> str:
    """Markup in which every element but void ones is closed, and all values are escaped, in the
    house style. White space with a line break between two tags counts for nothing."""
    path = [_Element("")]
    for piece in re.findall(r"<[^<>]+>|[^<>]+", markup):
        if piece.startswith("</"):
            path.pop()
        elif piece.startswith("<"):
            element = _Element(re.findall(r"[!\w]+", piece)[0], piece)
            path[-1].children.append(element)
            if element.tag not in _VOID:
                path.append(element)
        elif piece.strip() or "\n" not in piece:
            path[-1].children.append(piece.strip("\n"))
    return "\n".join(line for child in path[0].children for line in _lines(child, ""))


def _lines(node: _Element | str, indent: str) -> Iterator[str]:
    if isinstance(node, str) or _short(node):
        yield indent + _inline(node)
    else:
        yield indent + node.start
        for child in node.children:
            yield from _lines(child, indent + "  ")
        yield f"{indent}</{node.tag}>"


def _short(node: _Element) -> bool:
    return node.tag not in _ALWAYS_TALL and all(
        isinstance(child, str) or child.tag in _INLINE for child in node.children
    )


def _inline(node: _Element | str) -> str:
    if isinstance(node, str):
        return node
    end = "" if node.tag in _VOID else f"</{node.tag}>"
    return node.start + "".join(map(_inline, node.children)) + end
