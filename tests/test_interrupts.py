"""Signals become Interrupted: at once, or at a safe point."""

# ruff: noqa: PT012 - what is tested is where in a block of several statements the signal raises

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

import pytest

from harness import interrupts
from harness.errors import EXIT_INTERRUPTED, Interrupted
from harness.interrupts import check, deferred, handling

if TYPE_CHECKING:
    from _typeshed import TraceFunction

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)  # a bytecode boundary, at which the handler runs


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_at_once(number: signal.Signals) -> None:
    reached = []
    with pytest.raises(Interrupted, match=f"interrupted by {number.name}") as caught, handling():
        send(number)
        reached.append("after")
    assert reached == []
    assert caught.value.exit_status == EXIT_INTERRUPTED


def test_a_sleep_is_cut_short() -> None:
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    begun = time.monotonic()
    with pytest.raises(Interrupted), handling():
        time.sleep(10)
    assert time.monotonic() - begun < 5


def test_deferred_waits_for_check() -> None:
    steps = []
    with pytest.raises(Interrupted), handling(), deferred():
        for step in range(5):
            if step == 2:
                send(signal.SIGTERM)
            steps.append(step)
            check()
    assert steps == [0, 1, 2]


def test_leaving_deferred_raises() -> None:
    steps = []
    with pytest.raises(Interrupted), handling():
        with deferred():
            send(signal.SIGINT)
            steps.append("inside")
        steps.append("outside")
    assert steps == ["inside"]


def test_only_the_outermost_deferred_raises() -> None:
    steps = []
    with pytest.raises(Interrupted), handling(), deferred():
        with deferred():
            send(signal.SIGINT)
        steps.append("between")
    assert steps == ["between"]


def test_a_second_signal_in_deferred_raises_at_once() -> None:
    steps = []
    with pytest.raises(Interrupted, match="SIGTERM"), handling(), deferred():
        send(signal.SIGINT)
        steps.append("first")
        send(signal.SIGTERM)
        steps.append("second")
    assert steps == ["first"]


def test_another_error_cannot_hide_the_signal() -> None:
    with pytest.raises(Interrupted) as caught, handling(), deferred():
        send(signal.SIGTERM)
        raise KeyError("lost")
    assert isinstance(caught.value.__cause__, KeyError)


def test_state_is_clean_after_an_interruption() -> None:
    with pytest.raises(Interrupted), handling(), deferred():
        send(signal.SIGINT)
        send(signal.SIGINT)
    with handling():
        check()
        with deferred():
            check()
    with pytest.raises(Interrupted), handling():
        send(signal.SIGINT)


def test_check_and_deferred_do_nothing_where_nothing_is_pending() -> None:
    check()
    with deferred():
        check()


def test_handling_nests() -> None:
    steps = []
    with pytest.raises(Interrupted), handling():
        with handling():
            steps.append("inner")
        send(signal.SIGTERM)
        steps.append("after")
    assert steps == ["inner"]


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with handling():
            send(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_they_do_nothing() -> None:
    seen: list[object] = []

    def work() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with handling(), deferred():
            check()
            seen.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]


def test_a_thread_in_deferred_does_not_hold_back_the_main_thread() -> None:
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with deferred():
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(5)
    try:
        with pytest.raises(Interrupted), handling():
            send(signal.SIGTERM)
    finally:
        leave.set()
        thread.join()


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], SIGNALS], ids=["one", "two"])
def test_a_signal_at_every_bytecode_of_deferred_raises_by_its_end(
    numbers: list[signal.Signals],
) -> None:
    for moment in range(1, 1000):
        count = left = right = after = 0

        def trace(frame: FrameType, event: str, _: object) -> TraceFunction:
            nonlocal count
            if frame.f_code.co_filename == interrupts.__file__:
                frame.f_trace_opcodes = True
                count += event == "opcode"
                if event == "opcode" and count == moment:  # noqa: B023 - called within this turn
                    for number in numbers:
                        os.kill(os.getpid(), number)
            return trace

        try:
            with handling():
                sys.settrace(trace)
                with deferred():
                    left += 1
                    right += 1
                sys.settrace(None)
                after += 1
        except Interrupted:
            assert left == right
            assert after == 0
        else:
            assert count < moment  # no signal was sent
            assert moment > 20
            return
        finally:
            sys.settrace(None)
        with pytest.raises(Interrupted), handling():  # nothing is left deferred
            send(signal.SIGINT)
            after += 1
        assert after == 0
    pytest.fail("deferred() never ended undisturbed")


def test_signals_at_any_moment_are_neither_lost_nor_torn() -> None:
    """One signal from outside at an arbitrary bytecode: raised exactly once, and never between
    the two halves of a deferred change."""
    script = """
        import os, sys
        from harness.errors import Interrupted
        from harness.interrupts import deferred, handling

        left = right = 0
        try:
            with handling():
                print("ready", flush=True)
                while True:
                    with deferred():
                        left += 1
                        right += 1
        except Interrupted as error:
            print(left == right, flush=True)
            sys.exit(error.exit_status)
    """
    for round_number in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.003 * round_number)
        process.send_signal(SIGNALS[round_number % 2])
        out, err = process.communicate(timeout=10)
        assert (out, err, process.returncode) == ("True\n", "", EXIT_INTERRUPTED)


def test_many_signals_in_process_are_each_answered() -> None:
    """A storm from a real interval timer, each at another bytecode of enter, body and leave."""
    raised = 0
    before = signal.getsignal(signal.SIGALRM)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        for turn in range(200):
            left = right = 0
            try:
                with handling():
                    signal.setitimer(signal.ITIMER_REAL, 0.0002 + turn * 1e-6)
                    while True:
                        with deferred():
                            left += 1
                            right += 1
            except Interrupted:
                raised += 1
            assert left == right
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert raised == 200
