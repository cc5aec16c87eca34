"""A page parsed once, for all the scorers that look at markup, within a fixed amount of work."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from harness.scorers.base import Unscored

if TYPE_CHECKING:
    from bs4 import BeautifulSoup

PARSER = "html5lib-1.1-2026"
"""How signatures name it: html5lib 1.1 with the rules of the HTML standard of 2026 (`standard`)."""
MAX_CHARACTERS = 400_000
MAX_WORK = 400_000


@dataclass(frozen=True, slots=True)
class ParseError:
    """One error of html5lib's list: its code, and where (line from 1, column from 0)."""

    code: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag that the author wrote (not one that the parser supplied), name in lower case."""

    kind: Literal["start", "end"]
    name: str
    self_closing: bool


@dataclass(frozen=True, slots=True)
class Page:
    """What html5lib makes of a text.

    errors: in the order of the text.
    tags:   every tag of the text, as the tokenizer tells them (none in comments or scripts).
    soup:   the document's tree, of BeautifulSoup's classes.
    work:   units of parsing work spent, of MAX_WORK.
    """

    errors: tuple[ParseError, ...]
    tags: tuple[Tag, ...]
    soup: BeautifulSoup
    work: int


@lru_cache(maxsize=4)
def parse(text: str) -> Page | Unscored:
    """Parse `text` as a document by the HTML standard (html5lib 1.1, mended by
    harness.scorers.html.standard; scripting off).

    html5lib is quadratic in depth, in attributes of a tag and in much else. So a text over
    MAX_CHARACTERS is refused, and so is one that asks for more than MAX_WORK units of work:
    a count of tokens, elements and steps that depends on the text alone, never on the
    machine (half a second or so; a web page of 240,000 characters takes a fifth of it). The tree
    is shared between callers through a small cache: read it, never change it.
    """
    if len(text) > MAX_CHARACTERS:
        return Unscored(f"longer than {MAX_CHARACTERS:,} characters")
    from harness.scorers.html.guarded import TooMuchWork, parse_guarded

    try:
        return parse_guarded(text, MAX_WORK)
    except TooMuchWork:
        return Unscored("too deep or too tangled to parse in bounded time")
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError):
        # html5lib's own faults on broken input: no verdict is better than a guess.
        return Unscored("html5lib failed on it")
