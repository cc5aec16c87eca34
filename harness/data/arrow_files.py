"""Parquet and Arrow files, a few rows at a time; what they unpack to counts, not their size.

A dictionary or run lengths can make gigabytes of a few kilobytes, so columns stay encoded until
the bytes of the next rows are known to fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.data.values import WrongType
from harness.errors import DataError
from harness.host.text import one_line, quoted

_BATCH_ROWS = 512
_BATCH_BYTES = 64 << 20  # of unpacked rows that are held beside those already read


class Unpacked:
    """Counts the unpacked bytes and the rows of one source. Raises DataError at the bounds."""

    def __init__(self, most_bytes: int, most_rows: int) -> None:
        self._most_bytes, self._most_rows = most_bytes, most_rows
        self._bytes = self._rows = 0

    def add(self, file: Path, size: int, rows: int = 0) -> None:
        self._bytes += size
        self._rows += rows
        if self._bytes > self._most_bytes:
            raise DataError(
                f"{quoted(file)} unpacks to more than {self._most_bytes >> 20} MiB, the most that "
                "is read: give a part of it."
            )
        if self._rows > self._most_rows:
            raise DataError(
                f"{quoted(file)} has more than {self._most_rows} rows, the most that is read: "
                "give a part of it."
            )


def column_names(file: Path, kind: str) -> list[str]:
    """The names of a file's columns. Raises DataError."""
    with _reading(file, kind):
        if kind == "parquet":
            import pyarrow.parquet as parquet

            return list(parquet.read_schema(file).names)
        with _stream(file) as reader:
            return list(reader.schema.names)


def read_rows(
    file: Path, kind: str, used: list[str], unpacked: Unpacked
) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet or Arrow file, the used columns only. Raises DataError.

    All are counted in `unpacked` before the first one is given.
    """
    with _reading(file, kind):
        batches = _parquet_batches if kind == "parquet" else _arrow_batches
        for batch in batches(file, used):
            unpacked.add(file, _size(batch), batch.num_rows)
        for batch in batches(file, used):
            for part in _small(batch):
                names = part.schema.names
                columns = [_values(column) for column in part.columns]
                for cells in zip(*columns, strict=True):
                    yield dict(zip(names, cells, strict=True))


def _parquet_batches(file: Path, used: list[str]) -> Iterator[Any]:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(file) as plain:
        texts = [
            leaf.path
            for leaf in map(plain.schema.column, range(len(plain.schema)))
            if leaf.physical_type == "BYTE_ARRAY" and leaf.path.split(".")[0] in used
        ]
    with parquet.ParquetFile(file, read_dictionary=texts) as reader:
        yield from reader.iter_batches(_BATCH_ROWS, columns=used)


def _arrow_batches(file: Path, used: list[str]) -> Iterator[Any]:
    with _stream(file) as reader:
        for batch in _each_batch(reader):
            for at in range(0, batch.num_rows, _BATCH_ROWS):
                yield batch.select(used).slice(at, _BATCH_ROWS)


def _each_batch(reader: Any) -> Iterator[Any]:
    if hasattr(reader, "get_batch"):
        yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        yield from reader


@contextmanager
def _stream(file: Path) -> Iterator[Any]:
    """A reader of either of Arrow's two forms: a stream, as `datasets` writes it, or a file."""
    import pyarrow
    import pyarrow.ipc as ipc

    with pyarrow.OSFile(str(file)) as source:
        head = source.read(6)
        source.seek(0)
        with ipc.open_file(source) if head == b"ARROW1" else ipc.open_stream(source) as reader:
            yield reader


def _small(batch: Any) -> Iterator[Any]:
    """The batch in parts that unpack to at most _BATCH_BYTES, or are one row."""
    if batch.num_rows > 1 and _size(batch) > _BATCH_BYTES:
        half = batch.num_rows // 2
        yield from _small(batch.slice(0, half))
        yield from _small(batch.slice(half))
    else:
        yield batch


def _size(batch: Any) -> int:
    return sum(_unpacked_bytes(column) for column in batch.columns)


def _unpacked_bytes(column: Any) -> int:
    """Bytes of a column's values without dictionaries; of what is not read as text, 0."""
    import pyarrow
    import pyarrow.compute as compute
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        if not _is_text(kind.value_type):
            return 0
        lengths = compute.binary_length(column.dictionary).cast(pyarrow.int64())
        return compute.sum(lengths.take(column.indices)).as_py() or 0
    if _is_text(kind):
        return compute.sum(compute.binary_length(column).cast(pyarrow.int64())).as_py() or 0
    if _is_list(kind):
        return _unpacked_bytes(column.flatten())
    if types.is_struct(kind):
        return sum(map(_unpacked_bytes, column.flatten()))
    return 0


def _values(column: Any) -> list[Any]:
    """The cells in Python's types; a cell that is not of a readable type says what it is."""
    from pyarrow import types

    if types.is_dictionary(column.type) and _is_text(column.type.value_type):
        column = column.dictionary_decode()
    if _is_readable(column.type):
        values: list[Any] = column.to_pylist()
        return values
    wrong = WrongType(one_line(column.type, 40))
    return [wrong if valid else None for valid in column.is_valid().to_pylist()]


def _is_readable(kind: Any) -> bool:
    from pyarrow import types

    if _is_list(kind):
        return _is_readable(kind.value_type)
    if types.is_struct(kind):
        return all(_is_readable(kind.field(at).type) for at in range(kind.num_fields))
    if types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return (
        _is_text(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_null(kind)
    )


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


@contextmanager
def _reading(file: Path, kind: str) -> Iterator[None]:
    name = "Parquet" if kind == "parquet" else "Arrow"
    try:
        yield
    except (DataError, GeneratorExit):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{quoted(file)} is not a whole {name} file ({one_line(error)}): "
            "copy or export it again."
        ) from error
