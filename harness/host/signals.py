"""SIGINT and SIGTERM set a flag, and our own code looks at it at safe points.

    with handling(command):       # around the whole command
        for step in steps:
            work(step)            # a signal is only remembered ...
            check()               # ... and raises Interrupted here, where all is consistent

Nothing is raised in the middle of a library: it could swallow the exception or make it an error of
its own. A second signal ends the process at once, wherever it is; what lies on the disk is whole
at any moment. Only the main thread runs signal handlers and raises; in others all this does
nothing.

`install` is called before anything heavy is imported, so this module imports little.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from harness.errors import EXIT_INTERRUPTED, Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GLANCE = 0.1
"""Seconds that whoever waits for something else may wait between two looks at the flag."""

_Handler = Callable[[int, FrameType | None], Any] | int | None


class _State:
    """What the handler and the main thread share. The handler runs between two bytecodes of that
    same thread, so plain attributes do."""

    pending: int | None = None  # the signal that came
    command = ""  # what continues the work


_state = _State()


def install(command: str = "") -> None:
    """From now on SIGINT and SIGTERM set the flag, and a second one ends the process.

    A signal that the process was started with as ignored (`nohup`, a shell's background job)
    stays ignored. command: what continues the work, for the line that a second signal prints.
    """
    _state.command = command or _state.command
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _on_signal)


def ignore() -> None:
    """The work is over and its exit status known: signals change nothing any more."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def handling(command: str = "") -> Iterator[None]:
    """`install` for the block; leaving it raises what came, and puts the old handlers back.

    If the block ends in another exception, that one is the `__context__`: no handler for it can
    swallow the user's wish to stop.
    Raises Interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old: dict[int, _Handler] = {number: signal.getsignal(number) for number in SIGNALS}
    before = _state.command
    install(command)
    try:
        try:
            yield
        except Interrupted:
            raise
        except BaseException:
            check()
            raise
        check()
    finally:
        for number, handler in old.items():
            # None: a handler from C that Python cannot put back; the default is the nearest.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if _on_signal not in old.values():  # else whoever installed it before is not done
            _state.pending = None
        _state.command = before


def check() -> None:
    """A safe point: raise the signal that came, if one did.

    Raises Interrupted.
    """
    if _state.pending is not None and threading.current_thread() is threading.main_thread():
        name = signal.Signals(_state.pending).name
        raise Interrupted(f"interrupted by {name}; the same command continues")


def requested() -> bool:
    """Whether a signal came: time to leave things so that they can go on."""
    return _state.pending is not None


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _state.pending is None:
        _state.pending = number
        _tell("harness: stopping at the next safe point; the same signal again stops at once")
        return
    lines = ["harness: stopped at once; what is done is kept. To continue:", _state.command]
    _tell(*(line for line in lines if line))
    os._exit(EXIT_INTERRUPTED)


def _tell(*lines: str) -> None:
    """Print to standard error past its buffer, which the signal may have caught half-written."""
    with suppress(OSError, AttributeError, ValueError):
        stream = sys.stderr.fileno()
        text = "".join(f"{line}\n" for line in lines)
        if os.isatty(stream):
            text = f"\n{text}"  # a progress bar may stand in the line
        os.write(stream, text.encode(errors="replace"))
