"""Rows as a source gives them, before they become examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.config.schema import ColumnsConfig


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
