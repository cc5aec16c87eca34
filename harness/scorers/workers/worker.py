"""A process that scores what it is sent, and can be ended at any time. Started by pool.py."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO

from harness.errors import HarnessError, UsageError
from harness.records import Metric, Sample
from harness.scorers.chosen import Chosen
from harness.scorers.workers.frames import Box, read, write

Part = tuple[dict[str, float | None], dict[str, str], dict[str, Any]]

MEMORY = 4 * 1024**3  # bytes of address space; a scorer at its worst takes a tenth of it
ALONE = 15.0  # seconds; a sample that takes longer has no parent that would have ended it

_TRIAL = Sample("", "", "<p>a b</p>", "<p>a c</p>")


def main() -> None:
    """Read the scorers, say "ready", then score chunk after chunk until the parent goes away."""
    source = sys.stdin.buffer
    # What libraries print must not stand between frames.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        box_path, chosen = read(source)
        _limit_memory(chosen)
        for one in chosen:
            one.scorer.prepare()
        _warm(chosen)
        box = Box(Path(box_path))
    except EOFError:
        return
    except Exception as error:
        write(sink, ("failed", portable(error)))
        return
    chunks: SimpleQueue[list[tuple[int, Sample]]] = SimpleQueue()
    threading.Thread(target=_listen, args=(source, chunks), daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(2, 1)
    gc.freeze()  # what was imported need not be looked through again and again
    write(sink, ("ready", None))
    while True:
        for number, sample in chunks.get():
            _score(number, sample, chosen, box, sink)


def part_of(chosen: Chosen, sample: Sample) -> Part:
    """What one scorer says of a sample. Raises UsageError; any other fault becomes a note."""
    try:
        scored = chosen.score(sample)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        return noted(chosen.metrics, f"scorer failed: {type(error).__name__}")
    return scored.scores, scored.notes, scored.details


def noted(metrics: Sequence[Metric], reason: str) -> Part:
    """No number for any of these metrics, for this reason."""
    names = [metric.name for metric in metrics]
    return dict.fromkeys(names), dict.fromkeys(names, reason), {}


def portable(error: Exception) -> HarnessError:
    """The error that a parent raises for it; its own class where that is one of ours."""
    if isinstance(error, HarnessError):
        with contextlib.suppress(Exception):
            pickle.loads(pickle.dumps(error))
            return error
    words = " ".join(str(error).split())
    return HarnessError(f"the scorers cannot be loaded: {type(error).__name__}: {words}")


def _score(number: int, sample: Sample, chosen: Sequence[Chosen], box: Box, sink: BinaryIO) -> None:
    box.begin(number)
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, ALONE)
    parts = []
    try:
        for one in chosen:
            part = pickle.dumps(part_of(one, sample), pickle.HIGHEST_PROTOCOL)
            box.add(part)
            parts.append(part)
    except UsageError as error:
        write(sink, ("failed", portable(error)))
    else:
        write(sink, ("done", (number, b"".join(parts))))
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _listen(source: BinaryIO, chunks: SimpleQueue[list[tuple[int, Sample]]]) -> None:
    """Take chunks in; end the process, whatever it is doing, once the parent is gone."""
    try:
        while True:
            chunks.put(read(source))
    finally:
        os._exit(0)


def _warm(chosen: Sequence[Chosen]) -> None:
    """Have the scorers import what they import at first use: no sample's time is spent on it."""
    for one in chosen:
        with contextlib.suppress(Exception):
            one.score(_TRIAL)


def _limit_memory(chosen: Sequence[Chosen]) -> None:
    """No core files, and no more than MEMORY, unless a scorer says that it may need more."""
    try:
        import resource
    except ImportError:
        return  # not a Unix
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if all(one.scorer.limit_memory for one in chosen):
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            soft = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
