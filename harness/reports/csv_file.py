"""comparison.csv: RFC 4180, numbers exact, nothing that a spreadsheet would run as a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from harness.errors import DataError
from harness.host.text import printable, single_line
from harness.reports.comparison import ALL_SEEDS, COLUMNS, FURTHER, ComparisonRow

_QUOTED = re.compile(r'[",\r\n]|^[ \t]|[ \t]$')
_FORMULA = frozenset("=+-@＝＋－＠")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?|-?inf|nan")
_NON_EMPTY = frozenset(["model", "task", "metric"])
_KEY = ("model", "task", "recipe", "seed", "metric")


def comparison_csv(rows: Iterable[ComparisonRow]) -> str:
    """The text of comparison.csv: a header line always, then one line a row, each ended by "\\n".

    Floats are written so that reading gives the same bits; None is an empty cell. Write the text
    as UTF-8 with newline="", for the cells keep their own line ends.
    """
    given = [row.to_json() for row in rows]
    names = (*COLUMNS, *(name for name in FURTHER if any(row[name] is not None for row in given)))
    return "".join(
        [csv_line(names), *(csv_line(cell(row[name]) for name in names) for row in given)]
    )


def parse_comparison_csv(text: str, source: str = "comparison.csv") -> list[ComparisonRow]:
    """The rows of a comparison.csv, the inverse of `comparison_csv`. Strict.

    source: what to call the file in an error.
    Raises DataError: other columns, a cell that is no number where one must stand, an unknown
    direction, no name where one must stand, or the same (model, task, recipe, seed, metric) twice.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    rows: list[ComparisonRow] = []
    seen: dict[tuple[object, ...], int] = {}
    try:
        header = next(reader, [])
        further = tuple(name for name in FURTHER if name in header)
        if tuple(header) != (*COLUMNS, *further):
            raise DataError(_wrong_header(header, source))
        for cells in reader:
            where = f"{source}, line {reader.line_num}"
            if len(cells) != len(header):
                raise DataError(
                    f"{where}: it has {len(cells)} cells where {len(header)} belong; "
                    "write the file again with the run that made it."
                )
            row = ComparisonRow(
                **{
                    name: _parse(text, name, _KINDS[name], where)
                    for text, name in zip(cells, header, strict=True)
                }
            )
            key = tuple(getattr(row, name) for name in _KEY)
            if key in seen:
                raise DataError(
                    f"{where}: metric '{single_line(row.metric)}' of this model, task, recipe and "
                    f"seed already stands in line {seen[key]}; keep one of the two."
                )
            seen[key] = reader.line_num
            rows.append(row)
    except csv.Error as error:
        raise DataError(
            f"{source}, line {reader.line_num}: not CSV ({error}); "
            "write the file again with the run that made it."
        ) from None
    return rows


def cell(value: str | float | None) -> str:
    """One cell, before it is quoted: numbers as they are, text printable and never a formula."""
    if value is None:
        return ""
    if isinstance(value, str):
        return escape_formula(printable(value))
    return repr(value)


def escape_formula(text: str) -> str:
    """An apostrophe before what a spreadsheet may take for a formula (OWASP, "CSV injection").

    That is text that begins with = + - @ (their full-width forms too, white space before them or
    not), a tab or a carriage return, after any apostrophes, so that `unescape_formula` undoes it.
    """
    return f"'{text}" if _risky(text) else text


def unescape_formula(text: str) -> str:
    return text[1:] if text.startswith("'") and _risky(text) else text


def csv_line(cells: Iterable[str]) -> str:
    """One record of RFC 4180 with "\\n" at its end, quoted where it must be.

    Not csv.writer: before Python 3.13 it leaves a lone carriage return unquoted, and then no
    reader gives the record back.
    """
    quoted = ('"' + c.replace('"', '""') + '"' if _QUOTED.search(c) else c for c in cells)
    return ",".join(quoted) + "\n"


def _risky(text: str) -> bool:
    bare = text.lstrip("'")
    return bare.startswith(("\t", "\r")) or bare.lstrip()[:1] in _FORMULA


def _wrong_header(header: list[str], source: str) -> str:
    missing = [name for name in COLUMNS if name not in header]
    extra = [single_line(name) for name in header if name not in (*COLUMNS, *FURTHER)]
    if missing:
        what = f"column '{missing[0]}' is missing"
    elif extra:
        what = f"column '{extra[0]}' is unknown"
    else:
        what = "its columns are not in their order, each once"
    return f"{source}, line 1: {what}; the header must be {','.join(COLUMNS)}."


def _parse(text: str, name: str, kind: str, where: str) -> Any:
    def wrong(must: str) -> DataError:
        shown = single_line(text)[:60]
        return DataError(f"{where}: {name} is '{shown}' where {must} belongs; correct the cell.")

    if kind == "str":
        if name in _NON_EMPTY and not text:
            raise wrong("a name")
        return unescape_formula(text)
    if kind == "Direction":
        if text not in ("higher", "lower"):
            raise wrong("'higher' or 'lower'")
        return text
    if not text and kind.endswith("None"):
        return None
    if kind == "int | str" and text == ALL_SEEDS:
        return text
    if kind.startswith("int"):
        if not _INTEGER.fullmatch(text):
            raise wrong("a whole number")
        return int(text)
    if not _NUMBER.fullmatch(text):
        raise wrong("a number")
    return float(text)


_KINDS: dict[str, str] = {f.name: str(f.type) for f in fields(ComparisonRow)}
