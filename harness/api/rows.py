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
    try:
        return pandas.DataFrame(plain)
    except UnicodeEncodeError:  # a lone surrogate, for which its text type has no room
        names = dict.fromkeys(name for row in plain for name in row)
        columns = {name: [row.get(name) for row in plain] for name in names}
        return pandas.DataFrame({name: _series(values) for name, values in columns.items()})


def _series(values: list[Any]) -> Any:
    import pandas

    is_text = any(isinstance(value, str) for value in values)
    return pandas.Series(values, dtype=object if is_text else None)
