"""An append-only journal: what was appended outlives a kill at any moment."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import StorageError
from harness.files import storing, sync_folder, write_all


class Journal:
    """An append-only file of JSON objects, one a line, that outlives a kill at any moment.

    dropped: lines that the last `read` (or the first `append`) found unusable and left out.
    damaged: whether that was more than one torn last line, so that whole records were lost.
    """

    def __init__(
        self,
        path: Path,
        *,
        sync_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path)
        self.dropped = 0
        self.damaged = False
        self._sync_seconds, self._clock = sync_seconds, clock
        self._descriptor: int | None = None
        self._end: int | None = None  # bytes of whole lines; None: not known
        self._synced = 0.0

    def read(self) -> list[dict[str, Any]]:
        """All whole records, in order; a missing file has none.

        From the first line on that is not a JSON object with its newline, everything is left out
        (a torn last line; NULs after a power cut). Nothing is written.
        Raises StorageError where the file is there but cannot be read.
        """
        return self._scan()[0]

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record; when this returns, a kill of the process cannot lose it.

        A power cut can lose about the last `sync_seconds`. What `read` leaves out is cut off
        before the first append, so that it never ends up in the middle.
        Raises StorageError (the file then still ends in a whole line), ValueError on NaN.
        """
        line = json.dumps(dict(record), ensure_ascii=False, allow_nan=False) + "\n"
        payload = line.encode("utf-8", "backslashreplace")
        with storing(self.path):
            descriptor = self._open()
            end = self._repair(descriptor) if self._end is None else self._end
            # Until the line is whole its end is not known: an interruption in between is
            # mended by the next append, or by the next process.
            self._end = None
            try:
                write_all(descriptor, payload)
                self._sync_now_and_then(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, end)
                raise
            self._end = end + len(payload)

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
            # O_NONBLOCK: a FIFO in its place is an error, not a wait.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
            self._descriptor = os.open(self.path, flags, 0o666)
            self._synced = self._clock()
            sync_folder(self.path.parent)
        return self._descriptor

    def _repair(self, descriptor: int) -> int:
        end = self._scan()[1]
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_size > end:
            os.ftruncate(descriptor, end)
            os.fsync(descriptor)
        return end

    def _scan(self) -> tuple[list[dict[str, Any]], int]:
        """The whole records, and how many bytes from the beginning they take."""
        records: list[dict[str, Any]] = []
        end = self.dropped = 0
        try:
            if self.path.is_file():  # not a folder, a FIFO or a device without end
                with open(self.path, "rb") as file:
                    for line in file:
                        record = _object(line)
                        if record is None:
                            self.dropped = 1 + sum(1 for _ in file)
                            break
                        records.append(record)
                        end += len(line)
        except OSError as error:
            raise StorageError(
                f"cannot read {self.path}: {error.strerror}; make it readable or remove it"
            ) from error
        self.damaged = self.dropped > 1
        return records, end

    def _sync_now_and_then(self, descriptor: int) -> None:
        now = self._clock()
        if now - self._synced >= self._sync_seconds:
            os.fsync(descriptor)
            self._synced = now


def _object(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
