"""SIGINT and SIGTERM at random moments: 75 or 130, no trace, and the command that continues."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

from tests.faults.common import Ended, Place, Running, complaints, ends_well
from tests.faults.kills import random_fault

INTERRUPTED = (75, 130)


def trial(place: Place, rng: random.Random) -> list[str]:
    way = rng.random()
    if way < 0.4:
        return _fresh(place, rng)
    words = place.shared.scene(rng)
    seconds = place.shared.peace(place, words).seconds
    with place.fresh() as cwd:
        if way < 0.7:
            ended = place.run(cwd, words, random_fault(rng, "TERM"))
            return _judged(place, cwd, words, ended, once=True)
        running = place.start(cwd, words)
        _until_it_handles(running)
        once = _send(rng, running, rng.uniform(0, 1.1) * seconds, os.kill)
        return _judged(place, cwd, words, running.ended(), once)


def _fresh(place: Place, rng: random.Random) -> list[str]:
    """In an interpreter of its own, from its first moment on, alone or with all it has started."""
    words = place.shared.scripted()
    seconds = place.shared.peace(place, words).seconds
    with place.fresh() as cwd:
        running = place.start_fresh(cwd, words)
        delay = rng.choice((rng.uniform(0, 0.1), rng.uniform(0, 0.4), rng.uniform(0, 2) * seconds))
        early: list[bool] = []

        def send(pid: int, number: int) -> None:
            early.append(_cpu(pid) < _interpreter())
            (os.killpg if group else os.kill)(pid, number)

        group = rng.random() < 0.4
        once = _send(rng, running, delay, send)
        ended = running.ended()
        ours = "/harness/" in ended.outcome.stderr.replace("-m harness", "")
        if early and early[0] and not ours and ended.status not in (0, *INTERRUPTED):
            return []  # Python itself was still starting
        return _judged(place, cwd, words, ended, once)


def _judged(place: Place, cwd: Path, words: list[str], ended: Ended, once: bool) -> list[str]:
    number = "one signal" if once else "two signals"
    over = "report: " in ended.outcome.stdout and ended.status < 0  # it was leaving
    found = complaints(ended, (0, *INTERRUPTED, *([ended.status] if over else [])))
    last = (ended.outcome.stderr.strip().splitlines() or [""])[-1]
    if not found and once and ended.status == 75 and not last.startswith("python -m harness run "):
        found = [f"the last line is not the command: {last[:200]}"]
    found = [f"{number}: {text}" for text in found]
    return found + ends_well(place, cwd, words, f"after {number}")


def _send(rng: random.Random, running: Running, delay: float, send: object) -> bool:
    """One signal or two; whether it was one."""
    assert callable(send)
    once = rng.random() < 0.6
    for pause in (delay,) if once else (delay, rng.choice((0, rng.uniform(0, 0.3)))):
        time.sleep(pause)
        with contextlib.suppress(ProcessLookupError):
            send(running.pid, rng.choice((signal.SIGINT, signal.SIGTERM)))
    return once


def _until_it_handles(running: Running) -> None:
    """A forked child has begun once it catches SIGTERM."""
    for _ in range(500):
        with contextlib.suppress(OSError, IndexError):
            status = Path(f"/proc/{running.pid}/status").read_text()
            mask = int(status.split("SigCgt:")[1].split()[0], 16)
            if mask >> (signal.SIGTERM - 1) & 1 or "State:\tZ" in status:
                return
        time.sleep(0.002)


def _cpu(pid: int) -> float:
    """Seconds of a processor that a process has had."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


@cache
def _interpreter() -> float:
    """Seconds of a processor until Python reaches a program's first line, on the long side."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import runpy, pkgutil"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
