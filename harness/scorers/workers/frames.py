"""How scoring processes and their parent talk: frames on a pipe, and a box that outlives them."""

from __future__ import annotations

import mmap
import pickle
import struct
import time
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

_LENGTH = struct.Struct("<Q")
_HEAD = struct.Struct("<qdii")
BOX_BYTES = 256 * 1024


def write(stream: BinaryIO, value: Any) -> None:
    """One frame: its length, then the pickled value. Raises OSError where nobody reads."""
    payload = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(payload)) + payload)
    stream.flush()


def read(stream: BinaryIO) -> Any:
    """The next frame's value. Raises EOFError where the stream ends, within a frame too.

    Only for frames of our own processes: what is unpickled may run code.
    """
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    return pickle.loads(_exactly(stream, length))


def _exactly(stream: BinaryIO, count: int) -> bytes:
    found = stream.read(count)
    if len(found) < count:
        raise EOFError
    return found


class Position(NamedTuple):
    """Where a worker is.

    number:  of the sample that it began last; -1 before the first.
    began:   the worker's processor time then, in seconds.
    running: the place of the scorer that runs.
    size:    how many scorers' parts are kept, from the first on.
    parts:   these, pickled one after the other (what follows them means nothing).
    """

    number: int
    began: float
    running: int
    size: int
    parts: bytes


class Box:
    """Where a worker is and what it has, in memory that its parent can read after it was killed.

    It is a mapped file: writing costs a microsecond, where a frame for every scorer would cost
    twenty. From the first part that does not fit on, parts are not kept.
    """

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), BOX_BYTES)
        self._end = _HEAD.size

    @staticmethod
    def create(path: Path) -> Box:
        """An empty box in a new file, all bytes written: a full disk shows here, as OSError."""
        path.write_bytes(_HEAD.pack(-1, 0.0, 0, 0) + bytes(BOX_BYTES - _HEAD.size))
        return Box(path)

    def begin(self, number: int) -> None:
        """Sample `number` begins, and its first scorer runs."""
        self._end = _HEAD.size
        _HEAD.pack_into(self._map, 0, number, time.process_time(), 0, 0)

    def add(self, part: bytes) -> None:
        """The running scorer is done, with this; the next one runs."""
        number, began, running, size = _HEAD.unpack_from(self._map)
        end = self._end + len(part)
        if running == size and end <= BOX_BYTES:
            self._map[self._end : end] = part
            self._end = end
            size += 1
        _HEAD.pack_into(self._map, 0, number, began, running + 1, size)

    def read(self) -> Position:
        """What stands in it."""
        number, began, running, size = _HEAD.unpack_from(self._map)
        return Position(number, began, running, size, self._map[_HEAD.size :])

    def close(self) -> None:
        self._map.close()
