"""Strict readers of JSON, JSON Lines and CSV: every fault has its line, nothing is guessed.

The readers of `datasets` infer types from the first rows, drop a lone surrogate silently, read
the CSV text "NA" as null and fail without saying where; so text files are read here first.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from harness.data.rows import listed, one_line, shown
from harness.errors import DataError

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"
_BOM = b"\xef\xbb\xbf"


def read_json(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that is one list of objects, or one object a line.

    What stands where an object should is given as an empty row. Raises DataError.
    """
    with path.open("rb") as file:
        if _first_character(file) == b"[":
            yield from map(_as_row, _parse(_decode(file.read(), path), path))
            return
    for _, value in read_json_lines(path):
        yield _as_row(value)


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The number and the JSON value of each line that is not blank. Raises DataError."""
    with path.open("rb") as file:
        _first_character(file)
        for number, line in enumerate(file, 1):
            text = _decode(line, path, number)
            if text.strip():
                yield number, _parse(text, path, number)


def read_csv(path: Path, delimiter: str = ",") -> Iterator[dict[str, Any]]:
    """The rows of a CSV file with a header line; every value is text. Raises DataError."""
    limit = csv.field_size_limit(sys.maxsize)  # Python's own limit is 131,072 characters
    try:
        with path.open("rb") as file:
            _first_character(file)
            lines = (_decode(line, path, number) for number, line in enumerate(file, 1))
            yield from _csv_rows(csv.reader(lines, delimiter=delimiter, strict=True), path)
    finally:
        csv.field_size_limit(limit)


def replace_surrogates(text: str, repaired: Counter[str]) -> str:
    """`text` with each lone surrogate as U+FFFD, counted in `repaired`; it then fits in UTF-8."""
    text, count = LONE_SURROGATE.subn(REPLACEMENT, text)
    if count:
        repaired["lone surrogate replaced by U+FFFD"] += count
    return text


def _csv_rows(reader: Any, path: Path) -> Iterator[dict[str, Any]]:
    try:
        header: list[str] = next((fields for fields in reader if fields), [])
        twice = [name for name, count in Counter(header).items() if count > 1]
        if twice:
            raise DataError(
                f"{shown(path)} has the column {listed(twice)} more than once: rename one of them."
            )
        for fields in reader:
            if len(fields) > len(header):
                raise DataError(
                    f"{shown(path)} line {reader.line_num} has {len(fields)} fields but the header "
                    f"has {len(header)}: put fields that hold a comma in double quotes."
                )
            if fields:
                yield dict(zip(header, fields, strict=False))
    except csv.Error as error:
        raise DataError(
            f"{shown(path)} line {reader.line_num} is not valid CSV ({one_line(error)}): "
            "mend that line."
        ) from None


def _first_character(file: BinaryIO) -> bytes:
    """The first byte that is no white space; leaves the file just after its BOM, if it has one."""
    start = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
    file.seek(start)
    first = b""
    while piece := file.read(4096):
        first = piece.lstrip()[:1]
        if first:
            break
    file.seek(start)
    return first


def _decode(data: bytes, path: Path, line: int | None = None) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        number = line or data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{shown(path)} line {number} is not UTF-8 text (byte 0x{data[error.start]:02x}): "
            "save the file as UTF-8."
        ) from None


def _parse(text: str, path: Path, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        where, why = line or 1, "nested too deeply"
    except json.JSONDecodeError as error:
        where, why = line or error.lineno, error.msg
    except ValueError as error:  # an integer of more digits than Python converts
        where, why = line or 1, str(error)
    raise DataError(
        f"{shown(path)} line {where} is not valid JSON ({one_line(why)}): give one list of "
        "objects, or one object a line."
    )


def _as_row(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
