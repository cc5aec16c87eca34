"""Digests of data and files, and writes that leave a file whole or as it was.

What is written goes to a temporary name, is forced to the disk, and takes the place of the old
file in one step; a refusal of the system becomes a StorageError that says the mend.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.errors import StorageError
from harness.host.paths import regular
from harness.host.signals import check
from harness.host.temporary import TEMPORARY, owned, sweep_once

_BLOCK = 4 * 1024 * 1024  # bytes read at a time
_BIG_FILE = 64 * 1024 * 1024  # bytes; larger files are hashed once a process, not at every look
_big_digests: dict[tuple[str, int, int, int, int], str] = {}


def digest(value: Any) -> str:
    """SHA-256, as 64 hex digits, of `value` as canonical JSON (sorted keys, ASCII, no spaces).

    Raises ValueError on NaN or infinity, TypeError on what JSON cannot say.
    """
    text = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def file_digest(path: Path, *, interruptible: bool = False) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits.

    interruptible: between blocks look for a signal; not where work would be lost by it.
    Raises OSError where it cannot be read, or is a pipe or device that could be read for ever;
    Interrupted.
    """
    found = hashlib.sha256()
    with open(path, "rb", opener=regular) as file:
        while block := file.read(_BLOCK):
            found.update(block)
            if interruptible:
                check()
    return found.hexdigest()


def cached_digest(path: Path) -> str:
    """`file_digest`, once a process for a big file whose size and times stay. Raises OSError."""
    status = path.stat()
    if status.st_size < _BIG_FILE:
        return file_digest(path)
    seen = (str(path), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if seen not in _big_digests:
        _big_digests[seen] = file_digest(path)
    return _big_digests[seen]


def digest_or_none(path: Path) -> str | None:
    """`cached_digest`, or None for what is no file or cannot be read."""
    try:
        return cached_digest(path) if path.is_file() else None
    except OSError:
        return None


# --- writing ---------------------------------------------------------------------------------


def write_atomic(path: Path, data: str | bytes) -> None:
    """Make `path` hold exactly `data`; whoever looks sees the old content or the new, never a part.

    Text is written as UTF-8; a lone surrogate, which UTF-8 cannot say, as its escape `\\udc80`
    (inside a JSON string that is the same character). Folders are made as needed.
    Raises StorageError; the old content then stands, and no temporary file is left.
    """
    payload = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    with replacing(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_all(descriptor, payload)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """`write_atomic` of many lines, each with its end, without holding them all."""
    with replacing(path) as temporary:
        with temporary.open("x", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.writelines(lines)
        sync_file(temporary)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file of ours. Raises OSError, ValueError."""
    return list(each_jsonl(path))


def each_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The same, one at a time."""
    with open(path, encoding="utf-8", newline="\n", opener=regular) as file:
        yield from map(json.loads, file)


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Publish rows as JSONL, whole or not at all; returns the path."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_lines(path, lines)
    return path


def write_json(path: Path, value: Any) -> None:
    """`write_atomic` of `value` as indented JSON. Raises StorageError; ValueError on NaN."""
    write_atomic(path, json_text(value))


def json_text(value: Any) -> str:
    """`value` as indented JSON with a line end. Raises ValueError on NaN."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


# --- steps of a write ------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path`; what the block writes there replaces `path`.

    What killed processes left in that folder goes first.
    """
    temporary = path.parent / owned(TEMPORARY)
    try:
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep_once(path.parent, TEMPORARY)
            yield temporary
            os.replace(temporary, path)
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_all(descriptor: int, payload: bytes) -> None:
    """Write all of `payload`, in as many calls as the system wants. Raises OSError."""
    view = memoryview(payload)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_file(path: Path) -> None:
    """Force what was written to a file to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Force the names in a folder to the disk, where the system can. Raises OSError."""
    if sys.platform == "win32":  # folders cannot be opened there
        return
    try:
        sync_file(path)
    except OSError as error:
        # A file system that cannot sync a folder, or a folder that may be used but not listed.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):
            raise


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that names `path` and the mend."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StorageError(f"cannot write {path}: {reason}; {mend(error.errno)}") from error


def mend(number: int | None) -> str:
    """What the user can do about a system error, by its number, as the end of a sentence."""
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "free some space and give the same command again"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "make its folder writable or choose another one"
    if number in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP):
        return "move what is in its place out of the way"
    if number == errno.ENAMETOOLONG:
        return "choose a folder with a shorter path"
    return "check the disk and give the same command again"
