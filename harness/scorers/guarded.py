"""html5lib and BeautifulSoup under a budget of work. Used through harness.scorers.page only.

The hooks are the places where html5lib 1.1 loops over something that grows with the text:
the stack of open elements, the active formatting elements, the attributes of a tag, a text
that grows by pieces, the children of a foster parent. Each is charged what it costs, in
units of about a microsecond. The result is html5lib's own, errors and tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from bs4 import BeautifulSoup
from bs4.builder._html5lib import Element, HTML5TreeBuilder, TreeBuilderForHtml5lib
from html5lib._tokenizer import HTMLTokenizer
from html5lib.constants import tokenTypes
from html5lib.html5parser import HTMLParser

from harness.scorers.page import Page, ParseError, Tag

_END = tokenTypes["EndTag"]
_TAGS = frozenset([tokenTypes["StartTag"], tokenTypes["EmptyTag"], _END])
_MERGED = frozenset(["html", "body"])  # a second one gives its attributes to the first


class TooMuchWork(Exception):
    """The budget is spent."""


class _Meter:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spent = 0

    def charge(self, units: int) -> None:
        self.spent += units
        if self.spent > self.limit:
            raise TooMuchWork


def parse_guarded(text: str, limit: int) -> Page:
    """Parse `text`; raises TooMuchWork after `limit` units, and whatever html5lib raises."""
    builder = _Builder(text, _Meter(limit))
    # The text goes in through the builder: BeautifulSoup would warn of one that looks like
    # a file name or an address, and model output may look like anything.
    soup = BeautifulSoup("", builder=builder)
    parser = builder.parser
    return Page(
        errors=tuple(ParseError(code, line, col) for (line, col), code, _ in parser.errors),
        tags=tuple(parser.tokenizer.tags),
        soup=soup,
        work=builder.meter.spent,
    )


class _Builder(HTML5TreeBuilder):  # type: ignore[misc]
    parser: _Parser

    def __init__(self, text: str, meter: _Meter) -> None:
        super().__init__(store_line_numbers=False)
        self.text = text
        self.meter = meter

    def feed(self, markup: object) -> None:
        self.parser = _Parser(self.create_treebuilder, self.meter)
        self.parser.parse(self.text)

    def create_treebuilder(self, namespaceHTMLElements: bool) -> _Tree:
        self.underlying_builder = _Tree(self.soup, self.meter)
        return self.underlying_builder


class _Parser(HTMLParser):  # type: ignore[misc]
    tokenizer: _Tokenizer

    def __init__(self, tree: Any, meter: _Meter) -> None:
        super().__init__(tree=tree)
        self.meter = meter

    def _parse(self, stream: str, *_: object, **__: object) -> None:
        # As html5lib's own, with our tokenizer; a str is never parsed twice for its encoding.
        self.innerHTMLMode = False
        self.container = "div"
        self.scripting = False
        self.tokenizer = _Tokenizer(stream, self, self.meter)
        self.reset()
        self.mainLoop()


class _Tokenizer(HTMLTokenizer):  # type: ignore[misc]
    def __init__(self, stream: str, parser: _Parser, meter: _Meter) -> None:
        super().__init__(stream, parser=parser)
        self.meter = meter
        self.tags: list[Tag] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        tree = self.parser.tree
        for token in super().__iter__():
            kind = token["type"]
            if kind in _TAGS:
                side: Literal["start", "end"] = "end" if kind == _END else "start"
                self.tags.append(Tag(side, token["name"], bool(token["selfClosing"])))
                self.meter.charge(
                    10 + len(tree.openElements) // 4 + len(tree.activeFormattingElements)
                )
                if token["name"] in _MERGED:
                    self.meter.charge(sum(len(e.tag.attrs) for e in tree.openElements[:2]) // 20)
            else:
                # A name under construction is copied at each of its errors.
                name = (self.currentToken or {}).get("name") or ""
                self.meter.charge(5 + len(name) // 20_000)
            yield token

    def attributeNameState(self) -> bool:
        self.meter.charge(1 + len(self.currentToken["data"]) // 20)
        return bool(super().attributeNameState())


class _Tree(TreeBuilderForHtml5lib):  # type: ignore[misc]
    def __init__(self, soup: BeautifulSoup, meter: _Meter) -> None:
        self.meter = meter
        super().__init__(True, soup, store_line_numbers=False)

    def elementClass(self, name: str, namespace: str) -> _Element:
        return _Element(self.soup.new_tag(name, namespace), self.soup, namespace, self.meter)

    def insertText(self, data: str, parent: Any = None) -> None:
        children = (parent or self.openElements[-1]).element.contents
        if children and isinstance(children[-1], str):
            self.meter.charge(len(children[-1]) // 4000)
        super().insertText(data, parent)

    def getTableMisnestedNodePosition(self) -> tuple[Any, Any]:
        parent, before = super().getTableMisnestedNodePosition()
        self.meter.charge(10 + len(parent.element.contents) // 50)
        return parent, before


class _Element(Element):  # type: ignore[misc]
    def __init__(self, tag: Any, soup: BeautifulSoup, namespace: Any, meter: _Meter) -> None:
        super().__init__(tag, soup, namespace)
        self.meter = meter
        meter.charge(10)

    def cloneNode(self) -> _Element:
        clone = _Element(
            self.soup.new_tag(self.tag.name, self.namespace), self.soup, self.namespace, self.meter
        )
        for key, value in self.attributes:
            clone.attributes[key] = value
        return clone

    def reparentChildren(self, newParent: Any) -> None:
        self.meter.charge(len(self.tag.contents) // 10)
        super().reparentChildren(newParent)
