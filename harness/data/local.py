"""A local data file or hub-like folder: checked first, then read through `datasets`.

Nothing is opened before it is known to be a regular file of bounded size, so a pipe cannot hang
the program and an archive cannot fill the disk. Text files are then rewritten, in a temporary
folder, in a plain form that leaves `datasets` nothing to guess (see `harness.data.text_files`).
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.config.schema import ColumnsConfig
from harness.data.quiet import quiet_datasets
from harness.data.rows import Rows, listed, one_line, shown, used_columns
from harness.data.text_files import read_csv, read_json, replace_surrogates
from harness.errors import DataError, StorageError

KINDS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
KINDS_TEXT = ".json, .jsonl, .csv or .parquet"
MAX_BYTES = 1 << 30  # of one source, after Parquet's own decompression
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
    place = Path(os.path.expanduser(path))
    mode = _mode(place)
    if stat.S_ISDIR(mode):
        _check_folder(place)
    else:
        _check_file(place, mode)
    return place


def read(path: str, columns: ColumnsConfig, split: str) -> Rows:
    """All rows of a file, or of the `split` of a folder laid out as on the hub.

    The rows hold the used columns only, as text or None. Raises DataError, and StorageError
    where the temporary folder cannot be written.
    """
    place = check(path)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="harness-data-") as temporary,
            quiet_datasets() as datasets,
        ):
            files, kind, delimiter = [place], KINDS.get(place.suffix.lower(), ""), ","
            if place.is_dir():
                files, kind, delimiter = _resolve(datasets, place, split, temporary)
            _check_sizes(files)
            if kind == "parquet":
                return _read_parquet(datasets, place, files, used_columns(columns), temporary)
            rows = (
                row
                for file in files
                for row in (read_csv(file, delimiter) if kind == "csv" else read_json(file))
            )
            return _read_text(datasets, place, rows, used_columns(columns), temporary)
    except OSError as error:
        raise StorageError(
            f"{shown(place)} could not be read by way of the temporary folder "
            f"({one_line(error.strerror or error)}): free space there, or set TMPDIR."
        ) from error


# --- checks before anything is read ----------------------------------------------------------


def _mode(place: Path) -> int:
    try:
        return place.stat().st_mode
    except FileNotFoundError:
        why = "does not exist"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = f"cannot be read ({one_line(getattr(error, 'strerror', None) or error)})"
    raise DataError(f"{shown(place)} {why}: check the path that --data gives.")


def _check_file(place: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        what = "a named pipe" if stat.S_ISFIFO(mode) else "neither a file nor a folder"
        raise DataError(f"{shown(place)} is {what}: give a regular file.")
    suffix = place.suffix.lower()
    if suffix in _COMPRESSED_ENDINGS:
        raise DataError(f"{shown(place)} is compressed ({suffix[1:]}): unpack it first.")
    if suffix not in KINDS:
        raise DataError(f"{shown(place)} has the ending '{one_line(suffix)}': give {KINDS_TEXT}.")
    try:
        with place.open("rb") as file:
            head = file.read(8)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(_PARQUET_MAGIC)))
            tail = file.read(len(_PARQUET_MAGIC))
    except OSError as error:
        raise DataError(
            f"{shown(place)} cannot be read ({one_line(error.strerror)}): change its permissions."
        ) from None
    if size == 0:
        raise DataError(f"{shown(place)} is empty: give a file with rows.")
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            raise DataError(f"{shown(place)} is compressed ({name}): unpack it first.")
    if suffix == ".parquet" and not (head.startswith(_PARQUET_MAGIC) and tail == _PARQUET_MAGIC):
        raise DataError(f"{shown(place)} is not a whole Parquet file: copy or export it again.")
    if suffix != ".parquet" and head.startswith(_PARQUET_MAGIC):
        raise DataError(f"{shown(place)} is a Parquet file: rename it to end in .parquet.")


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
                    f"{shown(place)} holds more than {MAX_FILES} files: give the data file itself."
                )
            file = Path(folder, name)
            if name.startswith(".") or _dangles(file):
                continue
            if not stat.S_ISREG(_mode(file)):
                raise DataError(
                    f"{shown(place)} holds '{one_line(name)}', which is not a regular file: "
                    "remove it."
                )
            usable = usable or file.suffix.lower() in KINDS
    if not usable:
        raise DataError(f"{shown(place)} holds no data file: put a {KINDS_TEXT} file in it.")


def _dangles(file: Path) -> bool:
    return file.is_symlink() and not os.path.exists(file)


def _refuse_folder(error: OSError) -> None:
    raise DataError(
        f"{shown(error.filename)} cannot be read ({one_line(error.strerror)}): "
        "change its permissions."
    )


def _check_sizes(files: list[Path]) -> None:
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > MAX_BYTES:
            raise DataError(
                f"{shown(file)} makes the data larger than {MAX_BYTES >> 20} MiB, the most that is "
                "read: give a part of it."
            )


# --- reading ---------------------------------------------------------------------------------


def _resolve(
    datasets: Any, folder: Path, split: str, temporary: str
) -> tuple[list[Path], str, str]:
    """The files of the split, their kind and CSV delimiter, by the hub's rules for folders.

    Those read the README's `configs`, know splits by file names, and where kinds are mixed take
    the commonest only; a local copy must give what the hub gives, so nothing is added to them.
    """
    try:
        builder = datasets.load_dataset_builder(str(folder.resolve()), cache_dir=temporary)
        found = {str(name): list(files) for name, files in builder.config.data_files.items()}
    except Exception as error:
        raise DataError(
            f"{shown(folder)} cannot be read as a data set's folder ({one_line(_cause(error))}): "
            "give the data file itself."
        ) from error
    if split not in found:
        raise DataError(
            f"{shown(folder)} has no split '{split}', only {listed(found)}: set data.split in the "
            "task's file, or give the data file itself."
        )
    files = [Path(file) for file in found[split]]
    for file in files:
        _check_file(file, _mode(file))
    kinds = {KINDS[file.suffix.lower()] for file in files}
    if len(kinds) != 1:
        raise DataError(
            f"{shown(folder)} mixes {listed(sorted(kinds))} in its split '{split}': "
            "give one data file."
        )
    delimiter = getattr(builder.config, "sep", None)
    return files, kinds.pop(), delimiter if isinstance(delimiter, str) else ","


def _read_text(
    datasets: Any, place: Path, rows: Iterable[dict[str, Any]], used: list[str], temporary: str
) -> Rows:
    columns: dict[str, None] = {}
    repaired: Counter[str] = Counter()
    plain = Path(temporary, "rows.jsonl")
    count = 0
    with plain.open("w", encoding="utf-8") as file:
        for row in rows:
            columns.update(dict.fromkeys(row))
            count += 1
            _check_count(place, count)
            line = {
                name: replace_surrogates(value, repaired) if isinstance(value, str) else None
                for name, value in ((name, row.get(name)) for name in used)
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    if not count:
        return Rows(list(columns), [], repaired)
    features = datasets.Features({name: datasets.Value("string") for name in used})
    loaded = _load(datasets, place, "json", [plain], temporary, features=features)
    return Rows(list(columns), loaded, repaired)


def _read_parquet(
    datasets: Any, place: Path, files: list[Path], used: list[str], temporary: str
) -> Rows:
    columns: dict[str, None] = {}
    count = size = 0
    for file in files:
        for name, rows, size_of_column in _parquet_columns(file):
            columns[name] = None
            size += size_of_column if name in used else 0
            count += rows
        _check_count(place, count)
        if size > MAX_BYTES:
            raise DataError(
                f"{shown(file)} unpacks to more than {MAX_BYTES >> 20} MiB, the most that is read: "
                "give a part of it."
            )
    if not count or not set(used) <= set(columns):
        return Rows(list(columns), [])
    return Rows(list(columns), _load(datasets, place, "parquet", files, temporary, columns=used))


def _parquet_columns(file: Path) -> Iterator[tuple[str, int, int]]:
    """(name, rows, unpacked bytes) of each top-level column; the first one carries the rows."""
    import pyarrow.parquet as parquet

    try:
        metadata = parquet.read_metadata(file)
        names = list(metadata.schema.to_arrow_schema().names)
        sizes = dict.fromkeys(names, 0)
        for g in range(metadata.num_row_groups):
            group = metadata.row_group(g)
            for c in range(group.num_columns):
                chunk = group.column(c)
                name = chunk.path_in_schema.split(".")[0]
                sizes[name] = sizes.get(name, 0) + chunk.total_uncompressed_size
    except Exception as error:
        raise DataError(
            f"{shown(file)} is not a whole Parquet file ({one_line(error)}): "
            "copy or export it again."
        ) from error
    for position, name in enumerate(names):
        yield name, metadata.num_rows if position == 0 else 0, sizes[name]


def _load(
    datasets: Any, place: Path, kind: str, files: list[Path], temporary: str, **options: Any
) -> list[dict[str, Any]]:
    try:
        loaded = datasets.load_dataset(
            kind,
            data_files={"train": [str(file) for file in files]},
            split="train",
            cache_dir=str(Path(temporary, "cache")),
            keep_in_memory=True,
            **options,
        )
        return list(loaded)
    except Exception as error:
        cause = _cause(error)
        if isinstance(cause, OSError) and cause.errno is not None:
            raise cause from error
        raise DataError(
            f"{shown(place)} cannot be read ({one_line(cause)}): copy or export it again."
        ) from error


def _check_count(place: Path, count: int) -> None:
    if count > MAX_ROWS:
        raise DataError(
            f"{shown(place)} has more than {MAX_ROWS} rows, the most that is read: "
            "give a part of it."
        )


def _cause(error: BaseException) -> BaseException:
    """The innermost cause: `datasets` wraps what happened in an error that says nothing."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
