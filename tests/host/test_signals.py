"""Signals set a flag, our own code raises Interrupted at safe points, a second signal ends all."""

# ruff: noqa: PT012 - what is tested is where in a block of several statements the signal raises

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import EXIT_INTERRUPTED, Interrupted
from harness.host.locks import hold
from harness.host.signals import check, handling, requested

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
def test_a_signal_waits_for_check(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    steps = []
    with pytest.raises(Interrupted, match=f"interrupted by {number.name}") as caught, handling():
        for step in range(5):
            if step == 2:
                send(number)
            steps.append(step)
            check()
    assert steps == [0, 1, 2]
    assert caught.value.exit_status == EXIT_INTERRUPTED
    said = "harness: stopping at the next safe point; the same signal again stops at once\n"
    assert capfd.readouterr().err == said


def test_leaving_raises_what_was_not_looked_at() -> None:
    steps = []
    with pytest.raises(Interrupted):
        with handling():
            send(signal.SIGINT)
            assert requested()
            steps.append("inside")
        steps.append("outside")
    assert steps == ["inside"]


def test_a_library_that_swallows_what_its_callback_raises_loses_nothing() -> None:
    def library(callback: Callable[[], None]) -> None:
        with contextlib.suppress(BaseException):
            callback()

    with pytest.raises(Interrupted), handling():
        library(lambda: send(signal.SIGTERM))  # nothing is raised in here
        library(check)  # and even what our own code raises in here comes again
        check()


def test_another_error_cannot_hide_the_signal() -> None:
    with pytest.raises(Interrupted) as caught, handling():
        send(signal.SIGTERM)
        raise KeyError("lost")
    assert isinstance(caught.value.__context__, KeyError)


def test_state_is_clean_after_an_interruption() -> None:
    with pytest.raises(Interrupted), handling():
        send(signal.SIGINT)
        check()
    assert not requested()
    with handling():
        check()
    with pytest.raises(Interrupted), handling():
        send(signal.SIGINT)


def test_check_does_nothing_where_nothing_came() -> None:
    check()
    with handling():
        check()


def test_handling_nests() -> None:
    steps = []
    with pytest.raises(Interrupted), handling():
        with handling():
            steps.append("inner")
        send(signal.SIGTERM)
        check()
        steps.append("after")
    assert steps == ["inner"]


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with handling():
            send(signal.SIGINT)
            check()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_neither_installs_nor_raises() -> None:
    seen: list[object] = []

    def work() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with handling():
            seen.append(signal.getsignal(signal.SIGTERM) is before)
        check()
        seen.append(requested())

    with pytest.raises(Interrupted), handling():
        send(signal.SIGTERM)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [True, True]


def test_who_waits_for_a_lock_is_interrupted(tmp_path: Path) -> None:
    with hold(tmp_path / "lock"), pytest.raises(Interrupted), handling():
        send(signal.SIGTERM)
        with hold(tmp_path / "lock"):
            pytest.fail("held twice")
    with hold(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_the_process_at_once(second: signal.Signals) -> None:
    """In the middle of a wait that looks at no flag, with the command as the last line."""
    script = """
        import time
        from harness.host.signals import handling
        with handling("python -m harness run 'a b'"):
            print("ready", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert "again stops at once" in process.stderr.readline()
    process.send_signal(second)
    _, err = process.communicate(timeout=10)
    assert process.returncode == EXIT_INTERRUPTED
    assert err.splitlines() == [
        "harness: stopped at once; what is done is kept. To continue:",
        "python -m harness run 'a b'",
    ]


def test_signals_before_anything_is_imported() -> None:
    """In `main`'s first imports: remembered, and answered like any other."""
    code = (
        "import builtins, os, sys; from harness.__main__ import main; real = builtins.__import__\n"
        "def arrives(name, *rest):\n"
        "    if name == wanted:\n"
        "        builtins.__import__ = real\n"
        "        os.kill(os.getpid(), number)\n"
        "    return real(name, *rest)\n"
        "wanted, number = sys.argv[1], int(sys.argv[2])\n"
        "sys.argv = ['harness', 'list', 'models']; builtins.__import__ = arrives\n"
        "sys.exit(main())\n"
    )
    for module, number in (("shlex", signal.SIGTERM), ("harness.cli.main", signal.SIGINT)):
        done = subprocess.run(
            [sys.executable, "-c", code, module, str(int(number))],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == EXIT_INTERRUPTED, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1] == "python -m harness list models"


def test_signals_from_outside_at_any_moment_are_answered_once() -> None:
    script = """
        import sys
        from harness.errors import Interrupted
        from harness.host.signals import check, handling

        left = right = 0
        try:
            with handling():
                print("ready", flush=True)
                while True:
                    left += 1
                    right += 1
                    check()
        except Interrupted as error:
            print(left == right, flush=True)
            sys.exit(error.exit_status)
    """
    for turn in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.003 * turn)
        process.send_signal(SIGNALS[turn % 2])
        out, err = process.communicate(timeout=10)
        assert (out, len(err.splitlines()), process.returncode) == ("True\n", 1, EXIT_INTERRUPTED)
