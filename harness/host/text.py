"""Text of any origin made safe to show: for messages, for tables, and in a terminal's columns."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from harness.host.console import BIDI

ELLIPSIS = "…"
_NAMES_LISTED = 8

_REPLACEMENT = 0xFFFD
_CONTROLS = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), _REPLACEMENT),
    **dict.fromkeys(range(0xD800, 0xE000), _REPLACEMENT),
}
_MULTILINE = {code: to for code, to in _CONTROLS.items() if code not in (0x09, 0x0A, 0x0D)}
_ONE_LINE = {**_CONTROLS, **dict.fromkeys(BIDI, _REPLACEMENT)}
# Format characters that no terminal draws; it may draw the others (soft hyphen, Arabic signs).
_INVISIBLE = frozenset("\u200b\u200c\u200d\u2060\ufeff")
_WHITE = re.compile(r"[ \t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")


def one_line(text: object, limit: int = 160) -> str:
    """Anything as one line of a message: printable, at most `limit` characters.

    Of an error that says nothing, the name of its class.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    if not line and isinstance(text, BaseException):
        line = type(text).__name__
    return _cut(line, limit)


def quoted(name: object, limit: int = 300) -> str:
    """A path or a name in quotes, for a message; what cannot be printed as its escape."""
    text = str(name)
    return f"'{_cut(text if text.isprintable() else ascii(text)[1:-1], limit)}'"


def listed(names: Iterable[str]) -> str:
    """Names in quotes, the first eight of them."""
    every = list(names)
    text = ", ".join(quoted(name, 30) for name in every[:_NAMES_LISTED]) or "none"
    more = len(every) - _NAMES_LISTED
    return f"{text} and {more} more" if more > 0 else text


def printable(text: str) -> str:
    """`text` with no control character but tab and line ends, and no lone surrogate.

    Each is replaced by one character that shows it (NUL by "␀", ESC by "␛", the rest by "\ufffd"),
    so that the length stays, UTF-8 can encode it and no terminal obeys it.
    """
    return text.translate(_MULTILINE)


def single_line(text: str) -> str:
    """`printable` on one line: white space folded, and nothing that reorders its surroundings."""
    return _WHITE.sub(" ", text).strip().translate(_ONE_LINE)


def display_width(text: str) -> int:
    """Columns that `text` takes on a terminal: 2 for wide characters, 0 for combining marks.

    Unicode's East Asian Width (UAX #11), ambiguous ones narrow; a variation selector counts 1,
    for it may make what it follows wide, so that this is never too few.
    """
    if text.isascii():
        return len(text)
    return sum(map(_char_width, text))


def clip(text: str, width: int) -> str:
    """`text`, or as much of it as fits `width` columns with an ellipsis at the end."""
    if display_width(text) <= width:
        return text
    if width < 1:
        return ""
    head, _ = _split_at(text, width - 1)
    return head + ELLIPSIS


def pad(text: str, width: int, right: bool = False) -> str:
    """`text` filled with spaces to `width` columns; right: pushed to the right."""
    fill = " " * (width - display_width(text))
    return fill + text if right else text + fill


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """`text` in lines of at most `width` columns, all but the first begun with `indent`.

    A word that fits no line is broken, so that nothing of it is lost.
    """
    lines: list[str] = []
    line, empty = "", True
    for word in text.split():
        while True:
            room = width - display_width(line) - (not empty)
            if display_width(word) <= room:
                line, empty = (line if empty else f"{line} ") + word, False
                break
            if not empty:
                lines.append(line)
                line, empty = indent, True
                continue
            head, word = _split_at(word, max(room, 2))
            lines.append(line + head)
            line = indent
    return lines if empty else [*lines, line]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _split_at(text: str, width: int) -> tuple[str, str]:
    used = 0
    for index, char in enumerate(text):
        used += _char_width(char)
        if used > width:
            return text[:index], text[index:]
    return text, ""


def _char_width(char: str) -> int:
    if char.isascii():
        return 1
    if 0xFE00 <= ord(char) <= 0xFE0F:
        return 1
    if char in _INVISIBLE or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
