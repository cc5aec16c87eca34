"""One worker process as its parent sees it: started, sent chunks, ended. pool.py has many."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, NamedTuple

from harness.records import Sample
from harness.scorers.chosen import Chosen
from harness.scorers.workers.frames import Box, read, write

# Signals are for the parent, who ends us; deaf before the imports, which take a while.
_START = (
    "import signal as s; s.signal(s.SIGINT, s.SIG_IGN); s.signal(s.SIGTERM, s.SIG_IGN); "
    "from harness.scorers.workers.worker import main; main()"
)
_SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Event(NamedTuple):
    """What a process said and when (time.monotonic); "gone": it has ended, and says no more."""

    process: Process
    at: float
    kind: Literal["ready", "done", "failed", "gone"]
    value: Any


class Process:
    """A worker process.

    ready:       its scorers are imported.
    outstanding: numbers of the samples that it has still to score, the one it is at first.
    since:       when it began what it is at.
    condemned:   the sample for which it was ended, or None.
    """

    def __init__(
        self, scorers: Sequence[Chosen], folder: Path, name: str, events: SimpleQueue[Event]
    ) -> None:
        """Start it; what it says comes to `events`. Raises OSError."""
        self.ready = False
        self.outstanding: deque[int] = deque()
        self.condemned: int | None = None
        self._errors = folder / f"{name}.err"
        self.box = Box.create(folder / f"{name}.box")
        with self._errors.open("wb") as errors:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-c", _START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(),
            )
        self.since = time.monotonic()
        self._reader = threading.Thread(target=self._read, args=(events,), daemon=True)
        self._reader.start()
        self._send((str(folder / f"{name}.box"), tuple(scorers)))

    def give(self, chunk: Sequence[tuple[int, Sample]]) -> None:
        """Samples to score, when it has no others: it is sure to read them at once."""
        self.outstanding.extend(number for number, _ in chunk)
        self.since = time.monotonic()
        self._send(list(chunk))

    def starved(self, share: float) -> bool:
        """Whether it would run, but has had fewer than `share` seconds of a processor so far.

        Linux only: elsewhere nothing is known, and the answer is no.
        """
        seconds = _runnable_seconds(self._popen.pid)
        if seconds is None:
            return False
        at = self.box.read()
        here = bool(self.outstanding) and at.number == self.outstanding[0]
        return not here or seconds - at.began < share

    def kill(self) -> None:
        """End it. "gone" comes to the events, after all that it has said before."""
        self._popen.kill()

    def close(self) -> None:
        """Leave nothing of it: no process, thread or open file."""
        self._popen.kill()
        self._popen.wait()
        self._reader.join()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self.box.close()

    def last_words(self) -> str:
        """How it ended before it was ready: the last line it wrote, or its exit status."""
        with contextlib.suppress(OSError):
            lines = self._errors.read_bytes()[-2000:].decode("utf-8", "replace").split("\n")
            if words := [line.strip() for line in lines if line.strip()]:
                return words[-1]
        return f"exit status {self._popen.wait()}"

    def _send(self, value: Any) -> None:
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):  # it has died: "gone" is on its way
            write(self._popen.stdin, value)  # type: ignore[arg-type]

    def _read(self, events: SimpleQueue[Event]) -> None:
        try:
            while True:
                kind, value = read(self._popen.stdout)  # type: ignore[arg-type]
                events.put(Event(self, time.monotonic(), kind, value))
        except Exception:  # the end of the stream; a frame that nobody can read is no better
            self._popen.kill()
        events.put(Event(self, time.monotonic(), "gone", None))


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _environment() -> dict[str, str]:
    """Ours, with the modules that we import, and one thread a process."""
    path = os.pathsep.join(place or os.getcwd() for place in sys.path)
    return {**os.environ, "PYTHONPATH": path, **dict.fromkeys(_SINGLE_THREADED, "1")}


def _runnable_seconds(pid: int) -> float | None:
    """Processor time of a process that runs or waits for a processor; else None."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        return (int(fields[11]) + int(fields[12])) / ticks if fields[0] == "R" else None
    except (OSError, ValueError, IndexError, AttributeError):
        return None
