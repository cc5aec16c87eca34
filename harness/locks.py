"""A lock between processes that can be waited for, and whose wait a signal ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.interrupts import GLANCE, check


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, made if it is not there, waiting for whoever holds it.

    The operating system ends the hold with the process, however that ends.
    Raises OSError where it cannot be made, Interrupted.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0)
    while not lock.is_locked:
        try:
            lock.acquire()
        except Timeout:
            check()
            time.sleep(GLANCE)
    try:
        yield
    finally:
        lock.release()
