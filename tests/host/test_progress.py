"""Progress: plain lines where there is no terminal, a bar where there is one."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.host import progress
from harness.host.progress import COLUMNS, Progress, write


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    yield Terminal()
    assert progress._bars == []


def screen(output: str) -> list[str]:
    """The lines that a terminal shows in the end (carriage returns and overwriting played back)."""
    lines = []
    for line in output.split("\n"):
        shown: list[str] = []
        for part in line.split("\r"):
            shown[: len(part)] = part
        lines.append("".join(shown).rstrip())
    return [line for line in lines if line]


def steps(clock: Clock, stream: io.StringIO, seconds: list[float], total: int | None) -> list[str]:
    with Progress("train", total, "steps", stream=stream, clock=clock) as bar:
        for number, wait in enumerate(seconds):
            clock.now += wait
            bar.advance(note=f"loss {number}.5")
    return stream.getvalue().splitlines()


def test_what_takes_under_a_second_leaves_no_line(clock: Clock) -> None:
    assert steps(clock, io.StringIO(), [0.1] * 9, 9) == []


def test_lines_have_count_rate_time_left_and_note(clock: Clock) -> None:
    lines = steps(clock, io.StringIO(), [2.5] * 24, 24)
    assert lines == [
        "train  1/24 steps  0.40 steps/s  58 s left  loss 0.5",
        "train  5/24 steps  0.40 steps/s  48 s left  loss 4.5",
        "train  9/24 steps  0.40 steps/s  38 s left  loss 8.5",
        "train  13/24 steps  0.40 steps/s  28 s left  loss 12.5",
        "train  17/24 steps  0.40 steps/s  18 s left  loss 16.5",
        "train  21/24 steps  0.40 steps/s  7.5 s left  loss 20.5",
        "train  24/24 steps  0.40 steps/s  in 1 min 00 s  loss 23.5",
    ]


def test_the_interval_is_kept_whatever_the_rate(clock: Clock) -> None:
    lines = steps(clock, io.StringIO(), [0.001] * 35_000, 35_000)
    assert len(lines) == 5
    assert lines[-1] == "train  35,000/35,000 steps  1,000 steps/s  in 35 s  loss 34999.5"


def test_the_rate_is_the_present_one_and_at_the_end_the_mean(clock: Clock) -> None:
    lines = steps(clock, io.StringIO(), [100.0] + [1.0] * 300, 400)
    assert lines[0] == "train  1/400 steps  0.01 steps/s  11 h 05 min left  loss 0.5"
    assert lines[-2] == "train  301/400 steps  1.00 steps/s  1 min 39 s left  loss 300.5"
    assert lines[-1] == "train  301/400 steps  0.75 steps/s  in 6 min 40 s  loss 300.5"


def test_an_unknown_total_has_no_time_left(clock: Clock) -> None:
    assert steps(clock, io.StringIO(), [2.0, 2.0], None) == [
        "train  1 steps  0.50 steps/s  2.0 s  loss 0.5",
        "train  2 steps  0.50 steps/s  in 4.0 s  loss 1.5",
    ]


def test_resumed_work_counts_as_done_but_not_as_speed(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress("train", 100, "steps", initial=90, stream=stream, clock=clock) as bar:
        clock.now += 2
        bar.advance(2)
    assert stream.getvalue().splitlines() == [
        "train  92/100 steps  1.00 steps/s  8.0 s left",
        "train  92/100 steps  1.00 steps/s  in 2.0 s",
    ]


def test_an_error_is_told_as_stopped(clock: Clock) -> None:
    stream = io.StringIO()

    def fail() -> None:
        clock.now += 90
        raise KeyError

    with pytest.raises(KeyError), Progress("score", 10, stream=stream, clock=clock):
        fail()
    assert stream.getvalue() == "score  0/10 samples  stopped after 1 min 30 s\n"


@settings(derandomize=True, deadline=None, max_examples=50, database=None)
@given(
    label=st.text(max_size=120),
    note=st.text(max_size=150),
    total=st.none() | st.integers(0, 10**15),
    counts=st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 1e7)), max_size=5),
)
def test_lines_are_printable_and_fit(
    label: str, note: str, total: int | None, counts: list[tuple[int, float]]
) -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(label, total, stream=stream, clock=clock) as bar:
        for n, wait in counts:
            clock.now += wait
            bar.advance(n, note)
    for line in stream.getvalue().split("\n"):
        assert len(line) <= COLUMNS
        assert line.isprintable()


def test_a_stream_that_fails_does_not_stop_the_work(clock: Clock) -> None:
    closed = io.StringIO()
    closed.close()
    reader, writer = os.pipe()
    os.close(reader)
    broken = open(writer, "w")  # noqa: SIM115 - closing it fails, as it should
    for stream in (closed, broken):
        with Progress("train", 2, stream=stream, clock=clock) as bar:
            clock.now += 20
            bar.advance()
    with pytest.raises(BrokenPipeError):
        broken.close()


def test_a_stream_that_knows_only_ascii_gets_ascii(clock: Clock) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    with Progress("größe", 1, stream=stream, clock=clock):
        clock.now += 2
    write("ein Maß", stream)
    assert raw.getvalue() == b"gr??e  0/1 samples  in 2.0 s\nein Ma?\n"


# --- terminals -------------------------------------------------------------------------------


def test_a_terminal_gets_a_bar_and_keeps_the_last_line(clock: Clock, terminal: Terminal) -> None:
    with Progress("train", 4, "steps", stream=terminal, clock=clock) as bar:
        for _ in range(4):
            clock.now += 2
            bar.advance(note="loss {0.5}")
    output = terminal.getvalue()
    assert "train   0%|" in output
    assert re.search(r"train  50%\|\S+ +\| 2/4 steps  0.50 steps/s  4.0 s left  loss {0.5}", output)
    assert screen(output) == ["train  4/4 steps  0.50 steps/s  in 8.0 s  loss {0.5}"]
    assert all(len(state) <= COLUMNS for state in re.split("[\r\n]", output))


def test_a_short_stage_leaves_nothing_on_a_terminal(clock: Clock, terminal: Terminal) -> None:
    with Progress("train", 4, stream=terminal, clock=clock) as bar:
        clock.now += 0.5
        bar.advance(4)
    assert screen(terminal.getvalue()) == []


@pytest.mark.parametrize("total", [None, 0, 1])
def test_odd_totals_on_a_terminal(clock: Clock, terminal: Terminal, total: int | None) -> None:
    with Progress("count", total, stream=terminal, clock=clock) as bar:
        for _ in range(3):  # more than was said
            clock.now += 1
            bar.advance()
    end = "3" if total is None else f"3/{total}"
    assert screen(terminal.getvalue()) == [f"count  {end} samples  1.00 samples/s  in 3.0 s"]


def test_a_line_does_not_tear_the_bar(clock: Clock, terminal: Terminal) -> None:
    with Progress("train", 4, "steps", stream=terminal, clock=clock) as bar:
        for step in range(4):
            clock.now += 2
            bar.advance()
            write(f"step {step}", terminal)
    assert screen(terminal.getvalue()) == [
        "step 0",
        "step 1",
        "step 2",
        "step 3",
        "train  4/4 steps  0.50 steps/s  in 8.0 s",
    ]


def test_control_characters_do_not_reach_the_terminal(clock: Clock, terminal: Terminal) -> None:
    write("\x1b[2Jcleared\x07", terminal)
    assert terminal.getvalue() == " [2Jcleared \n"
    write("two\nlines", terminal)
    assert terminal.getvalue().endswith("two\nlines\n")


def test_a_dumb_terminal_gets_lines(
    clock: Clock, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with Progress("train", 1, stream=terminal, clock=clock):
        clock.now += 2
    assert terminal.getvalue() == "train  0/1 samples  in 2.0 s\n"


@pytest.mark.parametrize("size", [(24, 60), (0, 0)])
def test_a_real_terminal_of_any_size(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    import termios

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("COLUMNS", raising=False)  # it goes before the terminal's own size
    parent, child = pty.openpty()
    with open(child, "w") as stream:
        termios.tcsetwinsize(child, size)
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress("train", 4, "steps", clock=clock) as bar:
            clock.now += 2
            bar.advance(2, "loss 0.25")
        output = ""
        while "50%" not in output:  # a busy system gives it in parts
            output += os.read(parent, 100_000).decode()
    os.close(parent)
    assert "train  50%|" in output
    width = size[1] or 80
    assert all(len(state) < width for state in re.split("[\r\n]", output))


def test_write_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    write("a line")
    assert capsys.readouterr() == ("", "a line\n")


def test_without_standard_streams_nothing_happens(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with Progress("train", 1, clock=clock):
        clock.now += 5
    write("a line")
