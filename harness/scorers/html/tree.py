"""The light tree that the tree scorers compare, made once from a parsed page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from bs4.element import NavigableString, PreformattedString, Tag

from harness.scorers.base import Unscored
from harness.scorers.html.page import parse

# The parser makes these three whether or not they were written: they would be equal in any
# two pages.
SUPPLIED = frozenset({"html", "head", "body"})
_SPACE = re.compile(r"[ \t\n\f\r]+")


@dataclass(frozen=True, slots=True)
class Tree:
    """A page as an ordered forest, and its one-level subtrees.

    labels:   of the nodes in postorder (children before their parent): "<p" for an element p,
              '"word word' for a text.
    sizes:    of the subtree under each node, the node included, in the same order.
    families: of each element but html that has element children, in document order: its tag, and
              theirs.

    Nodes are the elements but html, head and body, whose children stand side by side in their
    place, and the texts that are not white space alone. White space in a text is folded to one
    space and stripped; texts with only a comment between them are one. Comments, the doctype
    and attributes are left out.
    """

    labels: tuple[str, ...]
    sizes: tuple[int, ...]
    families: tuple[tuple[str, ...], ...]


def fold(text: str) -> str:
    """`text` with each run of HTML's white space (not no-break spaces) made one space."""
    return _SPACE.sub(" ", text)


def is_text(node: object) -> bool:
    """Whether a node of the soup is character data: no element, comment or doctype."""
    return isinstance(node, NavigableString) and not isinstance(node, PreformattedString)


@lru_cache(maxsize=4)
def tree_of(text: str) -> Tree | Unscored:
    """The tree of a page's text, or why there is none (see harness.scorers.html.page.parse)."""
    page = parse(text)
    if isinstance(page, Unscored):
        return page
    labels: list[str] = []
    sizes: list[int] = []
    families: list[tuple[str, ...]] = []
    pieces: list[str] = []  # of the text that is being gathered

    def end_of_text() -> None:
        label = fold("".join(pieces)).strip(" ")
        pieces.clear()
        if label:
            labels.append('"' + label)
            sizes.append(1)

    # Depth first without recursion: an element's own entry is the rest of its children.
    open_elements = [(page.soup, iter(page.soup.contents), 0)]
    while open_elements:
        element, children, first = open_elements[-1]
        for child in children:
            if isinstance(child, Tag):
                if pieces:
                    end_of_text()
                tags = [c.name for c in child.contents if isinstance(c, Tag)]
                if tags and len(open_elements) > 1:  # html's are head and body in every page
                    families.append((child.name, *tags))
                open_elements.append((child, iter(child.contents), len(labels)))
                break
            if is_text(child):
                pieces.append(child)
        else:
            if pieces:
                end_of_text()
            open_elements.pop()
            if open_elements and element.name not in SUPPLIED:
                labels.append("<" + element.name)
                sizes.append(len(labels) - first)
    return Tree(tuple(labels), tuple(sizes), tuple(families))
