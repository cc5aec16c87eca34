"""html5lib and BeautifulSoup under a budget of work. Used through harness.scorers.html.page only.

The hooks are the places where html5lib 1.1 loops over something that grows with the text:
the stack of open elements, the active formatting elements, the attributes of a tag, a text
that grows by pieces, the children of a foster parent. Each is charged what it costs, in
units of about a microsecond. The result is html5lib's own, errors and tree.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal

from bs4 import BeautifulSoup
from bs4.builder._html5lib import Element, HTML5TreeBuilder, TextNode, TreeBuilderForHtml5lib
from bs4.element import NavigableString
from html5lib.constants import tokenTypes

from harness.scorers.html.page import Page, ParseError, Tag
from harness.scorers.html.standard import StandardParser, StandardTokenizer, StandardTree

_START = tokenTypes["StartTag"]
_END = tokenTypes["EndTag"]
_ERROR = tokenTypes["ParseError"]
_TAGS = frozenset([_START, tokenTypes["EmptyTag"], _END])
_MERGED = frozenset(["html", "body"])  # a second one gives its attributes to the first
_OPENING = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)([ \t\n\f>])")
_ATTRIBUTE = re.compile(r'[ \t\n\f]*([A-Za-z]+)="([^"&\0]*)"([ \t\n\f>])')


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
    soup = _Soup("", builder=builder)
    parser = builder.parser
    return Page(
        errors=tuple(ParseError(code, line, col) for (line, col), code, _ in parser.errors),
        tags=tuple(parser.tokenizer.tags),
        soup=soup,
        work=builder.meter.spent,
    )


class _Soup(BeautifulSoup):  # type: ignore[misc]
    # BeautifulSoup asks in which element a string stands; it never knows with html5lib.
    def new_string(self, s: str, subclass: Any = None) -> Any:
        return (subclass or NavigableString)(s)


class _Builder(HTML5TreeBuilder):  # type: ignore[misc]
    parser: _Parser

    def __init__(self, text: str, meter: _Meter) -> None:
        super().__init__(store_line_numbers=False)
        self.text = text.removeprefix("\ufeff")  # a byte order mark is no part of a page
        self.meter = meter

    def feed(self, markup: object) -> None:
        self.parser = _Parser(self.create_treebuilder, self.meter)
        self.parser.parse(self.text)

    def create_treebuilder(self, namespaceHTMLElements: bool) -> _Tree:
        self.underlying_builder = _Tree(self.soup, self.meter)
        return self.underlying_builder


class _Parser(StandardParser):
    tokenizer: _Tokenizer

    def __init__(self, tree: Any, meter: _Meter) -> None:
        super().__init__(tree)
        self.meter = meter

    def _parse(self, stream: str, *_: object, **__: object) -> None:
        # As html5lib's own, with our tokenizer; a str is never parsed twice for its encoding.
        self.innerHTMLMode = False
        self.container = "div"
        self.scripting = False
        self.tokenizer = _Tokenizer(stream, self, self.meter)
        self.reset()
        self.mainLoop()


class _Tokenizer(StandardTokenizer):
    def __init__(self, stream: str, parser: _Parser, meter: _Meter) -> None:
        super().__init__(stream, parser=parser)
        self.meter = meter
        self.tags: list[Tag] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # As html5lib's own, with a charge for each token.
        tree = self.parser.tree
        charge = self.meter.charge
        self.tokenQueue = queue = deque[dict[str, Any]]()
        while self.state():
            if errors := self.stream.errors:
                queue.extendleft({"type": _ERROR, "data": code} for code in reversed(errors))
                errors.clear()
            while queue:
                token = queue.popleft()
                kind = token["type"]
                if kind in _TAGS:
                    side: Literal["start", "end"] = "end" if kind == _END else "start"
                    name = token["name"]
                    self.tags.append(Tag(side, name, bool(token["selfClosing"])))
                    charge(10 + len(tree.openElements) // 4 + len(tree.activeFormattingElements))
                    if name in _MERGED:
                        charge(sum(len(e.tag.attrs) for e in tree.openElements[:2]) // 20)
                else:
                    # A name under construction is copied at each of its errors.
                    name = (self.currentToken or {}).get("name") or ""
                    charge(5 + len(name) // 20_000)
                yield token

    def dataState(self) -> bool:
        stream = self.stream
        match = _OPENING.match(stream.chunk, stream.chunkOffset)
        if match is None:
            return bool(super().dataState())
        slash, name, end = match.groups()
        token = {"type": _END if slash else _START, "name": name, "data": [], "selfClosing": False}
        if not slash:
            token["selfClosingAcknowledged"] = False
        self.currentToken = token
        stream.chunkOffset = match.end()
        if end == ">":
            self.emitCurrentToken()
        else:
            self.state = self.beforeAttributeNameState
        return True

    def beforeAttributeNameState(self) -> bool:
        stream = self.stream
        attributes = self.currentToken["data"]
        match = _ATTRIBUTE.match(stream.chunk, stream.chunkOffset)
        if match is None:
            return bool(super().beforeAttributeNameState())
        name, value, end = match.groups()
        lower = name.lower()
        if any(known == lower for known, _ in attributes):
            return bool(super().beforeAttributeNameState())
        attributes.append([lower, value])
        # What attributeNameState would charge: once for "=", once for letters but the first.
        self.meter.charge((1 + len(attributes) // 20) * (2 if len(name) > 1 else 1))
        stream.chunkOffset = match.end()
        if end == ">":
            self.emitCurrentToken()
        return True

    def attributeNameState(self) -> bool:
        self.meter.charge(1 + len(self.currentToken["data"]) // 20)
        return bool(super().attributeNameState())


class _Tree(StandardTree, TreeBuilderForHtml5lib):  # type: ignore[misc]
    """BeautifulSoup's tree, made in two steps: parents and children first, all other links last.

    What stands before and after a node in the text is asked by nobody while the tree grows; to
    keep it right at each step is what BeautifulSoup's own builder spends half of its time on.
    """

    def __init__(self, soup: BeautifulSoup, meter: _Meter) -> None:
        self.meter = meter
        super().__init__(True, soup, store_line_numbers=False)

    def documentClass(self) -> _Element:
        self.soup.reset()
        return _Element(self.soup, self.soup, None, self.meter)

    def elementClass(self, name: str, namespace: str) -> _Element:
        self.meter.charge(10)
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

    def getDocument(self) -> BeautifulSoup:
        _link(self.soup)
        return self.soup


class _Element(Element):  # type: ignore[misc]
    def __init__(self, tag: Any, soup: BeautifulSoup, namespace: Any, meter: _Meter) -> None:
        super().__init__(tag, soup, namespace)
        self.meter = meter

    def appendChild(self, node: Any) -> None:
        node.parent = self
        child, contents = node.element, self.tag.contents
        if node.tag is not None:
            _take_out(child)
        elif _merges(child, contents, -1):
            return
        child.parent = self.tag
        contents.append(child)

    def insertText(self, data: str, insertBefore: Any = None) -> None:
        text, contents = NavigableString(data), self.tag.contents
        if insertBefore:
            self.insertBefore(TextNode(text, self.soup), insertBefore)
        elif not _merges(text, contents, -1):
            text.parent = self.tag
            contents.append(text)

    def insertBefore(self, node: Any, refNode: Any) -> None:
        child, contents = node.element, self.tag.contents
        if node.tag is not None:
            _take_out(child)
        at = self.tag.index(refNode.element)
        if node.tag is None and at > 0 and _merges(child, contents, at - 1):
            return
        node.parent = self
        child.parent = self.tag
        contents.insert(at, child)

    def removeChild(self, node: Any) -> None:
        _take_out(node.element)

    def cloneNode(self) -> _Element:
        self.meter.charge(10)
        clone = _Element(
            self.soup.new_tag(self.tag.name, self.namespace), self.soup, self.namespace, self.meter
        )
        for key, value in self.attributes:
            clone.attributes[key] = value
        return clone

    def reparentChildren(self, newParent: Any) -> None:
        moved, self.tag.contents = self.tag.contents, []
        self.meter.charge(len(moved) // 10)
        for child in moved:
            child.parent = newParent.tag
        newParent.tag.contents.extend(moved)


def _merges(text: Any, contents: list[Any], at: int) -> bool:
    """Add a text to the one at that place of the contents, if there is one (comments are none)."""
    if not contents or type(text) is not NavigableString:
        return False
    before = contents[at]
    if type(before) is not NavigableString:
        return False
    contents[at] = NavigableString(before + text)
    contents[at].parent = before.parent
    return True


def _take_out(child: Any) -> None:
    if child.parent is not None:
        contents = child.parent.contents
        del contents[-1 if contents[-1] is child else child.parent.index(child)]
        child.parent = None


def _link(soup: BeautifulSoup) -> None:
    """Give each node its siblings, and its neighbours in the order of the document."""
    soup.previous_element = soup.next_sibling = soup.previous_sibling = None
    last: Any = soup
    waiting: list[Any] = []
    inner: Any = soup.contents
    while True:
        before = None
        for child in inner:
            child.previous_sibling = before
            child.next_sibling = None
            if before is not None:
                before.next_sibling = child
            before = child
        waiting.extend(reversed(inner))
        if not waiting:
            break
        node = waiting.pop()
        node.previous_element, last.next_element = last, node
        last = node
        inner = () if isinstance(node, str) else node.contents
    last.next_element = None
