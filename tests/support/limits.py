"""A guard against what grows too fast: a limit of processor time for a block of a test."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def cpu_limit(seconds: float = 60) -> Iterator[None]:
    """Fail the test where the block takes more than `seconds` of this process's CPU.

    It is there so that a hang, or work that grows with the square of a hostile text, is a failure
    and not a suite that never ends. It is no measure of speed, which is shown in a benchmark: the
    limit is at least ten times what the block takes on a slow machine, and a machine that is
    busy with other things does not count. One long call into C is noticed once it returns.
    Not to be nested.
    """
    said = f"took more than {seconds:g} s of CPU: something grows too fast"

    def stop(number: int, frame: object) -> None:
        # pytest's own exception: a scorer that catches every Exception lets it through.
        pytest.fail(said)

    # The scorers' own timer is ITIMER_REAL.
    former = signal.signal(signal.SIGVTALRM, stop)
    start = time.process_time()
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)
    if time.process_time() - start > seconds:
        pytest.fail(said)
