"""How far a stage is: a bar on a terminal, plain lines elsewhere, both on standard error.

    with Progress("train", total=24, unit="steps") as progress:
        for step in steps:
            progress.advance(note=f"loss {train(step):.3f}")

A line reads `train  12/24 steps  0.41 steps/s  29 s left  loss 1.234` and has at most 100
columns. What takes under a second leaves no trace. `write` prints a line past an active bar.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

from harness.host.console import COLUMNS, clean, plainly, silence

Tick = Callable[[int], None]
"""Told of so many more units that are done."""

QUIET = 1.0  # seconds; what is shorter leaves no line
REDRAW = 0.1  # seconds between two states of a bar
WINDOW = 60.0  # seconds over which the present rate is taken

_bars: list[Any] = []  # tqdm bars on the screen, the outermost first


class Progress:
    """Progress of one stage, as a context manager.

    label:    what is going on, such as "train" or "generate base".
    total:    how many units there are, None where that is not known.
    unit:     what is counted, in the plural.
    initial:  how many were already done when this process began (a resumed stage); they count
              as done but not towards the rate.
    interval: seconds between two lines where the stream is no terminal.
    clock:    seconds, monotonic.

    An output that fails (a closed pipe) never stops the work.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        unit: str = "samples",
        *,
        initial: int = 0,
        stream: TextIO | None = None,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self._initial = initial
        self._stream = sys.stderr if stream is None else stream
        self._interval, self._clock = interval, clock
        self._note = ""
        self._bar: Any = None
        self._begun = self._next = 0.0
        self._marks: deque[tuple[float, int]] = deque()

    def __enter__(self) -> Progress:
        self._begun = self._clock()
        self._marks.append((self._begun, self.done))
        if _is_terminal(self._stream):
            self._open_bar()
            self._next = self._begun + REDRAW
        else:
            self._next = self._begun + QUIET
        return self

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count `n` more units as done. note: a few words to show at the end; "" keeps the last."""
        self.done += n
        self._note = note or self._note
        now = self._clock()
        if now < self._next:
            return
        self._next = now + (self._interval if self._bar is None else REDRAW)
        self._marks.append((now, self.done))
        while len(self._marks) > 2 and self._marks[1][0] < now - WINDOW:
            self._marks.popleft()
        if self._bar is None:
            write(self._line(now), self._stream)
        else:
            self._draw(now)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        now = self._clock()
        if self._bar is not None:
            _bars.remove(self._bar)
            self._bar.leave = False  # the last state stays as a plain line, not as a bar
            self._bar.close()
            self._bar = None
        if now - self._begun >= QUIET:
            write(self._line(now, ended=True, stopped=kind is not None), self._stream)

    def _line(self, now: float, *, ended: bool = False, stopped: bool = False) -> str:
        count = f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}"
        parts = [self.label, f"{count} {self.unit}", *self._pace(now, ended, stopped), self._note]
        line = "  ".join(part for part in parts if part)
        return line if len(line) <= COLUMNS else line[: COLUMNS - 3] + "..."

    def _pace(self, now: float, ended: bool, stopped: bool) -> list[str]:
        elapsed = now - self._begun
        since, before = (self._begun, self._initial) if ended else self._marks[0]
        rate = (self.done - before) / (now - since) if now > since else 0.0
        pace = [f"{_number(rate)} {self.unit}/s"] if rate > 0 else []
        if ended:
            pace.append(f"{'stopped after' if stopped else 'in'} {duration(elapsed)}")
        elif self.total is None:
            pace.append(duration(elapsed))
        elif rate > 0:
            pace.append(f"{duration(max(0, self.total - self.done) / rate)} left")
        return pace

    def _open_bar(self) -> None:
        from threading import RLock

        from tqdm import tqdm

        # No helper thread and no lock shared between processes: scorers fork.
        tqdm.monitor_interval = 0
        if not _bars:
            tqdm.set_lock(RLock())
        # tqdm draws and finds its place among other bars; when and what is decided here.
        self._bar = tqdm(
            total=self.total,
            initial=self.done,
            file=self._stream,
            mininterval=0,
            miniters=1 << 62,
            bar_format=self._bar_format(self._begun),
            ncols=_width(self._stream),
            nrows=20,  # bars one below another at most; a terminal that says 0 rows would get none
        )
        _bars.append(self._bar)

    def _draw(self, now: float) -> None:
        self._bar.n = self.done
        self._bar.ncols = _width(self._stream)
        self._bar.bar_format = self._bar_format(now)
        self._bar.refresh()

    def _bar_format(self, now: float) -> str:
        count = f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}"
        tail = "  ".join([f"{count} {self.unit}", *self._pace(now, False, False), self._note])
        label, tail = (_printable(text, self._stream) for text in (self.label, tail.rstrip()))
        label, tail = (text.replace("{", "{{").replace("}", "}}") for text in (label, tail))
        return (
            f"{label}  {tail}"
            if not self.total
            else f"{label} {{percentage:3.0f}}%|{{bar}}| {tail}"
        )


def write(line: str, stream: TextIO | None = None) -> None:
    """Print `line` to `stream` (standard error by default) without tearing an active bar."""
    stream = sys.stderr if stream is None else stream
    if stream is None:  # a process without standard streams
        return
    text = "\n".join(_printable(part, stream) for part in line.split("\n"))
    try:
        if _bars:
            _bars[0].write(text, file=stream)
        else:
            stream.write(text + "\n")
        stream.flush()
    except (OSError, ValueError):
        # A closed pipe or a full disk is no reason to stop the work, nor to fail at the very end.
        if stream is sys.stderr:
            silence(stream)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except (OSError, ValueError):
        return False


def _width(stream: TextIO) -> int:
    """Columns for a bar: the terminal's, less one so that it never wraps, and at most COLUMNS."""
    try:
        columns = int(os.environ.get("COLUMNS", 0))
        columns = columns if columns > 0 else os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return min(COLUMNS, columns - 1) if columns > 1 else 79


def _printable(text: str, stream: TextIO) -> str:
    """`text` without control characters (they could move the cursor), in what `stream` can say."""
    shown = "".join(char if char.isprintable() else " " for char in clean(text))
    return plainly(shown, getattr(stream, "encoding", None) or "utf-8")


def _number(rate: float) -> str:
    if rate >= 100:
        return f"{rate:,.0f}"
    if rate >= 10:
        return f"{rate:.1f}"
    return f"{rate:.2f}" if rate >= 0.1 else f"{rate:.2g}"


def duration(seconds: float) -> str:
    """A span for people: "9.1 s", "2 min 05 s", "1 h 04 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"
