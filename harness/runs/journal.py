"""An append-only journal: what was appended outlives a kill at any moment, and damage is found.

A line is a record as JSON, a tab (JSON has none) and the first 16 hex digits of the SHA-256 of the
line before's digits and the record. So a flipped bit shows, and so does a line that is gone, there
twice or out of its place.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import StorageError
from harness.host.files import storing, sync_folder, write_all, write_atomic
from harness.host.paths import regular

_DIGITS = 16


class Journal:
    """An append-only file of JSON objects, one a line, that outlives a kill at any moment.

    fits:    whether a record is one that the reader can work with; the first that is not counts
             as damage.
    notice:  called once, with one line for people, where records are found damaged.
    dropped: records that the last `read` (or the first `append`) found unusable and left out.
    damaged: whether that was more than the torn end that a kill leaves.
    """

    def __init__(
        self,
        path: Path,
        *,
        fits: Callable[[dict[str, Any]], bool] = lambda record: True,
        notice: Callable[[str], None] = lambda line: None,
        sync_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path)
        self.dropped = 0
        self.damaged = False
        self._told = False
        self._fits, self._notice = fits, notice
        self._sync_seconds, self._clock = sync_seconds, clock
        self._descriptor: int | None = None
        self._end: int | None = None  # bytes of whole lines; None: not known
        self._last = b""  # the digits of the last of them
        self._synced = 0.0

    def read(self) -> list[dict[str, Any]]:
        """All whole records, in order; a missing file has none.

        From the first line on that is not as it was written, everything is left out (a torn last
        line; NULs after a power cut; a flipped bit, of which `notice` is told). Nothing is written.
        Raises StorageError where the file is there but cannot be read.
        """
        return self._scan()[0]

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record; when this returns, a kill of the process cannot lose it.

        A power cut can lose about the last `sync_seconds`. What `read` leaves out is cut off
        before the first append, so that it never ends up in the middle.
        Raises StorageError (the file then still ends in a whole line), ValueError on NaN.
        """
        text = _json(record)
        with storing(self.path):
            descriptor = self._open()
            end = self._repair(descriptor) if self._end is None else self._end
            # Until the line is whole its end is not known: an interruption in between is
            # mended by the next append, or by the next process.
            self._end = None
            line, last = _line(text, self._last)
            try:
                write_all(descriptor, line)
                self._sync_now_and_then(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, end)
                raise
            self._end, self._last = end + len(line), last

    def replace(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Make the journal hold exactly these records, in one step.

        Raises StorageError (it then holds what it held), ValueError on NaN.
        """
        self.close()
        lines, last = [], b""
        for record in records:
            line, last = _line(_json(record), last)
            lines.append(line)
        write_atomic(self.path, b"".join(lines))

    def close(self) -> None:
        """Force what was appended to the disk and close. Raises StorageError."""
        descriptor, self._descriptor, self._end = self._descriptor, None, None
        if descriptor is None:
            return
        with storing(self.path):
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> int:
        if self._descriptor is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # O_NONBLOCK: a FIFO in its place is an error, not a wait; O_NOFOLLOW: so is a link.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
            self._descriptor = os.open(self.path, flags, 0o666)
            self._synced = self._clock()
            sync_folder(self.path.parent)
        return self._descriptor

    def _repair(self, descriptor: int) -> int:
        _, end, self._last = self._scan()
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_size > end:
            os.ftruncate(descriptor, end)
            os.fsync(descriptor)
        return end

    def _scan(self) -> tuple[list[dict[str, Any]], int, bytes]:
        """The whole records, how many bytes from the beginning they take, the last's digits."""
        records: list[dict[str, Any]] = []
        end, last, rest = 0, b"", b""
        try:
            # Not a folder, a FIFO, a device without end or a link to one.
            if self.path.is_file() and not self.path.is_symlink():
                with open(self.path, "rb", opener=regular) as file:
                    for line in file:
                        record = _record(line, last)
                        if record is None or not self._fits(record):
                            rest = line + file.read()
                            break
                        records.append(record)
                        end += len(line)
                        last = line[-_DIGITS - 1 : -1]
        except OSError as error:
            raise StorageError(
                f"cannot read {self.path}: {error.strerror}; make it readable or remove it"
            ) from error
        # A tab a record, whatever became of the line's end.
        self.dropped = max(rest.count(b"\t"), rest.count(b"\n"), 1) if rest else 0
        self.damaged = self.dropped > 0 and not _is_torn(rest)
        if self.damaged and not self._told:
            self._told = True
            self._notice(
                f"{self.path} is damaged after record {len(records)}: {self.dropped} "
                f"record{'' if self.dropped == 1 else 's'} cut off and made again"
            )
        return records, end, last

    def _sync_now_and_then(self, descriptor: int) -> None:
        now = self._clock()
        if now - self._synced >= self._sync_seconds:
            os.fsync(descriptor)
            self._synced = now


def _json(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(dict(record), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def _line(text: bytes, last: bytes) -> tuple[bytes, bytes]:
    """The line of a record after one that ends in the digits `last`, and its own digits."""
    digits = hashlib.sha256(last + text).hexdigest()[:_DIGITS].encode()
    return text + b"\t" + digits + b"\n", digits


def _record(line: bytes, last: bytes) -> dict[str, Any] | None:
    """The record of a line after one that ends in `last`; None where it is not as written."""
    text, tab, _ = line.rpartition(b"\t")
    if not tab or line != _line(text, last)[0]:
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _is_torn(rest: bytes) -> bool:
    """Whether a kill or a power cut may have left this: the beginning of a line, then NULs."""
    begun = rest.rstrip(b"\0")
    text, tab, digits = begun.partition(b"\t")
    return b"\n" not in begun and b"\0" not in text and (not tab or len(digits) <= _DIGITS)
