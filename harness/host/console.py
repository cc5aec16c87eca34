"""Where text leaves for a terminal: nothing in it is obeyed, and our characters always show.

Text of a file or of the command line can hold escape sequences, and characters that reorder what
stands around them. `clean` takes them out of all that is printed; `open_streams` lets a stream
that cannot say a character (an ASCII locale) say its nearest: ↑ as ^, × as x.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import shutil
import sys
from typing import TextIO

COLUMNS = 100  # of what is printed, at most

# What reorders the text around it ("Trojan Source"): embeddings, overrides, isolates, marks.
BIDI = frozenset([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C])
_CONTROLS = frozenset([*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029]) - {0x0A}
_CLEAN = dict.fromkeys(_CONTROLS | BIDI, " ") | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
_BOLD = re.compile("(\x1b\\[[01]m)")

# fmt: off
_PLAIN = {
    "↑": "^", "↓": "v", "→": "->", "─": "-", "│": "|", "├": "+", "└": "+", "·": "|",
    "–": "-", "—": "-", "×": "x", "…": "...", "\xa0": " ",
    "‘": "'", "’": "'", "“": '"', "”": '"', "≤": "<=", "≥": ">=", "±": "+-",
    **dict(zip("▁▂▃▄▅▆▇█", "_.-~=+*#", strict=True)),
}
# fmt: on
_PLAINLY = "harness.plainly"  # the name of the error handler below


def clean(text: str) -> str:
    """`text` without control characters but line ends, and without marks of direction."""
    return text.translate(_CLEAN)


def plainly(text: str, encoding: str) -> str:
    """`text` in what `encoding` can say, its other characters as their nearest in ASCII, or "?"."""
    return text.encode(encoding, _PLAINLY).decode(encoding)


def _nearest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(char, "?") for char in lacking), error.end


codecs.register_error(_PLAINLY, _nearest)


def open_streams() -> None:
    """Make the standard streams such that no text fails in them, for this whole process.

    A closed one becomes one that refuses every write: else the next file that is opened would
    take its place, and be written to by whatever prints.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDONLY)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    encoding = "ascii" if _ascii_locale() else None
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=encoding, errors=_PLAINLY)


def _ascii_locale() -> bool:
    """Whether the user asks for plain ASCII; Python itself takes UTF-8 for these locales."""
    given = os.environ
    if given.get("PYTHONIOENCODING") or given.get("PYTHONUTF8") or "utf8" in sys._xoptions:
        return False
    # In UTF-8 mode that nobody asked for, LC_CTYPE is what Python put there (PEP 538).
    kind = None if sys.flags.utf8_mode else given.get("LC_CTYPE")
    return (given.get("LC_ALL") or kind or given.get("LANG")) in ("C", "POSIX")


def emit(text: str, *, bold: bool = False) -> str | None:
    """Print `text` on standard output; why that failed, in the system's words, or None.

    bold: `text` has been made safe and may have the escape sequences that make it bold.
    A reader that is gone (`| head`) is no fault.
    """
    parts = _BOLD.split(text) if bold else [text]
    text = "".join(part if bold and _BOLD.fullmatch(part) else clean(part) for part in parts)
    if sys.stdout is None:
        return os.strerror(errno.EBADF)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
    except (OSError, ValueError) as error:
        silence(sys.stdout)
        return getattr(error, "strerror", None) or str(error)
    return None


def silence(stream: TextIO) -> None:
    """Let what waits in `stream` go nowhere, so that Python's own flush at exit cannot fail."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    if null != number:
        os.close(null)


def width() -> int:
    """Columns for what is printed: those of the terminal or of $COLUMNS, COLUMNS at most."""
    return min(COLUMNS, shutil.get_terminal_size((COLUMNS, 24)).columns)


def color() -> bool:
    """Whether standard output is a terminal that takes bold, and the user takes it too."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and sys.stdout is not None and sys.stdout.isatty()
