"""The HTML in an answer, without the chat, the reasoning and the fence around it.

What it does, in this order:

1. Reasoning. All up to the last </think> (thinking, thought, reasoning, reflection) goes, whether
   it began here or in the prompt. What begins with a <think> that nothing closes is reasoning only,
   and the answer is "". Of channels (<|channel|>NAME
   <|message|>) the last named final is taken; where there are others only, the answer is "".
2. End of turn. After its first tag the answer ends at a marker that no page holds: <|word|>,
   <end_of_turn>, <start_of_turn>, <eos>, <bos>, or a line that begins "### Instruction:" (or
   Input, Response, Human, User, Assistant). `</s>` is left: it is an end tag of HTML.
3. Wrapper. Where the first tag is one of _WRAPPERS (artifact, answer, …), which no page holds, what
   is in the last of them is taken.
4. Quotation. Where a fence stands in a Markdown quotation, the quotation's lines are taken.
5. Fence. Where a line that opens a Markdown fence stands before every line that begins with a
   tag, one fenced block is taken: a whole document before a part of one, one named html before
   another that begins with a tag, the first before the later. A fence that is not closed goes
   to the end; code may begin in the opening line, and end in the closing one. A fence line inside
   pre, textarea or script closes nothing. Where a line that begins with a tag comes first, the
   answer is HTML and its fence lines are content; but a line that only talks of a tag (<h1> is …)
   is none. Where the page taken names one stylesheet of its own folder and one other block is a
   stylesheet, that stands in its place.
6. Span. Where all markup, more than one bare tag, stands in one span of code, what is in it is
   taken.
7. Chat before. Text before the first doctype or <html> goes, if no line of it begins with a
   tag. Else text before the first tag goes, if that tag begins a line and the text ends in a
   colon, a blank line, an opening fence or a role ([/INST], <|assistant|>, <|x|>assistant).
8. Chat after. Text after the last </html> goes, if no line of it begins with a tag. Where there
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
# A fence line, or a line of code that ends in a fence.
_FENCE_LINES = re.compile(
    r"^[ \t]*+(`{3,}+|~{3,}+)([^\n]*+)|^[^\n`~]*[^\n`~\s][ \t]*(`{3,}+|~{3,}+)[ \t]*+$", re.M
)
_ONE_LINE = re.compile(r"[ \t]*+(`{3,}|~{3,})[ \t]*(\w*+)[ \t]*+(<[^\n]*>)[ \t]*\1[ \t]*\Z")
_NAME = re.compile(r"[ \t]*+([^\s<]*+)(.*)", re.S)
_THOUGHT = re.compile(r"\s*+<(think|thinking|thought|reasoning|reflection)>", re.I)
_THOUGHT_ENDS = re.compile(r"</(?:think|thinking|thought|reasoning|reflection)>", re.I)
_CHANNEL = re.compile(r"<\|channel\|>\s*+(\w{1,40}+)[^<>]{0,80}+<\|message\|>")
# The same where the tokenizer left the markers out.
_BARE_START = re.compile(r"\s*+(?:analysis(?=[A-Z\s]).*?assistantfinal)", re.S)
_WRAPPERS = (
    "ant_?artifact|artifact|bolt_?artifact|bolt_?action|final_answer|answer|final|response|result|"
    "solution|html_output|html_code"
)
_WRAPPER = re.compile(rf"<({_WRAPPERS})(?:\s[^<>]*+)?>", re.I)
_WRAPPER_ENDS = re.compile(rf"\s*+</(?:{_WRAPPERS})\s*+>", re.I)
_QUOTED_FENCE = re.compile(r"^[ \t]*+>[ \t]?(?:`{3}|~{3})[^\n]*+(?:\n[ \t]*+>[^\n]*+)*+", re.M)
_QUOTE = re.compile(r"^[ \t]*+>[ \t]?", re.M)
_TALK = re.compile(r"[ \t]*+<([a-z][a-z0-9]*+)>[ \t]++[a-z]", re.I)
_END_TAG = re.compile(r"</([a-z][a-z0-9]*+)", re.I)
_WHOLE_SPAN = re.compile(r"[^<`]*+(`{1,2}+)(?!`)\s*+(<[^`]*>)\s*+\1(?!`)[^<`]*+\Z")
_LINK = re.compile(r"<link\b[^<>]*+>", re.I)
_ROUNDS = 8
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
    for _ in range(_ROUNDS):
        found = _taken(text)
        if found == text:
            break
        text = found
    return text


def _taken(text: str) -> str:
    """One round of the rules: what it takes may be wrapped once more."""
    text = _unquoted(_unwrapped(_turn(_without_thought(text))))
    if _fence_first(text):
        blocks = _blocks(text)
        usable = list(filter(_usable, blocks))
        if usable:
            text = _styled(min(usable, key=_rank).inside, blocks)
    span = _WHOLE_SPAN.match(text)
    if span and ("</" in span.group(2) or " " in span.group(2)):
        text = span.group(2)
    text = _without_chat_before(text)
    return text if _fence_first(text) else _without_chat_after(text)


def _without_thought(text: str) -> str:
    if channels := [*_CHANNEL.finditer(text)]:
        finals = [found for found in channels if found.group(1).lower() == "final"]
        if not finals:
            return ""
        text = text[finals[-1].end() :]
    elif found := _BARE_START.match(text):
        text = text[found.end() :]
    ends = [*_THOUGHT_ENDS.finditer(text)]
    if ends:
        after = text[ends[-1].end() :].lstrip()
        text = after or text[: ends[-1].start()]
    return "" if _THOUGHT.match(text) else text


def _unwrapped(text: str) -> str:
    start = _first(_FIRST, text)
    while start >= 0 and _WRAPPER.match(text, start):
        last = [*_WRAPPER.finditer(text, start)][-1]
        end = _WRAPPER_ENDS.search(text, last.end())
        text = text[last.end() : end.start() if end else None].strip()
        start = _first(_FIRST, text)
    return text


def _unquoted(text: str) -> str:
    found = _QUOTED_FENCE.search(text)
    if found is None or _LINE_OF_MARKUP.search(text, 0, found.start()):
        return text
    return _QUOTE.sub("", found.group())


def _styled(page: str, blocks: list[_Block]) -> str:
    """The page, with the stylesheet of another block where it names one of its own folder."""
    sheets = [block.inside for block in blocks if block.name == "css" and block.inside]
    links = [
        found
        for found in _LINK.finditer(page)
        if re.search(r"""\brel\s*=\s*["']?stylesheet\b""", found.group(), re.I)
        and not re.search(r"""\bhref\s*=\s*["']?\s*(?:[a-z]+:|//)""", found.group(), re.I)
    ]
    if len(sheets) != 1 or len(links) != 1 or "</style" in sheets[0].lower():
        return page
    (link,) = links
    return f"{page[: link.start()]}<style>\n{sheets[0]}\n</style>{page[link.end() :]}"


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
    if fence is None:
        return False
    closed = {name.lower() for name in _END_TAG.findall(text, 0, fence.start())} | VOID
    for line in _LINE_OF_MARKUP.finditer(text, 0, fence.start()):
        talk = _TALK.match(text, line.start())
        if talk is None or talk.group(1).lower() in closed:
            return False
    return True


def _blocks(text: str) -> list[_Block]:
    """The fenced blocks of a text in order, the last one perhaps not closed."""
    blocks: list[_Block] = []
    late = max((tag.start() for tag in _HOLDS_FENCES.finditer(text) if tag.group(1)), default=-1)
    opened: re.Match[str] | None = None
    seen, depth = 0, 0  # tags up to `seen` are counted: so many pre, textarea, script are open
    for line in _FENCE_LINES.finditer(text):
        if line.group(3) is not None:  # code, and a fence at its end
            if opened is not None and _closes(opened, line.group(3)) and late < line.start(3):
                blocks.append(_block(opened, text[opened.end() : line.start(3)]))
                opened = None
            continue
        fence, after = line.group(1), line.group(2).strip()
        if opened is None:
            if whole := _ONE_LINE.match(line.group()):
                blocks.append(_Block(whole.group(2).lower(), whole.group(3).strip()))
                continue
            opened, seen, depth = line, line.end(), 0
            continue
        if after:
            # A second opening line at once, as some models write it: it opens, not the first.
            if not text[opened.end() : line.start()].strip():
                opened, seen = line, line.end()
            continue
        if not _closes(opened, fence):
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


def _closes(opened: re.Match[str], fence: str) -> bool:
    return fence.startswith(opened.group(1))


def _block(opened: re.Match[str], inside: str) -> _Block:
    found = _NAME.match(opened.group(2))
    name, code = found.groups() if found else ("", "")
    if not code.lstrip().startswith("<"):
        code = ""  # what else stands there is about the block
    return _Block(name.lower(), f"{code}{inside}".strip())


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
