"""Where html5lib 1.1 (2020) follows an older HTML standard: its states and phases as of today.

Source of each rule: the HTML standard, 13.2.5 (tokenization) and 13.2.6 (tree construction), as of
2026. Codes of errors are html5lib's own where it has one for the rule.
"""

from __future__ import annotations

from typing import Any

from html5lib._tokenizer import HTMLTokenizer
from html5lib._utils import MethodDispatcher
from html5lib.constants import (
    EOF,
    entities,
    namespaces,
    spaceCharacters,
    specialElements,
    tokenTypes,
)
from html5lib.html5parser import HTMLParser, getPhases, impliedTagToken
from html5lib.treebuilders.base import Marker, listElementsMap

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_LONGEST = max(len(name) for name in entities if not name.endswith(";"))
_ERROR = tokenTypes["ParseError"]
_HTML = namespaces["html"]
_SCOPES = {
    variant: frozenset([*names, (_HTML, "template"), *([(_HTML, "select")] * (variant != "table"))])
    for variant, (names, inverted) in listElementsMap.items()
    if not inverted
}
"""What ends the search for an open element; template and select are younger than html5lib."""
_SPECIAL = frozenset([*specialElements, (_HTML, "template"), (_HTML, "search")])
_MODES = {
    **dict.fromkeys(("tbody", "thead", "tfoot"), "inTableBody"),
    **dict.fromkeys(("td", "th"), "inCell"),
    "tr": "inRow",
    "caption": "inCaption",
    "colgroup": "inColumnGroup",
    "table": "inTable",
    "head": "inHead",
    "body": "inBody",
    "frameset": "inFrameset",
}
_IN_TEMPLATE = {
    **dict.fromkeys(("caption", "colgroup", "tbody", "tfoot", "thead"), "inTable"),
    **dict.fromkeys(("td", "th"), "inRow"),
    "col": "inColumnGroup",
    "tr": "inTableBody",
}
_OF_HEAD = (
    "base",
    "basefont",
    "bgsound",
    "link",
    "meta",
    "noframes",
    "script",
    "style",
    "template",
    "title",
)
_IMPLIED = ("caption", "colgroup", "tbody", "td", "tfoot", "th", "thead", "tr")


def _phase(name: str) -> Any:
    """html5lib's own."""
    return getPhases(False)[name]


def _handlers(phase: Any, name: str, default: Any, **changed: Any) -> Any:
    """A phase's handlers of tags, some of them others. default: the method for all other tags, or
    its name."""
    made = MethodDispatcher()
    made.update(phase.__dict__[name])
    made.default = getattr(phase, default) if isinstance(default, str) else default
    made.update(changed)
    return made


class StandardTokenizer(HTMLTokenizer):  # type: ignore[misc]
    """Character references and comments."""

    def consumeEntity(self, allowedChar: str | None = None, fromAttribute: bool = False) -> None:
        """13.2.5.72, 73 and 74: after "&".

        "&" before anything that is no reference is text. A name without ";" is an error, but in an
        attribute before "=", a letter or a digit, where it is text; a name that is none is one
        before ";" only.
        """
        stream = self.stream
        first = stream.char()
        stream.unget(first)
        if first == "#":
            super().consumeEntity(allowedChar, fromAttribute)
            return
        text = "&"
        if first in _LETTERS:
            name = stream.charsUntil(_LETTERS, True)
            after = stream.char()
            if after == ";" and f"{name};" in entities:
                text = entities[f"{name};"]
            else:
                stream.unget(after)
                text = self._reference(name, after, fromAttribute)
        if fromAttribute:
            self.currentToken["data"][-1][1] += text
        else:
            kind = "SpaceCharacters" if text in spaceCharacters else "Characters"
            self.tokenQueue.append({"type": tokenTypes[kind], "data": text})

    def _reference(self, name: str, after: Any, attribute: bool) -> str:
        """What "&" and a name mean that is none with a ";" after it."""
        known = next((n for n in range(min(len(name), _LONGEST), 0, -1) if name[:n] in entities), 0)
        rest = name[known:]
        if not known:
            if after == ";":
                self._error("expected-named-entity")
            return f"&{name}"
        if attribute and (rest or after == "="):
            return f"&{name}"
        self._error("named-entity-without-semicolon")
        return f"{entities[name[:known]]}{rest}"

    def commentState(self) -> bool:
        """13.2.5.45 to 49: with "<!--" in a comment, which is an error."""
        data = self.stream.char()
        if data != "<":
            self.stream.unget(data)
            if data in ("-", "\0", EOF):
                return bool(super().commentState())
            self.currentToken["data"] += self.stream.charsUntil(("-", "<", "\0"))
            return True
        self.currentToken["data"] += data
        after = self.stream.char()
        if after != "!":
            self.stream.unget(after)
            return True
        self.currentToken["data"] += after
        for state in (self.commentEndDashState, self.commentEndState):
            dash = self.stream.char()
            if dash != "-":
                self.stream.unget(dash)
                return True
            self.state = state
        end = self.stream.char()
        self.stream.unget(end)
        if end not in (">", EOF):
            self._error("nested-comment")
        return True

    def commentEndState(self) -> bool:
        """13.2.5.51: after "--"; dashes and other characters there are the comment's own."""
        data = self.stream.char()
        if data == "!":
            self.state = self.commentEndBangState
        elif data == "-":
            self.currentToken["data"] += data
        elif data in (">", EOF):
            self.stream.unget(data)
            return bool(super().commentEndState())
        else:
            self.stream.unget(data)
            self.currentToken["data"] += "--"
            self.state = self.commentState
        return True

    def commentEndBangState(self) -> bool:
        """13.2.5.52: after "--!", which closes a comment, and is an error."""
        data = self.stream.char()
        if data == ">":
            self._error("unexpected-bang-after-double-dash-in-comment")
        self.stream.unget(data)
        if data in (">", "-", EOF):
            return bool(super().commentEndBangState())
        self.currentToken["data"] += "--!"
        self.state = self.commentState
        return True

    def _error(self, code: str) -> None:
        self.tokenQueue.append({"type": _ERROR, "data": code})


class _InTableText(_phase("inTableText")):  # type: ignore[misc]
    __slots__ = ()

    def flushCharacters(self) -> None:
        """13.2.6.4.10: text that is moved out of a table is an error."""
        if any(c not in spaceCharacters for token in self.characterTokens for c in token["data"]):
            self.parser.parseError("unexpected-text-in-table")
        super().flushCharacters()


class _HoldsTemplates:
    """Mixed into phases in which templates may begin, end, or be cut off."""

    __slots__ = ()
    parser: Any

    def startTagTemplate(self, token: Any) -> Any:
        return self.parser.phases["inHead"].processStartTag(token)

    def endTagTemplate(self, token: Any) -> Any:
        return self.parser.phases["inHead"].processEndTag(token)

    def processEOF(self) -> Any:
        if self.parser.in_template:
            return self.parser.phases["inTemplate"].processEOF()
        return super().processEOF()  # type: ignore[misc]


class _InCaption(_phase("inCaption")):  # type: ignore[misc]
    __slots__ = ()

    def startTagTableElement(self, token: Any) -> Any:
        """13.2.6.4.11: the end tag of caption may be left out before what follows it."""
        return self._ended(token)

    def endTagTable(self, token: Any) -> Any:
        return self._ended(token)

    def _ended(self, token: Any) -> Any:
        if self.ignoreEndTagCaption():
            self.parser.parseError("unexpected-start-tag", {"name": token["name"]})
            return None
        self.parser.phase.processEndTag(impliedTagToken("caption"))
        return token

    startTagHandler = _handlers(
        _phase("inCaption"),
        "startTagHandler",
        "startTagOther",
        **dict.fromkeys(("col", *_IMPLIED), startTagTableElement),
    )
    endTagHandler = _handlers(
        _phase("inCaption"), "endTagHandler", "endTagOther", table=endTagTable
    )


class _InBody(_HoldsTemplates, _phase("inBody")):  # type: ignore[misc]
    """13.2.6.4.7. A select has no mode of its own any more: it may hold what a body may."""

    __slots__ = ()

    def startTagSelect(self, token: Any) -> None:
        if self.tree.elementInScope("select"):
            self.parser.parseError("unexpected-select-in-select")
            self._pop_until("select")
            return
        self.tree.reconstructActiveFormattingElements()
        self.tree.insertElement(token)
        self.parser.framesetOK = False

    def startTagOpt(self, token: Any) -> None:
        if self.tree.elementInScope("select"):
            group = token["name"] == "optgroup"
            self.tree.generateImpliedEndTags(None if group else "optgroup")
            names = ("option", "optgroup") if group else ("option",)
            if any(self.tree.elementInScope(name) for name in names):
                self.parser.parseError("unexpected-start-tag", {"name": token["name"]})
        elif self.tree.openElements[-1].name == "option":
            self.tree.openElements.pop()
        self.tree.reconstructActiveFormattingElements()
        self.tree.insertElement(token)

    def startTagHr(self, token: Any) -> None:
        if self.tree.elementInScope("p", variant="button"):
            self.endTagP(impliedTagToken("p"))
        if self.tree.elementInScope("select"):
            self.tree.generateImpliedEndTags()
            if any(self.tree.elementInScope(name) for name in ("option", "optgroup")):
                self.parser.parseError("unexpected-start-tag", {"name": "hr"})
        super().startTagHr(token)

    def startTagInput(self, token: Any) -> None:
        if self.tree.elementInScope("select"):
            self.parser.parseError("unexpected-input-in-select")
            self._pop_until("select")
        super().startTagInput(token)

    def _pop_until(self, name: str) -> None:
        while self.tree.openElements.pop().name != name:
            pass

    def endTagOther(self, token: Any) -> None:
        for element in reversed(self.tree.openElements):
            if element.name == token["name"]:
                break
            if element.nameTuple in _SPECIAL:
                self.parser.parseError("unexpected-end-tag", {"name": token["name"]})
                return
        super().endTagOther(token)

    def startTagBody(self, token: Any) -> None:
        if self.parser.in_template:
            self.parser.parseError("unexpected-start-tag", {"name": "body"})
        else:
            super().startTagBody(token)

    def startTagFrameset(self, token: Any) -> None:
        if [element.name for element in self.tree.openElements[1:2]] == ["body"]:
            super().startTagFrameset(token)
        else:
            self.parser.parseError("unexpected-start-tag", {"name": "frameset"})

    def startTagForm(self, token: Any) -> None:
        pointer = self.tree.formPointer
        if self.parser.in_template:
            self.tree.formPointer = None
        super().startTagForm(token)
        if self.parser.in_template:
            self.tree.formPointer = pointer

    def endTagForm(self, token: Any) -> None:
        if self.parser.in_template:
            self.endTagBlock(token)
        else:
            super().endTagForm(token)

    startTagHandler = _handlers(
        _phase("inBody"),
        "startTagHandler",
        "startTagOther",
        search=_phase("inBody").startTagCloseP,
        dialog=_phase("inBody").startTagCloseP,
        select=startTagSelect,
        option=startTagOpt,
        optgroup=startTagOpt,
        hr=startTagHr,
        input=startTagInput,
        body=startTagBody,
        frameset=startTagFrameset,
        form=startTagForm,
        template=_HoldsTemplates.startTagTemplate,
    )
    endTagHandler = _handlers(
        _phase("inBody"),
        "endTagHandler",
        endTagOther,
        search=_phase("inBody").endTagBlock,
        select=_phase("inBody").endTagBlock,
        form=endTagForm,
        template=_HoldsTemplates.endTagTemplate,
    )


class _InHead(_phase("inHead")):  # type: ignore[misc]
    """13.2.6.4.4: a template opens a mode of its own, which stands on a stack of such."""

    __slots__ = ()

    def startTagTemplate(self, token: Any) -> None:
        self.tree.insertElement(token)
        self.tree.activeFormattingElements.append(Marker)
        self.parser.framesetOK = False
        self.parser.templates.append("inTemplate")
        self.parser.phase = self.parser.phases["inTemplate"]

    def endTagTemplate(self, token: Any) -> None:
        if not self.parser.in_template:
            self.parser.parseError("unexpected-end-tag", {"name": "template"})
            return
        elements = self.tree.openElements
        self.tree.generateImpliedEndTags()
        while elements[-1].name in _IMPLIED:
            elements.pop()
            self.tree.generateImpliedEndTags()
        if elements[-1].name != "template":
            self.parser.parseError("end-tag-too-early", {"name": "template"})
        self.parser.close_template()

    startTagHandler = _handlers(
        _phase("inHead"), "startTagHandler", "startTagOther", template=startTagTemplate
    )
    endTagHandler = _handlers(
        _phase("inHead"), "endTagHandler", "endTagOther", template=endTagTemplate
    )


class _AfterHead(_phase("afterHead")):  # type: ignore[misc]
    __slots__ = ()

    startTagHandler = _handlers(
        _phase("afterHead"),
        "startTagHandler",
        "startTagOther",
        template=_phase("afterHead").startTagFromHead,
    )
    endTagHandler = _handlers(
        _phase("afterHead"), "endTagHandler", "endTagOther", template=_HoldsTemplates.endTagTemplate
    )


class _InTemplate(_phase("inBody").__mro__[1]):  # type: ignore[misc]
    """13.2.6.4.22."""

    __slots__ = ()

    def processCharacters(self, token: Any) -> Any:
        return self.parser.phases["inBody"].processCharacters(token)

    def processSpaceCharacters(self, token: Any) -> Any:
        return self.parser.phases["inBody"].processSpaceCharacters(token)

    def processStartTag(self, token: Any) -> Any:
        name = token["name"]
        if name in _OF_HEAD:
            return self.parser.phases["inHead"].processStartTag(token)
        mode = _IN_TEMPLATE.get(name, "inBody")
        self.parser.templates[-1] = mode
        self.parser.phase = self.parser.phases[mode]
        return token

    def processEndTag(self, token: Any) -> Any:
        if token["name"] == "template":
            return self.parser.phases["inHead"].processEndTag(token)
        self.parser.parseError("unexpected-end-tag", {"name": token["name"]})
        return None

    def processEOF(self) -> bool:
        while self.parser.in_template:
            self.parser.parseError("eof-in-template")
            self.parser.close_template()
        # html5lib's loop lets no phase have its turn twice.
        while self.parser.phase.processEOF():
            pass
        return False


class _InTable(_HoldsTemplates, _phase("inTable")):  # type: ignore[misc]
    __slots__ = ()

    def clearStackToTableContext(self) -> None:
        while self.tree.openElements[-1].name not in ("table", "template", "html"):
            self.tree.openElements.pop()

    def startTagTable(self, token: Any) -> Any:
        self.parser.parseError(
            "unexpected-start-tag-implies-end-tag", {"startName": "table", "endName": "table"}
        )
        if not self.tree.elementInScope("table", variant="table"):
            return None
        self.parser.phase.processEndTag(impliedTagToken("table"))
        return token

    startTagHandler = _handlers(
        _phase("inTable"),
        "startTagHandler",
        "startTagOther",
        table=startTagTable,
        template=_HoldsTemplates.startTagTemplate,
    )
    endTagHandler = _handlers(
        _phase("inTable"), "endTagHandler", "endTagOther", template=_HoldsTemplates.endTagTemplate
    )


class _InTableBody(_phase("inTableBody")):  # type: ignore[misc]
    __slots__ = ()

    def clearStackToTableBodyContext(self) -> None:
        names = ("tbody", "tfoot", "thead", "template", "html")
        while self.tree.openElements[-1].name not in names:
            self.tree.openElements.pop()


class _InRow(_phase("inRow")):  # type: ignore[misc]
    __slots__ = ()

    def clearStackToTableRowContext(self) -> None:
        while self.tree.openElements[-1].name not in ("tr", "template", "html"):
            self.tree.openElements.pop()


class _InColumnGroup(_HoldsTemplates, _phase("inColumnGroup")):  # type: ignore[misc]
    __slots__ = ()

    def ignoreEndTagColgroup(self) -> bool:
        return bool(self.tree.openElements[-1].name != "colgroup")

    startTagHandler = _handlers(
        _phase("inColumnGroup"),
        "startTagHandler",
        "startTagOther",
        template=_HoldsTemplates.startTagTemplate,
    )
    endTagHandler = _handlers(
        _phase("inColumnGroup"),
        "endTagHandler",
        "endTagOther",
        template=_HoldsTemplates.endTagTemplate,
    )


_OWN = {
    "inTableText": _InTableText,
    "inCaption": _InCaption,
    "inBody": _InBody,
    "inHead": _InHead,
    "afterHead": _AfterHead,
    "inTemplate": _InTemplate,
    "inTable": _InTable,
    "inTableBody": _InTableBody,
    "inRow": _InRow,
    "inColumnGroup": _InColumnGroup,
}


class StandardParser(HTMLParser):  # type: ignore[misc]
    """Tree construction. templates: the modes of the templates that are open."""

    def __init__(self, tree: Any) -> None:
        super().__init__(tree=tree)
        self.templates: list[str] = []
        self.phases |= {name: phase(self, self.tree) for name, phase in _OWN.items()}

    @property
    def in_template(self) -> bool:
        """Whether a template is open."""
        return bool(self.templates)

    @property
    def innerHTML(self) -> bool:
        """Whether table elements may stand without their table: html5lib knows that of fragments
        only."""
        if self.templates:
            for element in reversed(self.tree.openElements):
                if element.nameTuple in _SCOPES["table"]:
                    return bool(element.name == "template")
        return False

    @innerHTML.setter
    def innerHTML(self, value: Any) -> None:
        """Fragments are not parsed."""

    def close_template(self) -> None:
        """Close the innermost template, whatever is open in it."""
        while self.tree.openElements.pop().nameTuple != (_HTML, "template"):
            pass
        self.tree.clearActiveFormattingElements()
        self.templates.pop()
        self.resetInsertionMode()

    def resetInsertionMode(self) -> None:
        """13.2.4.1."""
        mode = "beforeHead" if self.tree.headPointer is None else "afterHead"
        for element in reversed(self.tree.openElements[1:]):
            if element.namespace != _HTML:
                continue
            if element.name == "template":
                mode = self.templates[-1]
                break
            if element.name in _MODES:
                mode = _MODES[element.name]
                break
        self.phase = self.phases[mode]


class StandardTree:
    """Mixed into a tree builder: scopes, and where what does not belong into a table goes."""

    openElements: list[Any]

    def elementInScope(self, target: Any, variant: str | None = None) -> bool:
        """13.2.4.2. target: an element, or the name of one."""
        ends = _SCOPES[variant]
        name = (_HTML, target) if isinstance(target, str) else None
        for element in reversed(self.openElements):
            if element.nameTuple == name if name else element is target:
                return True
            if element.nameTuple in ends:
                return False
        return False

    def getTableMisnestedNodePosition(self) -> tuple[Any, Any]:
        """13.2.6.1: the appropriate place for a node, with foster parenting."""
        for at in range(len(self.openElements) - 1, 0, -1):
            element = self.openElements[at]
            if element.name == "template":
                return element, None
            if element.name == "table":
                if element.parent:
                    return element.parent, element
                return self.openElements[at - 1], None
        return self.openElements[0], None
