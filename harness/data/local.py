"""A local data file or hub-like folder: checked first, then read a row at a time.

Nothing is opened before it is known to be a regular file of bounded size, so a pipe cannot hang
the program and an archive cannot fill the disk. The files are read by our own strict readers
(`harness.data.text_files`, `harness.data.arrow_files`), which leave nothing to guess.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.config.schema import ColumnsConfig
from harness.data.arrow_files import Unpacked, column_names, read_rows
from harness.data.folders import DataFiles, hub_files, saved_by_datasets, saved_files
from harness.data.rows import Rows, used_columns
from harness.data.text_files import read_csv, read_json
from harness.errors import DataError
from harness.host.text import listed, one_line, quoted

KINDS = {
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
KINDS_TEXT = ".json, .jsonl, .csv, .parquet or .arrow"
MAX_BYTES = 1280 << 20  # of one source, its dictionaries unpacked: a million rows of 1 kB and more
MAX_ROWS = 1_000_000
MAX_FILES = 10_000
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27": "7z",
}
_COMPRESSED_ENDINGS = {".gz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz", ".lz4"}
_PARQUET_MAGIC = b"PAR1"


def check(path: str) -> Path:
    """The path, if it may be a data file or folder: cheap, without reading any row.

    Raises DataError in one sentence.
    """
    if not path:
        raise DataError("the path '' that --data gives is empty: give a data file or folder.")
    place = Path(os.path.expanduser(path))
    mode = _mode(place)
    if stat.S_ISDIR(mode):
        _check_folder(place)
    else:
        _check_file(place, mode)
    return place


def read(path: str, columns: ColumnsConfig, split: str, config: str | None = None) -> Rows:
    """The rows of a file, or of a split (of a configuration) of a folder laid out as on the hub.

    They are read as they are taken, and hold the used columns only.
    Raises DataError, also while they are taken, and StorageError where the temporary folder that
    a folder is looked at by way of cannot be written.
    """
    place = check(path)
    data = DataFiles([place])
    if place.is_dir():
        saved = saved_by_datasets(place)
        data = saved_files(place, split) if saved else hub_files(place, split, config)
        for file in data.files:
            _check_file(file, _mode(file))
    _check_sizes(data.files)
    kinds = {KINDS[_ending(file)] for file in data.files}
    if len(kinds) > 1:
        raise DataError(
            f"{quoted(place)} mixes {listed(sorted(kinds))} in its split '{split}': "
            "give one data file."
        )
    rows = Rows({}, iter(()))
    rows.rows = _read(data, next(iter(kinds), ""), columns, rows)
    return rows


# --- checks before anything is read ----------------------------------------------------------


def _ending(place: Path) -> str:
    """What follows the name's last dot, with it, in lower case."""
    at = place.name.rfind(".")
    return place.name[at:].lower() if at >= 0 else ""


def _mode(place: Path) -> int:
    try:
        return place.stat().st_mode
    except FileNotFoundError:
        why = "does not exist"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = f"cannot be read ({one_line(getattr(error, 'strerror', None) or error)})"
    raise DataError(f"{quoted(place)} {why}: check the path that --data gives.")


def _check_file(place: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        what = "a named pipe" if stat.S_ISFIFO(mode) else "neither a file nor a folder"
        raise DataError(f"{quoted(place)} is {what}: give a regular file.")
    suffix = _ending(place)
    if suffix in _COMPRESSED_ENDINGS:
        raise DataError(f"{quoted(place)} is compressed ({suffix[1:]}): unpack it first.")
    if suffix not in KINDS:
        raise DataError(f"{quoted(place)} has the ending '{one_line(suffix)}': give {KINDS_TEXT}.")
    try:
        with place.open("rb") as file:
            head = file.read(8)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(_PARQUET_MAGIC)))
            tail = file.read(len(_PARQUET_MAGIC))
    except OSError as error:
        raise DataError(
            f"{quoted(place)} cannot be read ({one_line(error.strerror)}): change its permissions."
        ) from None
    if size == 0:
        raise DataError(f"{quoted(place)} is empty: give a file with rows.")
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            raise DataError(f"{quoted(place)} is compressed ({name}): unpack it first.")
    if suffix == ".parquet" and not (head.startswith(_PARQUET_MAGIC) and tail == _PARQUET_MAGIC):
        raise DataError(f"{quoted(place)} is not a whole Parquet file: copy or export it again.")
    if suffix != ".parquet" and head.startswith(_PARQUET_MAGIC):
        raise DataError(f"{quoted(place)} is a Parquet file: rename it to end in .parquet.")


def _check_folder(place: Path) -> None:
    """Something in it may be data, and nothing in it can make a reader wait for ever."""
    seen = 0
    usable = False
    for folder, folders, names in os.walk(place, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            seen += 1
            if seen > MAX_FILES:
                raise DataError(
                    f"{quoted(place)} holds more than {MAX_FILES} files: give the data file itself."
                )
            file = Path(folder, name)
            if name.startswith(".") or _dangles(file):
                continue
            if not stat.S_ISREG(_mode(file)):
                raise DataError(
                    f"{quoted(place)} holds '{one_line(name)}', which is not a regular file: "
                    "remove it."
                )
            usable = usable or _ending(file) in KINDS
    if not usable:
        raise DataError(f"{quoted(place)} holds no data file: put a {KINDS_TEXT} file in it.")


def _dangles(file: Path) -> bool:
    return file.is_symlink() and not os.path.exists(file)


def _refuse_folder(error: OSError) -> None:
    raise DataError(
        f"{quoted(error.filename)} cannot be read ({one_line(error.strerror)}): "
        "change its permissions."
    )


def _check_sizes(files: list[Path]) -> None:
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > MAX_BYTES:
            raise DataError(
                f"{quoted(file)} makes the data larger than {MAX_BYTES >> 20} MiB, the most that "
                "is read: give a part of it."
            )


# --- reading ---------------------------------------------------------------------------------


def _read(
    data: DataFiles, kind: str, columns: ColumnsConfig, rows: Rows
) -> Iterator[dict[str, Any]]:
    unpacked = Unpacked(MAX_BYTES, MAX_ROWS)
    used, needed = used_columns(columns), [columns.prompt, columns.target]
    for file in data.files:
        try:
            if kind in ("parquet", "arrow"):
                names = column_names(file, kind)
                rows.columns.update(dict.fromkeys(names))
                there = [name for name in used if name in names]
                yield from read_rows(file, kind, there, unpacked)
                continue
            texts = read_csv(file, data.delimiter, needed) if kind == "csv" else read_json(file)
            for row in texts:
                rows.columns.update(dict.fromkeys(row))
                unpacked.add(file, 0, 1)
                yield {name: row.get(name) for name in used}
        except OSError as error:
            raise DataError(
                f"{quoted(file)} cannot be read ({one_line(error.strerror or error)}): check the "
                "disk, or give another copy."
            ) from error
