"""What files held when they were last read whole, so that they need not be read at every command.

A seal lists files with their SHA-256 and a stamp: size, times of change, inode. A file whose stamp
is the sealed one is believed; any other, or each one where that is asked for, is hashed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from harness.errors import StorageError
from harness.host.files import digest, file_digest, write_json
from harness.host.machine import cache_dir
from harness.host.paths import read_bytes
from harness.host.progress import write

BIG = 2**30
"""Bytes; before so many are hashed, a line is said."""

_FRESH_NS = 50_000_000  # times of files tick every few ms: a younger file may yet change unseen


class Seal:
    """The digests of the files of one folder, kept in the JSON file `path`.

    A seal that is missing, damaged or cannot be written costs reading the files again, no more.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self._entries: dict[str, tuple[list[int], str]] = {}
        self._changed = False
        try:
            for name, (stamp, sha256) in json.loads(read_bytes(path))["files"].items():
                if isinstance(sha256, str) and isinstance(stamp, list):
                    self._entries[name] = (stamp, sha256)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._entries = {}

    def __bool__(self) -> bool:
        """Whether it lists anything."""
        return bool(self._entries)

    def names(self) -> set[str]:
        """The files that are listed."""
        return set(self._entries)

    def digests(self, names: Iterable[str], *, verify: bool = False) -> dict[str, str]:
        """SHA-256 of each file, by its name relative to the folder; the seal then lists these only.

        verify: read all of them, whatever their stamps. Raises OSError.
        """
        found = {name: self._digest(name, verify) for name in names}
        for name in self.names() - found.keys():
            self.forget(name)
        return found

    def damaged(self, names: Iterable[str], *, verify: bool = False) -> list[str]:
        """The files that are not what was sealed, gone, or at odds with the name of their blob.

        A file that is not listed yet and passes is listed.
        """
        faulty = []
        for name in names:
            before = self._entries.get(name)
            try:
                now = self._digest(name, verify)
                whole = now == before[1] if before else _fits_blob(self.folder / name, now)
            except OSError:
                whole = False
            if not whole:
                faulty.append(name)
                self.forget(name)
                if before:
                    self._entries[name] = before
        return faulty

    def forget(self, name: str) -> None:
        """List the file no more."""
        if self._entries.pop(name, None) is not None:
            self._changed = True

    def save(self) -> None:
        """Write the seal, whole or not at all, if it has changed and its place can be written."""
        if not self._changed:
            return
        content = {name: self._entries[name] for name in sorted(self._entries)}
        with suppress(StorageError):
            write_json(self.path, {"folder": str(self.folder), "files": content})
            self._changed = False

    def _digest(self, name: str, verify: bool) -> str:
        file = self.folder / name
        stamp, known = _stamp(file), self._entries.get(name)
        if known and known[0] == stamp and not verify:
            return known[1]
        if stamp[0] > BIG:
            write(f"hashing {file} ({stamp[0] / 2**30:.1f} GiB)")
        sha256 = file_digest(file, interruptible=True)
        settled = _stamp(file) == stamp and time.time_ns() - max(stamp[1:3]) > _FRESH_NS
        # A stamp that is not yet to be trusted is kept as one that fits no file.
        self._entries[name], self._changed = (stamp if settled else [], sha256), True
        return sha256


def cached_seal(folder: Path) -> Seal:
    """The seal of a folder that is not ours to write in: kept in the cache of this project."""
    real = Path(os.path.realpath(folder))
    path = cache_dir() / "seals" / f"{digest(str(real))[:32]}.json"
    if not path.exists():
        _sweep(path.parent)
    return Seal(path, real)


def write_seal(path: Path, folder: Path, now: Path, names: Sequence[str]) -> None:
    """Seal files that were just written, which are in `now` and will be in `folder`.

    Raises StorageError, OSError.
    """
    files = {name: (_stamp(now / name), file_digest(now / name)) for name in names}
    write_json(path, {"folder": str(folder), "files": files})


def _stamp(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _fits_blob(file: Path, sha256: str) -> bool:
    """Whether a link into the hub's cache leads to what that blob's name says.

    The hub names the blobs of large files by their SHA-256, others by git's SHA-1. A copy in place
    of a link, as the hub makes where there are none, fits; a link to anything but a blob does not.
    """
    if not file.is_symlink():
        return True
    # The first link's own name: a blob that is itself a link may lead to anything.
    folder, name = os.path.split(os.readlink(file))
    if os.path.basename(folder) != "blobs":
        return False
    if not set(name) <= set("0123456789abcdef"):
        return True
    if len(name) == 64:
        return name == sha256
    if len(name) == 40:
        content = read_bytes(file)
        header = f"blob {len(content)}\0".encode()
        return hashlib.sha1(header + content, usedforsecurity=False).hexdigest() == name
    return True


def _sweep(seals: Path) -> None:
    """Remove the seals of folders that are gone."""
    with suppress(OSError):
        for path in seals.glob("*.json"):
            with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                if not os.path.lexists(json.loads(read_bytes(path))["folder"]):
                    path.unlink()
