"""The HTML in an answer, without the chat and the fence around it: one extractor for all.

What it does, in this order:

1. End of turn. After its first tag the answer ends at a marker that no page holds: <|word|>,
   <end_of_turn>, <start_of_turn>, <eos>, <bos>, or a line that begins "### Instruction:" (or
   Input, Response, Human, User, Assistant). `</s>` is left: it is an end tag of HTML.
2. Fence. Where a line that opens a Markdown fence stands before every line that begins with a
   tag, one fenced block is taken: a whole document before a part of one, one named html before
   another that begins with a tag, the first before the later. A fence that is not closed goes
   to the end. A fence line inside pre, textarea or script closes nothing. Where a line that
   begins with a tag comes first, the answer is HTML and its fence lines are content.
3. Chat before. Text before the first doctype or <html> goes, if no line of it begins with a
   tag. Else text before the first tag goes, if that tag begins a line and the text ends in a
   colon, a blank line, an opening fence or a role ([/INST], <|assistant|>, <|x|>assistant).
4. Chat after. Text after the last </html> goes, if no line of it begins with a tag. Where there
   is no </html>, text after the last tag goes, if a blank line or a fence line parts the two
   and every element that was opened is closed; else it may be content, and stays.

A tag in a span of code of its own (`<b>`) is talk, not markup. A text without
HTML comes back as it is, and so does one that is HTML only. Twice is once: extract(extract(x))
== extract(x). The time is linear in the length of the text.

Source: our own definition; a fence line is CommonMark 0.31's (4.5), indented as it likes.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

from harness.scorers.html.balance import VOID

_TURN = r"(?:(?:start|end)_of_turn|eos|bos)>"
_SPAN = r"`<[^`<>\n]*+>`"  # a tag and nothing else: no cut can fall inside
# Where markup begins: a start tag, a doctype, a comment, an XML declaration.
_START = rf"<(?!{_TURN})(?:[a-z]|!doctype\b|!--|\?xml\b)"
_DOCUMENT = r"<(?:!doctype\b|html\b)"
_MARKER = re.compile(rf"<(?:\|\w{{1,40}}\|>|{_TURN})", re.I)
_ROLE = re.compile(r"^##{1,3} ?(?:Instruction|Input|Response|Human|User|Assistant) ?:", re.M | re.I)
_FIRST = re.compile(rf"{_SPAN}|({_START})", re.I)
_FIRST_DOCUMENT = re.compile(rf"{_SPAN}|({_DOCUMENT})", re.I)
_LINE_OF_MARKUP = re.compile(rf"^[ \t]*+{_START}", re.M | re.I)
_TAG = re.compile(rf"{_SPAN}|<(/?)([a-z][^\s<>/]*+)([^<>]*+)>|-->", re.I)
_END_OF_DOCUMENT = re.compile(rf"{_SPAN}|(</html\s*+>)", re.I)
_FENCE = re.compile(r"^[ \t]*+(`{3,}+|~{3,}+)([^\n]*+)", re.M)
_HOLDS_FENCES = re.compile(r"<(/?)(?:pre|textarea|script)\b", re.I)
_CHAT_ENDS = re.compile(
    r"(?::|[`~]{3}\w{0,40}|\[/INST\]|\|>(?:model|assistant)?|_of_turn>(?:model|assistant)?)\Z", re.I
)
_PARTED = re.compile(r"[ \t]*+\r?\n[ \t]*+(?:\r?\n|`{3}|~{3})")
_HTML_NAMES = frozenset({"html", "htm", "html5", "xhtml"})


class _Block(NamedTuple):
    """A fenced block: the first word after the fence, in lower case, and what is inside."""

    name: str
    inside: str


@lru_cache(maxsize=8)
def extract(text: str) -> str:
    """The part of an answer that is meant as HTML, by the module's rules; "" for "".

    Nothing is changed but what is cut from the two ends. Raises nothing, whatever the text.
    """
    text = _turn(text)
    if _fence_first(text):
        usable = list(filter(_usable, _blocks(text)))
        if usable:
            text = min(usable, key=_rank).inside
    text = _without_chat_before(text)
    return text if _fence_first(text) else _without_chat_after(text)


def _turn(text: str) -> str:
    start = _first(_FIRST, text)
    if start < 0:
        return text
    ends = (_MARKER.search(text, start), _ROLE.search(text, start) if "##" in text else None)
    end = min((found.start() for found in ends if found), default=-1)
    return text[:end].rstrip() if end >= 0 else text


def _first(pattern: re.Pattern[str], text: str) -> int:
    """Where `pattern` finds the first markup that is not in a span of code; -1: nowhere."""
    return next((found.start() for found in pattern.finditer(text) if found.group(1)), -1)


def _fence_first(text: str) -> bool:
    """Whether a fence line stands before every line that begins with markup."""
    fence = _FENCE.search(text)
    return fence is not None and _LINE_OF_MARKUP.search(text, 0, fence.start()) is None


def _blocks(text: str) -> list[_Block]:
    """The fenced blocks of a text in order, the last one perhaps not closed."""
    blocks: list[_Block] = []
    late = max((tag.start() for tag in _HOLDS_FENCES.finditer(text) if tag.group(1)), default=-1)
    opened: re.Match[str] | None = None
    seen, depth = 0, 0  # tags up to `seen` are counted: so many pre, textarea, script are open
    for line in _FENCE.finditer(text):
        fence, after = line.group(1), line.group(2).strip()
        if opened is None:
            opened, seen, depth = line, line.end(), 0
            continue
        if after:
            # A second opening line at once, as some models write it: it opens, not the first.
            if not text[opened.end() : line.start()].strip():
                opened, seen = line, line.end()
            continue
        if not fence.startswith(opened.group(1)):
            continue
        for tag in _HOLDS_FENCES.finditer(text, seen, line.start()):
            depth += -1 if tag.group(1) else 1
        seen = line.end()
        if depth <= 0 or late < line.start():
            blocks.append(_block(opened, text[opened.end() : line.start()]))
            opened = None
    if opened is not None:
        blocks.append(_block(opened, text[opened.end() :]))
    return blocks


def _block(opened: re.Match[str], inside: str) -> _Block:
    words = opened.group(2).lower().split(None, 1)
    return _Block(words[0] if words else "", inside.strip())


def _usable(block: _Block) -> bool:
    """Whether a block is HTML, and can be taken without asking for a second taking."""
    html = bool(block.inside) if block.name in _HTML_NAMES else _begins_with_markup(block.inside)
    return html and not _fence_first(block.inside)


def _rank(block: _Block) -> tuple[bool, bool]:
    document = _first(_FIRST_DOCUMENT, block.inside) >= 0
    return (not document, block.name not in _HTML_NAMES)


def _begins_with_markup(text: str) -> bool:
    return _LINE_OF_MARKUP.match(text) is not None


def _without_chat_before(text: str) -> str:
    document = _first(_FIRST_DOCUMENT, text)
    if document >= 0 and _LINE_OF_MARKUP.search(text[:document]) is None:
        return text[document:] if text[:document].strip() else text
    start = _first(_FIRST, text)
    if start < 0:
        return text
    before = text[:start].rstrip()
    gap = text[len(before) : start]
    parted = gap.count("\n") > 1 or ("\n" in gap and _CHAT_ENDS.search(before[-80:]))
    return text[start:] if before and parted else text


def _without_chat_after(text: str) -> str:
    ends = (found.end() for found in _END_OF_DOCUMENT.finditer(text) if found.group(1))
    end = max(ends, default=-1)
    if end >= 0:
        cut = text[end:].strip() and _LINE_OF_MARKUP.search(text[end:]) is None
        return text[:end] if cut else text
    if text.rstrip().endswith(">"):
        return text
    opened: Counter[str] = Counter()
    for tag in _TAG.finditer(text):
        if tag.group(0)[0] == "`":
            continue
        end = tag.end()
        name = (tag.group(2) or "").lower()
        if name and name not in VOID and not tag.group(3).endswith("/"):
            opened[name] += -1 if tag.group(1) else 1
    parted = end >= 0 and text[end:].strip() and _PARTED.match(text, end)
    return text[:end] if parted and not any(opened.values()) else text
