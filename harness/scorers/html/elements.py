"""The elements of a page, in one walk for all the scorers that look at them one by one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.scorers.base import Unscored
from harness.scorers.html.page import Page, parse

if TYPE_CHECKING:
    from bs4 import Tag

HTML = "http://www.w3.org/1999/xhtml"
SVG = "http://www.w3.org/2000/svg"


@dataclass(frozen=True, slots=True)
class Elements:
    """A page's elements in the order of the tree, those that the parser supplied included.

    shown: outside of template: what is in a template is no part of the document.
    live:  of those, the ones outside of noscript: what a browser makes that runs scripts.
    """

    page: Page
    shown: tuple[Tag, ...]
    live: tuple[Tag, ...]


@lru_cache(maxsize=4)
def elements(text: str) -> Elements | Unscored:
    """The elements of the page that harness.scorers.html.page.parse makes of `text`: read only."""
    page = parse(text)
    if isinstance(page, Unscored):
        return page
    from bs4 import Tag

    shown: list[Tag] = []
    live: list[Tag] = []
    stack: list[tuple[Tag, bool]] = [(page.soup, True)]
    while stack:
        element, runs = stack.pop()
        if element is not page.soup:
            shown.append(element)
            if runs:
                live.append(element)
            if element.name == "template" and element.namespace == HTML:
                continue
            if element.name == "noscript":
                runs = False
        stack += [(node, runs) for node in reversed(element.contents) if isinstance(node, Tag)]
    return Elements(page, tuple(shown), tuple(live))


def text_of(element: Tag) -> str:
    """The text that stands directly in an element, comments apart: a script's, a title's."""
    from bs4.element import PreformattedString

    return "".join(
        str(node)
        for node in element.contents
        if isinstance(node, str) and not isinstance(node, PreformattedString)
    )
