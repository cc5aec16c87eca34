"""Rows as a source gives them, before they become examples; and words for messages about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.schema import ColumnsConfig

_NAMES_SHOWN = 8


@dataclass(slots=True)
class Rows:
    """What is being read.

    columns: every column that some row has, in order of appearance; whole once `rows` has ended.
    rows:    one mapping a row, with the columns that the task uses and that are there.
    """

    columns: dict[str, None]
    rows: Iterator[dict[str, Any]]


def used_columns(columns: ColumnsConfig) -> list[str]:
    """The columns that a task reads: prompt, context (if any), target."""
    names = [columns.prompt, columns.context, columns.target]
    return list(dict.fromkeys(name for name in names if name is not None))


def one_line(text: object, limit: int = 160) -> str:
    """Text of any origin as one printable line of at most `limit` characters."""
    printable = "".join(c if c.isprintable() else " " for c in str(text))
    line = " ".join(printable.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def shown(path: str | Path) -> str:
    """A path in quotes, for a message."""
    return f"'{one_line(path, 300)}'"


def listed(names: Iterable[str]) -> str:
    """Names in quotes, the first eight of them."""
    every = list(names)
    text = ", ".join(f"'{one_line(name, 30)}'" for name in every[:_NAMES_SHOWN]) or "none"
    more = len(every) - _NAMES_SHOWN
    return f"{text} and {more} more" if more > 0 else text
