"""Rows as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

Rows: TypeAlias = Any
"""A pandas DataFrame; where pandas is not installed, a list of dicts, one a row."""


def rows_of(rows: Iterable[Mapping[str, Any]]) -> Rows:
    """The rows as a DataFrame, a column a key, None in a column of numbers as NaN; without pandas
    as they are."""
    plain = [dict(row) for row in rows]
    try:
        import pandas
    except ImportError:
        return plain
    return pandas.DataFrame(plain)
