"""A lock between processes that can be waited for, whose wait a signal ends, and who holds it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.host.files import write_json
from harness.host.paths import read_bytes
from harness.host.signals import GLANCE, check
from harness.host.temporary import is_alive


@contextmanager
def hold(path: Path, patience: float = float("inf")) -> Iterator[None]:
    """Hold the lock file `path`, made if it is not there, waiting for whoever holds it.

    patience: seconds to wait. The operating system ends the hold with the process, however that
    ends. Raises TimeoutError, OSError where it cannot be made, Interrupted.
    """
    from filelock import FileLock, Timeout

    until = time.monotonic() + patience
    lock = FileLock(path, timeout=0)
    while not lock.is_locked:
        try:
            lock.acquire()
        except Timeout:
            check()
            if time.monotonic() > until:
                raise TimeoutError from None
            time.sleep(GLANCE)
    try:
        yield
    finally:
        lock.release()


def sign(path: Path) -> None:
    """Write into `path` that this process holds what lies beside it. Raises StorageError."""
    write_json(path, {"pid": os.getpid(), "host": socket.gethostname(), "since": timestamp()})


def signed(path: Path) -> str | None:
    """Who `sign` says holds it: "process 12 on here since ..."; None where that one is gone.

    A process of another machine counts as there.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        holder: dict[str, Any] = json.loads(read_bytes(path))
        pid, host, since = int(holder["pid"]), str(holder["host"]), str(holder["since"])
        if host != socket.gethostname() or is_alive(pid):
            return f"process {pid} on {host} since {since}"
    return None


def timestamp() -> str:
    """The present in UTC, to the second: "2026-01-31T23:59:59Z"."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
