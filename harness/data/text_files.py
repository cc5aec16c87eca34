"""Strict readers of JSON, JSON Lines and CSV: every fault has its line, nothing is guessed.

The readers of `datasets` infer types from the first rows, drop a lone surrogate silently, read
the CSV text "NA" as null and fail without saying where; so text files are read here. No more
than a row and a piece of the file is held at a time.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from harness.errors import DataError
from harness.host.text import listed, one_line, quoted

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"
MAX_ROW = 64 << 20  # bytes of one line, or characters of one entry of a list
DELIMITERS = ",;\t"
_BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\r\n]*")
_PIECE = 1 << 20  # bytes


def read_json(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that is one list of objects, or one object a line.

    A whole number is given as the text that stands there; what stands where an object should is
    given as an empty row. Raises DataError.
    """
    with path.open("rb") as file:
        is_list = _first_character(file) == b"["
    lines = (value for _, value in read_json_lines(path, parse_int=str))
    for value in _read_json_list(path) if is_list else lines:
        yield value if isinstance(value, dict) else {}


def read_json_lines(
    path: Path, parse_int: Callable[[str], Any] | None = None
) -> Iterator[tuple[int, Any]]:
    """The number and the JSON value of each line that is not blank. Raises DataError.

    parse_int: makes a value of a whole number's text; None: Python's own int.
    """
    decoder = json.JSONDecoder(parse_int=parse_int)
    with path.open("rb") as file:
        _first_character(file)
        for number, line in _lines(file, path):
            text = _decode(line, path, number)
            if not text.strip():
                continue
            try:
                value = decoder.decode(text)
            except RecursionError:
                raise _not_json(path, number, "nested too deeply") from None
            except ValueError as error:  # also an integer of more digits than Python converts
                why = getattr(error, "msg", None) or str(error)
                raise _not_json(path, number, why) from None
            yield number, value


def _read_json_list(path: Path) -> Iterator[Any]:
    """The entries of a file that is one list, read piece by piece. Raises DataError."""
    with path.open("rb") as file:
        _first_character(file)
        text = _JsonText(file, path)
        text.take("[")
        if text.next_mark() == "]":
            text.take("]")
        else:
            while True:
                yield text.value()
                if text.take(",]") == "]":
                    break
        text.end()


def read_csv(
    path: Path, delimiter: str = ",", wanted: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """The rows of a CSV file with a header line; every value is text. Raises DataError.

    Where the header, read with commas, lacks one of the `wanted` columns, and has all of them
    when read with semicolons (as Excel writes them where the comma is in numbers) or tabs, that
    is the delimiter.
    """
    limit = csv.field_size_limit(sys.maxsize)  # Python's own limit is 131,072 characters
    try:
        if delimiter == ",":
            delimiter = _delimiter(path, set(wanted))
        with path.open("rb") as file:
            yield from _csv_rows(_csv_reader(file, path, delimiter), path)
    finally:
        csv.field_size_limit(limit)


def replace_surrogates(text: str, repaired: Counter[str]) -> str:
    """`text` with each lone surrogate as U+FFFD, counted in `repaired`; it then fits in UTF-8."""
    text, count = LONE_SURROGATE.subn(REPLACEMENT, text)
    if count:
        repaired["lone surrogate replaced by U+FFFD"] += count
    return text


def _csv_reader(file: BinaryIO, path: Path, delimiter: str) -> Any:
    _first_character(file)
    lines = (_decode(line, path, number) for number, line in _lines(file, path))
    return csv.reader(lines, delimiter=delimiter, strict=True)


def _delimiter(path: Path, wanted: set[str]) -> str:
    """The first of , ; and tab by which the header has all of the columns that are wanted.

    Where there is none the file will be refused; then the one that tells most columns apart.
    """
    headers = {mark: _csv_header(path, mark) for mark in DELIMITERS}
    fitting = [mark for mark, header in headers.items() if wanted <= set(header)]
    return fitting[0] if fitting else max(headers, key=lambda mark: len(headers[mark]))


def _csv_header(path: Path, delimiter: str) -> list[str]:
    """The first line's fields; none where it cannot be read so."""
    with path.open("rb") as file:
        try:
            return next((fields for fields in _csv_reader(file, path, delimiter) if fields), [])
        except (csv.Error, DataError):
            return []


def _csv_rows(reader: Any, path: Path) -> Iterator[dict[str, Any]]:
    try:
        header: list[str] = next((fields for fields in reader if fields), [])
        twice = [name for name, count in Counter(header).items() if count > 1]
        if twice:
            raise DataError(
                f"{quoted(path)} has the column {listed(twice)} more than once: rename one of them."
            )
        for fields in reader:
            if len(fields) > len(header):
                raise DataError(
                    f"{quoted(path)} line {reader.line_num} has {len(fields)} fields but the "
                    f"header has {len(header)}: put fields that hold a delimiter in double quotes."
                )
            if fields:
                yield dict(zip(header, fields, strict=False))
    except csv.Error as error:
        raise DataError(
            f"{quoted(path)} line {reader.line_num} is not valid CSV ({one_line(error)}): "
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


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines from here on, numbered from 1, each with its end. Raises DataError."""
    for number in itertools.count(1):
        line = file.readline(MAX_ROW + 1)
        if len(line) > MAX_ROW:
            raise DataError(_too_long(path, number))
        if not line:
            return
        yield number, line


class _JsonText:
    """The text of a JSON file, of which only the part that is being read is held."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder(parse_int=str)
        self._text, self._at, self._ended = "", 0, False
        self._line = 1  # of the text's beginning

    def next_mark(self) -> str:
        """The next character that is no white space, "" at the end; it is not taken."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def take(self, marks: str) -> str:
        """Take the next mark, which must be one of these. Raises DataError."""
        mark = self.next_mark()
        if mark not in marks or not mark:
            raise self._invalid(f"Expecting {' or '.join(map(repr, marks))}", self._at)
        self._at += 1
        return mark

    def end(self) -> None:
        """Raises DataError where something follows."""
        if self.next_mark():
            raise self._invalid("Extra data", self._at)

    def value(self) -> Any:
        """Take the next value. Raises DataError."""
        self.next_mark()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except RecursionError:
                raise self._invalid("nested too deeply", self._at) from None
            except json.JSONDecodeError as error:
                # It may only be that the rest is not read yet.
                cut = "Unterminated" in error.msg or error.pos >= len(self._text) - 16
                if not (cut and self._more()):
                    raise self._invalid(error.msg, error.pos) from None
            else:
                if end < len(self._text) or not self._more():  # a number may go on
                    self._at = end
                    return value

    def _more(self) -> bool:
        """Read on, as much again as is held; False at the end. Raises DataError."""
        self._line += self._text.count("\n", 0, self._at)
        rest, self._at = self._text[self._at :], 0
        if len(rest) > MAX_ROW:
            raise DataError(_too_long(self._path, self._line))
        data = self._file.read(max(_PIECE, len(rest)))
        try:
            self._text = rest + self._utf8.decode(data, final=not data)
        except UnicodeDecodeError as error:
            line = self._line + rest.count("\n") + error.object.count(b"\n", 0, error.start)
            raise _not_utf8(self._path, line, error) from None
        return bool(data)

    def _invalid(self, why: str, at: int) -> DataError:
        return _not_json(self._path, self._line + self._text.count("\n", 0, at), why)


def _decode(data: bytes, path: Path, line: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, line, error) from None


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    return DataError(
        f"{quoted(path)} line {line} is not UTF-8 text (byte 0x{error.object[error.start]:02x}): "
        "save the file as UTF-8."
    )


def _not_json(path: Path, line: int, why: str) -> DataError:
    return DataError(
        f"{quoted(path)} line {line} is not valid JSON ({one_line(why)}): give one list of "
        "objects, or one object a line."
    )


def _too_long(path: Path, line: int) -> str:
    return (
        f"{quoted(path)} line {line} begins a row of more than {MAX_ROW >> 20} MiB, the most that "
        "is read: leave it out."
    )
