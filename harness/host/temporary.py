"""What a killed process leaves behind: names that say whose it is, and the sweep of the dead's.

A temporary file or folder of ours is called `PREFIX<host>-<pid>-<start>-<random>`. It is removed
by a later command of the same user on the same host once no process of that number and start time
is alive; what another host, another user or a live process made is left alone.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

TEMPORARY = ".tmp-"  # how the name of a file begins that is not whole yet
MAKING = ".making-"  # and that of a folder of the cache
FOLDERS = "harness-"  # and that of a folder in the system's temporary one

_OWNED = re.compile(r".*?-(?P<host>[0-9a-f]{8})-(?P<pid>\d{1,10})-(?P<start>\d{1,20})-[0-9a-z_]+")
_swept: set[tuple[int, str]] = set()


def owned(prefix: str) -> str:
    """A new name that begins with `prefix` (which ends in "-") and says whose it is."""
    return f"{_ours(prefix)}{os.urandom(4).hex()}"


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder of this process in the system's temporary one, removed on leaving.

    prefix: "harness-…-"; what dead processes left there under such a name goes first.
    Raises OSError where none can be made.
    """
    assert prefix.startswith(FOLDERS)
    sweep_temporary()
    with tempfile.TemporaryDirectory(prefix=_ours(prefix), ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def making_folder(parent: Path) -> Iterator[Path]:
    """A folder of this process in `parent`, for what gets its name there when it is whole.

    It is removed on leaving. Raises OSError where it cannot be made.
    """
    folder = parent / owned(MAKING)
    folder.mkdir()
    try:
        yield folder
    finally:
        remove(folder)


def sweep_temporary() -> None:
    """Remove the temporary folders of ours whose processes are dead."""
    with suppress(OSError):
        sweep_once(Path(tempfile.gettempdir()), FOLDERS)


def sweep_once(folder: Path, prefix: str) -> None:
    """`sweep`, the first time that this process asks for it."""
    if (asked := (os.getpid(), f"{folder}/{prefix}")) not in _swept:
        _swept.add(asked)
        sweep(folder, prefix)


def sweep(folder: Path, prefix: str) -> None:
    """Remove what stands in `folder` under such a name and whose process is dead.

    What cannot be looked at or removed stays: it is only in the way.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        left = [Path(entry.path) for entry in entries if _is_left(entry, prefix)]
        for path in left:
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder; what cannot be removed stays."""
    from shutil import rmtree

    if path.is_dir() and not path.is_symlink():
        rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def is_alive(pid: int) -> bool:
    """Whether a process of that number runs on this machine; yes where nobody can tell."""
    if (stat := _stat(pid)) and stat[0] in "ZX":
        return False  # ended, and only waiting for its parent to take note
    if sys.platform == "win32":  # signal 0 would end it there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _is_left(entry: os.DirEntry[str], prefix: str) -> bool:
    found = _OWNED.fullmatch(entry.name) if entry.name.startswith(prefix) else None
    if found is None or found["host"] != _host() or entry.is_symlink():
        return False
    if hasattr(os, "geteuid") and entry.stat(follow_symlinks=False).st_uid != os.geteuid():
        return False
    pid = int(found["pid"])
    # A number is given again; with its start time it is that process and no other.
    return not is_alive(pid) or (
        found["start"] != "0" and _start(pid) not in (None, found["start"])
    )


def _ours(prefix: str) -> str:
    pid = os.getpid()
    return f"{prefix}{_host()}-{pid}-{_start(pid) or 0}-"


@cache
def _host() -> str:
    """This host, and on Linux the container: process numbers mean something only within it."""
    import socket

    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _start(pid: int) -> str | None:
    """When a process began, in ticks since the machine did; None where nobody can tell."""
    stat = _stat(pid)
    return stat[19] if len(stat) > 19 else None


def _stat(pid: int) -> list[str]:
    """What Linux says of a process, from its state on; nothing where nobody can tell."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
    return []
