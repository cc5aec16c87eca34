"""What a family of prompts is, and the words that all families use in their prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from harness.records import Assertion

from .choices import Choices

Content = TypeVar("Content")


@dataclass(frozen=True)
class Family(Generic[Content]):
    """One kind of page or fragment.

    draw:     composes the content: a frozen dataclass of texts, numbers and names.
    write:    the reference answer for a content.
    check:    the assertions that follow from every phrasing of that content, 3 to 8 of them.
    trained:  phrasings that training rows and "seen-family" test rows use.
    reserved: phrasings that only "unseen-phrasing" test rows use.
    """

    name: str
    draw: Callable[[Choices], Content]
    write: Callable[[Content], str]
    check: Callable[[Content], Sequence[Assertion]]
    trained: tuple[Callable[[Content], str], ...]
    reserved: tuple[Callable[[Content], str], ...]


def quote(text: str) -> str:
    return f'"{text}"'


def listing(texts: Sequence[str], last: str = " and ") -> str:
    """`a`, `b and c`: the texts as they are, in a sentence."""
    if len(texts) < 2:
        return "".join(texts)
    return ", ".join(texts[:-1]) + last + texts[-1]


def quoted(texts: Sequence[str], last: str = " and ") -> str:
    """`"a"`, `"b" and "c"`: the texts in quotes, in a sentence."""
    return listing([quote(text) for text in texts], last)


def lines(texts: Sequence[str], mark: str = "- ") -> str:
    """The texts one a line, each after `mark`."""
    return "\n".join(mark + text for text in texts)


def an(name: str) -> str:
    """A tag's name after its article: `a ul`, `an ol`."""
    return f"an {name}" if name[0] in "aeio" else f"a {name}"
