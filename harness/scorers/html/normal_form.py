"""The normal form of a page: what two pages share that differ in spelling only."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from bs4.element import Doctype, Tag

from harness.scorers.base import Unscored
from harness.scorers.html.page import parse
from harness.scorers.html.tree import fold, is_text

Form = tuple[object, ...]


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


# White space at the edges of these is not shown: boxes of their own, and br, which ends a
# line (HTML standard, "Rendering": display block, list-item, and the parts of tables).
_BLOCKS = _names("""
    address article aside blockquote body br caption center col colgroup dd details dialog dir
    div dl dt fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head
    header hgroup hr html legend li listing main menu nav noscript ol optgroup option p
    plaintext pre search section summary table tbody td tfoot th thead title tr ul xmp
""")
# Shown in the line as one box: inside, a text of its own; outside, like a letter.
_BOXES = _names("""
    audio button canvas embed iframe img input math meter object progress select svg textarea
    video
""")
# Not shown: the text around is as if they were not there.
_HIDDEN = _names("area base datalist link meta param script source style template track")
_VERBATIM = frozenset({"pre", "textarea"})
# Attributes whose presence is all that counts (HTML standard, index of attributes).
_BOOLEAN = _names("""
    allowfullscreen async autofocus autoplay checked controls default defer disabled
    formnovalidate inert ismap itemscope loop multiple muted nomodule novalidate open playsinline
    readonly required reversed selected shadowrootclonable shadowrootdelegatesfocus
""")
_SPACED = frozenset({"srcset", "sizes", "media"})
_SPACE = re.compile(r"[ \t\n\f\r]++")
_WHOLE = re.compile(r"""("[^"]*+"|'[^']*+'|\burl\([^)]*+\))""", re.IGNORECASE)
_AROUND = re.compile(r" ?+([:;]) ?+")
_END = None


@lru_cache(maxsize=4)
def normal_form(text: str) -> Form | Unscored:
    """The page that `text` is, in document order: start and end of elements, doctype, texts.

    Two texts have the same form where they differ only in
    - what the parser settles: case of names, quotes, character references, optional tags
      (those of html, head and body too), the order of attributes, and faults that it mends;
    - the order and repetition of the words of a class attribute (a set by the standard);
    - the value of a boolean attribute (disabled, disabled="" and disabled="disabled");
    - white space in srcset, sizes and media, and in style around its colons and semicolons, the
      last semicolon too; but not in strings and addresses;
    - comments;
    - white space outside pre and textarea: a run of it is one space, and none at the edges of
      what makes a box of its own (a paragraph, a cell, a button), before br, or after a space,
      whatever inline tags stand between. The text of script and style is folded too.
    All else counts: the doctype, order, every other attribute's value to the letter. What CSS
    makes of white space (`white-space: pre`) is not seen. Unscored as
    harness.scorers.html.page.parse has it.
    """
    page = parse(text)
    if isinstance(page, Unscored):
        return page
    writer = _Writer()
    # Depth first without recursion: with each open element, how the line stood around it.
    open_elements: list[tuple[Any, Any, _Line]] = [(None, iter(page.soup.contents), _EDGE)]
    verbatim = 0
    while open_elements:
        element, children, around = open_elements[-1]
        for child in children:
            if isinstance(child, Tag):
                open_elements.append((child, iter(child.contents), writer.start(child)))
                verbatim += child.name in _VERBATIM
                break
            if is_text(child):
                writer.text(child, verbatim > 0)
            elif isinstance(child, Doctype):
                writer.parts.append(("!doctype", str(child)))
        else:
            open_elements.pop()
            if element is not None:
                verbatim -= element.name in _VERBATIM
                writer.end(element.name, around)
    return writer.form()


# Whether a space would be dropped here, and the text whose last piece ends in one that an edge
# would drop.
_Line = tuple[bool, list[str] | None]
_EDGE: _Line = (True, None)
_INSIDE: _Line = (False, None)


class _Writer:
    def __init__(self) -> None:
        self.parts: list[Any] = []  # a text: the list of its pieces
        self.line = _EDGE

    def start(self, element: Tag) -> _Line:
        around = self.line
        if element.name in _BLOCKS:
            self._edge()
        elif element.name in _BOXES or element.name in _HIDDEN:
            self.line = _EDGE
        self.parts.append((element.name, _attributes(element)))
        return around

    def end(self, name: str, around: _Line) -> None:
        if name in _BLOCKS:
            self._edge()
        elif name in _BOXES:
            self._edge()
            self.line = _INSIDE
        elif name in _HIDDEN:
            self._edge()
            self.line = around
        self.parts.append(_END)

    def text(self, text: str, verbatim: bool) -> None:
        shown = str(text) if verbatim else fold(text)
        if self.line[0] and not verbatim:
            shown = shown.removeprefix(" ")
        if not shown:
            return
        if not self.parts or not isinstance(self.parts[-1], list):
            self.parts.append([])
        pieces = self.parts[-1]
        pieces.append(shown)
        spaced = shown.endswith(" ") and not verbatim
        self.line = (True, pieces) if spaced else _INSIDE

    def form(self) -> Form:
        joined = ("".join(part) if isinstance(part, list) else part for part in self.parts)
        return tuple(part for part in joined if part != "")

    def _edge(self) -> None:
        pieces = self.line[1]
        if pieces is not None:
            pieces[-1] = pieces[-1][:-1]
        self.line = _EDGE


def _attributes(element: Tag) -> tuple[tuple[str, str], ...]:
    attributes = element.attrs
    return tuple((str(key), _value(key, attributes[key])) for key in sorted(attributes))


def _value(key: str, value: str | list[str]) -> str:
    words = value if isinstance(value, list) else None
    if key == "class":
        return " ".join(sorted(set(words if words is not None else str(value).split())))
    if key in _BOOLEAN:
        return ""
    text = " ".join(words) if words is not None else str(value)
    if key in _SPACED:
        return _SPACE.sub(" ", text).strip()
    return _style(text) if key == "style" else text


def _style(text: str) -> str:
    """Declarations without the white space that means nothing, and without the last semicolon."""
    parts = _WHOLE.split(text)
    parts[::2] = [_AROUND.sub(r"\1", _SPACE.sub(" ", part)) for part in parts[::2]]
    return "".join(parts).strip(" ;")
