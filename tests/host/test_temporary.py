"""What dead processes left goes; what is a live process's, another host's or user's stays."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host import temporary
from harness.host.files import write_atomic
from harness.host.temporary import making_folder, owned, sweep, temporary_folder
from tests.support.storing import start


@pytest.fixture(autouse=True)
def nothing_was_swept_before() -> Iterator[None]:
    temporary._swept.clear()
    yield
    temporary._swept.clear()


def name_of(code: str = "print(owned('.tmp-'))") -> str:
    """A name as a process that has ended since would give it."""
    code = f"from harness.host.temporary import owned; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_names_of_the_dead_go_and_all_others_stay(tmp_path: Path) -> None:
    dead, ours = name_of(), owned(".tmp-")
    prefix, _, pid, *rest = dead.split("-")
    other_host = "-".join([prefix, "0" * 8, pid, *rest])
    reused = ours.split("-")
    reused[3] = "1"  # our number, but of a process that began just after the machine did
    stay = [ours, other_host, ".tmp-", ".tmp-0123456789abcdef", "tmp-x", dead.replace(".tmp", ".x")]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    for name in [dead, *stay, "-".join(reused)]:
        (tmp_path / name).touch()
    (tmp_path / f"{dead}0").symlink_to("elsewhere")
    (tmp_path / f"{dead}1").mkdir()
    (tmp_path / f"{dead}1" / "inside").touch()
    sweep(tmp_path, ".tmp-")
    left = {path.name for path in tmp_path.iterdir()}
    gone = {"-".join(reused)} if Path("/proc/self/stat").exists() else set()
    assert left - {"-".join(reused)} == {*stay, "elsewhere", f"{dead}0"}
    assert not gone & left
    assert (tmp_path / "elsewhere" / "file").exists()


def test_another_users_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name_of()).touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 12345678)
        sweep(tmp_path, ".tmp-")
    assert len(list(tmp_path.iterdir())) == 1
    sweep(tmp_path, ".tmp-")
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_of_a_live_process_stays_until_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = """
        import time
        from pathlib import Path
        from harness.host.temporary import temporary_folder
        with temporary_folder("harness-score-") as folder:
            (folder / "box").touch()
            print("ready", flush=True)
            time.sleep(60)
    """
    process = start(script)
    (theirs,) = tmp_path.iterdir()
    with temporary_folder("harness-data-") as ours:
        assert {*tmp_path.iterdir()} == {ours, theirs}
    process.kill()
    process.wait()
    temporary._swept.clear()
    with temporary_folder("harness-nu-") as ours:
        assert [*tmp_path.iterdir()] == [ours]
    assert [*tmp_path.iterdir()] == []


def test_a_killed_conversion_leaves_nothing_for_long(tmp_path: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from harness.host.temporary import making_folder
        with making_folder(Path(sys.argv[1])) as folder:
            (folder / "model.gguf").write_text("x" * 1000)
            print("ready", flush=True)
            time.sleep(60)
    """
    process = start(script, tmp_path)
    sweep(tmp_path, ".making-")
    assert len(list(tmp_path.glob(".making-*/model.gguf"))) == 1
    process.kill()
    process.wait()
    sweep(tmp_path, ".making-")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(IsADirectoryError), making_folder(tmp_path) as folder:
        folder.read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_write_sweeps_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / name_of()).touch()
    write_atomic(tmp_path / "table.csv", "a\n")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
