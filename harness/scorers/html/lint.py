"""Faults that the parser does not report: what an author's linter would say, without Java."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.records import Sample
from harness.scorers.base import Scorer, Unscored, Value, metric
from harness.scorers.html.elements import HTML, Elements, elements, text_of
from harness.scorers.html.names import ELEMENTS, FORMATTING, NOT_CUSTOM, OBSOLETE
from harness.scorers.html.page import PARSER

if TYPE_CHECKING:
    from bs4 import Tag

MAX_DETAILS = 50
MAX_NAME = 80

_METRICS = {
    "duplicate-id": "lint_duplicate_ids",
    "unknown-element": "lint_unknown_elements",
    "obsolete-element": "lint_obsolete_elements",
    "missing-alt": "lint_missing_alt",
    "missing-title": "lint_missing_title",
    "missing-lang": "lint_missing_lang",
}
_BINARY = frozenset({"lint_missing_title", "lint_missing_lang"})
_LIST = "whatwg-2026-09-16"


class Finding(NamedTuple):
    """One fault: its code, and the id or the element that it is about."""

    code: str
    what: str


class Lint(Scorer):
    """Six counts of faults in an answer taken as a whole document; 0 is best, no upper bound.

    lint_duplicate_ids:     elements whose id an element before them has (compared exactly;
                            an empty id is none). Copies that the parser makes of a misnested
                            <b id=x> are not counted.
    lint_unknown_elements:  start tags whose name is neither in the HTML Living Standard nor in
                            its list of obsolete elements, is no custom element's (with a
                            hyphen) and makes no element of SVG or MathML.
    lint_obsolete_elements: start tags of the standard's list (16.2), center and font.
    lint_missing_alt:       img without alt, but for one with a title or in a figure that has a
                            figcaption and no other content (4.8.4.4.15); area with href and
                            input of type image without alt. An empty alt is one.
    lint_missing_title:     1 where the head has no title with text, else 0.
    lint_missing_lang:      1 where the html element has no lang, or an empty one, else 0.

    They see names and attributes of the tree that html5lib makes, and the author's start tags.
    A fragment is judged as the document that a browser makes of it, as the Nu checker does: it
    has no title and no lang; and so has the empty answer, whose four other counts are 0. They
    cannot see whether an alt says anything, obsolete or unknown attributes, where an element
    may stand, what is in a template (its tags' names apart), names inside svg and math. None
    where the page is not parsed within its bounds (harness.scorers.html.page.parse). Source: the
    HTML Living Standard; held against the Nu checker's messages in the tests.
    """

    name = "lint"
    summary = "faults that no parser reports: duplicate ids, unknown or obsolete elements, no alt …"
    version = 2
    metrics = tuple(
        metric(name, "lower", 2, binary=name in _BINARY, parser=PARSER, names=_LIST)
        for name in _METRICS.values()
    )

    def score(self, sample: Sample) -> dict[str, Value]:
        found = findings(sample.prediction)
        if isinstance(found, Unscored):
            return dict.fromkeys((m.name for m in self.metrics), found)
        counts = Counter(finding.code for finding in found)
        return {name: float(counts[code]) for code, name in _METRICS.items()}

    def details(self, sample: Sample) -> dict[str, Any]:
        """{"lint": [{"code", "what"}, …]}, at most MAX_DETAILS; nothing where there is none."""
        found = findings(sample.prediction)
        if isinstance(found, Unscored) or not found:
            return {}
        return {"lint": [finding._asdict() for finding in found[:MAX_DETAILS]]}


@lru_cache(maxsize=4)
def findings(text: str) -> tuple[Finding, ...] | Unscored:
    """The faults of a page, those of one code together, in the order of the text."""
    found = elements(text)
    if isinstance(found, Unscored):
        return found
    all_of = (*_duplicate_ids(found), *_names(found), *_without_alt(found), *_document(found))
    return tuple(Finding(code, what[:MAX_NAME]) for code, what in all_of)


def _duplicate_ids(found: Elements) -> Iterator[Finding]:
    seen: set[str] = set()
    copies: Counter[str] | None = None
    for element in found.shown:
        name = element.attrs.get("id")
        if not name:
            continue
        if name not in seen:
            seen.add(name)
            continue
        if element.name in FORMATTING:
            copies = _copies(found) if copies is None else copies
            if copies[element.name] > 0:
                copies[element.name] -= 1
                continue
        yield Finding("duplicate-id", name)


def _copies(found: Elements) -> Counter[str]:
    """How many elements of a formatting name the tree has more than the text has start tags."""
    names = Counter(tag.name for tag in found.page.soup.find_all(list(FORMATTING)))
    names.subtract(tag.name for tag in found.page.tags if tag.kind == "start")
    return names


def _names(found: Elements) -> Iterator[Finding]:
    written = [tag.name for tag in found.page.tags if tag.kind == "start"]
    odd = [name for name in written if name not in ELEMENTS]
    if not odd:
        return
    # Names in svg and math are not HTML's. The tree alone would not do: the parser drops some
    # of the author's tags and copies others.
    foreign = Counter(
        element.name.lower()
        for element in found.page.soup.find_all(True)
        if element.namespace not in (HTML, None)
    )
    for name in odd:
        if foreign[name] > 0:
            foreign[name] -= 1
        elif name in OBSOLETE:
            yield Finding("obsolete-element", name)
        elif "-" not in name or name in NOT_CUSTOM:
            yield Finding("unknown-element", name)


def _without_alt(found: Elements) -> Iterator[Finding]:
    lacking = [element for element in found.shown if _lacks_alt(element)]
    if lacking:
        captioned = set(map(id, _captioned(found)))
        yield from (Finding("missing-alt", e.name) for e in lacking if id(e) not in captioned)


def _lacks_alt(element: Tag) -> bool:
    attributes = element.attrs
    if element.name not in ("img", "area", "input") or "alt" in attributes:
        return False
    if element.name == "img":
        return element.namespace == HTML and not attributes.get("title")
    if element.name == "area":
        return "href" in attributes
    return str(attributes.get("type", "")).lower() == "image"


def _captioned(found: Elements) -> Iterator[Tag]:
    """Images that need no alt: all that a figure holds beside its figcaption (4.8.4.4.7)."""
    for figure in found.shown:
        if figure.name != "figure":
            continue
        inside = _content(figure)
        captions = [node for node in inside if getattr(node, "name", None) == "figcaption"]
        rest = [node for node in inside if node not in captions] if len(inside) < 4 else []
        if len(rest) != 1 or not any(caption.get_text().strip() for caption in captions):
            continue
        node = rest[0]
        if node.name == "a" and len(_content(node)) == 1:
            node = _content(node)[0]
        if node.name == "img":
            yield node


def _content(element: Tag) -> list[Any]:
    """What an element holds, white space and comments apart."""
    from bs4.element import PreformattedString

    return [
        node
        for node in element.contents
        if not isinstance(node, PreformattedString) and (not isinstance(node, str) or node.strip())
    ]


def _document(found: Elements) -> Iterator[Finding]:
    root = found.page.soup.html
    head = root.head if root is not None else None
    titles = head.find_all("title", recursive=False) if head is not None else ()
    if not any(text_of(title).strip() for title in titles):
        yield Finding("missing-title", "title")
    if root is None or not str(root.attrs.get("lang", "")).strip():
        yield Finding("missing-lang", "html")
