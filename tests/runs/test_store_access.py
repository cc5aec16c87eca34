"""Who may work on a run, and where it may be: its lock, its names, its place."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from harness.errors import BusyError, StorageError, UsageError
from harness.runs.store import RunFolder, list_runs
from tests.support.storing import make_run, one_sentence, publish, start

# --- lock ------------------------------------------------------------------------------------

HOLD = """
    import sys, time
    from pathlib import Path
    from harness.runs.store import RunFolder
    run = RunFolder(Path(sys.argv[1]), "m", "t", "quick", 0, {"recipe": "quick", "seed": 0})
    with run.lock():
        print("ready", flush=True)
        time.sleep(30)
"""


def test_the_second_process_names_the_first_and_takes_over_when_it_is_killed(
    tmp_path: Path,
) -> None:
    holder = start(HOLD, tmp_path)
    run = make_run(tmp_path)
    begun = time.monotonic()
    with pytest.raises(BusyError) as caught, run.lock():
        pass
    assert time.monotonic() - begun < 20  # the holder is there for 30 s
    one_sentence(caught.value, run.label, f"process {holder.pid} on {os.uname().nodename}", "since")
    holder.kill()
    holder.wait()
    with run.lock():  # the dead holder's name is still there, and does not matter
        publish(run, "data", "k", {"f": "x"})
    assert not (run.path / ".lock.json").exists()


def test_this_process_is_a_holder_too(tmp_path: Path) -> None:
    with (
        make_run(tmp_path).lock(),
        pytest.raises(BusyError, match=f"process {os.getpid()} "),
        make_run(tmp_path).lock(),
    ):
        pass
    with make_run(tmp_path).lock():
        pass


@pytest.mark.parametrize("sidecar", [b"", b"[]", b'{"pid": "x"}', b"\xff", b'{"pid": 4194999}'])
def test_an_unreadable_holder_is_another_process(tmp_path: Path, sidecar: bytes) -> None:
    with (run := make_run(tmp_path)).lock():
        (run.path / ".lock.json").write_bytes(sidecar)
        with pytest.raises(BusyError, match="another process"), make_run(tmp_path).lock():
            pass


def test_a_worker_that_outlives_the_killed_holder_does_not_hold_the_run(tmp_path: Path) -> None:
    script = """
        import os, sys, time
        from pathlib import Path
        from harness.runs.store import RunFolder
        run = RunFolder(Path(sys.argv[1]), "m", "t", "quick", 0, {"recipe": "quick", "seed": 0})
        with run.lock():
            awake, tell = os.pipe()
            worker = os.fork()
            if worker == 0:
                os.write(tell, b".")
                time.sleep(30)
                os._exit(0)
            os.read(awake, 1)
            Path(sys.argv[2]).write_text(str(worker))
            print("ready", flush=True)
            time.sleep(30)
    """
    holder = start(script, tmp_path / "runs", tmp_path / "pid")
    worker = int((tmp_path / "pid").read_text())
    holder.kill()
    holder.wait()
    try:
        os.kill(worker, 0)
        with make_run(tmp_path / "runs").lock():
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_the_manifest_is_read_anew_under_the_lock(tmp_path: Path) -> None:
    early = make_run(tmp_path)
    with (run := make_run(tmp_path)).lock():
        publish(run, "data", "k", {"f": "x"})
    with early.lock():
        assert early.is_done("data", "k")
        publish(early, "train", "k", {"g": "y"})
    assert make_run(tmp_path).is_done("data", "k")


# --- names and places ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0b", "/abs"])
def test_a_name_is_one_part_of_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        RunFolder(tmp_path, name, "t", "r", 0, {})
    one_sentence(caught.value)
    with pytest.raises(UsageError):
        RunFolder(tmp_path, "m", name, "r", 0, {})


def test_a_link_cannot_lead_a_run_out_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "m").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError) as caught:
        make_run(tmp_path / "runs")
    one_sentence(caught.value, str(tmp_path / "runs"))
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with make_run(tmp_path / "link").lock():  # the root itself may be a link
        pass
    assert len(list_runs(tmp_path / "elsewhere")) == 1


def test_a_root_that_cannot_be_used_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError) as caught, make_run(tmp_path / "file").lock():
        pass
    one_sentence(caught.value, str(tmp_path / "file"), "move what is in its place")


@pytest.mark.parametrize(
    ("number", "expected", "mend"),
    [
        (errno.EACCES, UsageError, "writable"),
        (errno.EROFS, UsageError, "writable"),
        (errno.ENOSPC, StorageError, "free some space"),
    ],
)
def test_a_root_that_refuses_is_bad_input_but_a_full_disk_is_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    expected: type[Exception],
    mend: str,
) -> None:
    def refuse(*_: Any) -> None:  # as the system does; root, who may run this, is refused nothing
        raise OSError(number, os.strerror(number))

    run = make_run(tmp_path)
    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(expected) as caught, run.lock():
        pass
    one_sentence(caught.value, str(run.path), mend)


def test_a_full_disk_while_publishing_keeps_the_earlier_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (run := make_run(tmp_path)).lock():
        publish(run, "data", "k", {"f": "x"})
        (run.path / "g").write_text("y")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(StorageError, match="free some space"):
                run.publish("train", "k", [Path("g")])
    again = make_run(tmp_path)
    assert again.is_done("data", "k")
    assert not again.is_done("train", "k")
