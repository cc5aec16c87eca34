"""SIGINT and SIGTERM become `errors.Interrupted`, at once or at the next safe point.

    with handling():              # around the whole command
        long_work()               # a signal raises Interrupted here, at once
        with deferred():          # a signal is only remembered ...
            for step in steps:
                train(step)
                check()           # ... and raises here, where all is consistent,
                                  # or on leaving `deferred()`

A second signal inside `deferred()` raises at once: whoever asks twice is not kept waiting.
All three are for the main thread, the only one in which Python runs signal handlers; in any
other thread they do nothing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from harness.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_Handler = Callable[[int, FrameType | None], Any] | int | None


class _State:
    """What the handler and the main thread share. The handler runs between two bytecodes of that
    same thread, so plain attributes do; only the order of reads and writes matters."""

    depth = 0  # how many `deferred()` are open
    pending: int | None = None  # the signal that waits for a safe point
    closing = False  # `handling()` is putting the old handlers back


_state = _State()


@contextmanager
def handling() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Interrupted` inside the block; put the old handlers back after.

    A signal that the process was started with as ignored (`nohup`, a shell's background job)
    stays ignored. Blocks nest; the inner one changes nothing.
    Raises Interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old: dict[int, _Handler] = {}
    depth, closing = _state.depth, _state.closing
    try:
        for number in SIGNALS:
            current = signal.getsignal(number)
            if current not in (signal.SIG_IGN, _on_signal):
                old[number] = current
                signal.signal(number, _on_signal)
        yield
    finally:
        # A signal in these lines must not leave half of the handlers installed.
        _state.closing = True
        for installed, handler in old.items():
            # None: a handler from C that Python cannot put back; the default is the nearest.
            signal.signal(installed, signal.SIG_DFL if handler is None else handler)
        _state.depth, _state.closing = depth, closing
        if old and _state.pending is not None:
            _raise_pending()


class deferred:
    """Inside the block a signal is remembered instead of raised; `check()` raises it.

    Leaving the outermost block raises it too; if the block ends in another exception, that one
    is the `__cause__`, so that a handler for it cannot swallow the user's wish to stop.
    Raises Interrupted.
    """

    # A class, not a generator: a signal can fall between the lines of a generator's set-up.

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            _state.depth += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        # First lower, then look: a signal before this line is pending, one after it raises itself.
        _state.depth = max(0, _state.depth - 1)
        if _state.depth == 0 and _state.pending is not None:
            _raise_pending(error)


def check() -> None:
    """A safe point: raise the signal that `deferred()` has held back, if there is one.

    Raises Interrupted.
    """
    if _state.pending is not None and threading.current_thread() is threading.main_thread():
        _raise_pending()


def requested() -> bool:
    """Whether `deferred()` holds a signal back: time to leave things so that they can go on."""
    return _state.pending is not None


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _state.closing or (_state.depth > 0 and _state.pending is None):
        _state.pending = number
        return
    _state.pending = number
    _raise_pending()


def _raise_pending(cause: BaseException | None = None) -> None:
    number, _state.pending = _state.pending, None
    name = signal.Signals(number).name if number is not None else "a signal"
    error = Interrupted(f"interrupted by {name}; the same command continues")
    if cause is None:
        raise error
    raise error from cause
