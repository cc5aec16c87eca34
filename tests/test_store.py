"""The store keeps its word under kills, torn writes, damage, full disks and garbage."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import store
from harness.errors import BusyError, StorageError, UsageError
from harness.store import (
    Journal,
    RunFolder,
    digest,
    file_digest,
    list_runs,
    write_atomic,
    write_json,
)

quick = settings(derandomize=True, deadline=None, max_examples=30, database=None)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # every code point, lone surrogates too
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
records = st.dictionaries(st.text(max_size=5), json_values, max_size=3)


def make_run(
    root: Path, notices: list[str] | None = None, *, recipe: str = "quick", seed: int = 0
) -> RunFolder:
    notice: Callable[[str], None] = print if notices is None else notices.append
    return RunFolder(root, "m", "t", recipe, seed, {"recipe": recipe, "seed": seed}, notice=notice)


def publish(run: RunFolder, name: str, key: str, files: dict[str, str]) -> None:
    for relative, text in files.items():
        write_atomic(run.path / relative, text)
    run.publish(name, key, [Path(relative) for relative in files], {"n": len(files)}, 1.5)


def temporaries(folder: Path) -> list[Path]:
    return list(folder.rglob(".tmp-*"))


def one_sentence(error: BaseException, *parts: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert "Traceback" not in text
    for part in parts:
        assert part in text


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def start(script: str, *arguments: Path) -> subprocess.Popen[str]:
    """A Python process that runs `script` and says "ready" first."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


# --- keys ------------------------------------------------------------------------------------


def test_digest_is_sha256_of_canonical_json() -> None:
    expected = hashlib.sha256(b'{"a":[1,2.5,null],"b":"\\u00e9"}').hexdigest()
    assert digest({"b": "é", "a": [1, 2.5, None]}) == expected


@quick
@given(json_values, json_values)
def test_digests_are_equal_for_equal_json_only(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest(one) == digest(other)) == same


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_digest_refuses_what_is_not_a_number(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"loss": number})


# --- atomic writes ---------------------------------------------------------------------------


def test_write_atomic_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_atomic(path, "eins")
    write_atomic(path, b"zwei")
    assert path.read_bytes() == b"zwei"
    assert os.listdir(path.parent) == ["b.txt"]


@quick
@given(value=json_values)
def test_json_comes_back_as_it_was(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert json.loads(path.read_bytes()) == value


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_refused_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    path = tmp_path / "table.csv"
    write_atomic(path, "old")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(StorageError) as caught:
            write_atomic(path, "new")
    one_sentence(caught.value, str(path), os.strerror(number))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:7])))
    write_atomic(tmp_path / "f", b"0123456789" * 10)
    assert (tmp_path / "f").read_bytes() == b"0123456789" * 10


def test_a_folder_in_the_place_of_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(StorageError) as caught:
        write_atomic(tmp_path / "f", "x")
    one_sentence(caught.value, str(tmp_path / "f"), "move what is in its place")
    assert temporaries(tmp_path) == []


def test_sigkill_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from harness.store import write_atomic
        print("ready", flush=True)
        while True:
            write_atomic(Path(sys.argv[1]), "a" * 300_000)
            write_atomic(Path(sys.argv[1]), "b" * 500_000)
    """
    run = make_run(tmp_path)
    path = run.path / "f"
    write_atomic(path, "a" * 300_000)
    for turn in range(4):
        process = start(script, path)
        time.sleep(0.02 + 0.013 * turn)
        process.kill()
        process.wait()
        assert path.read_text() in ("a" * 300_000, "b" * 500_000)
    with run.lock():
        assert temporaries(run.path) == []


# --- journal ---------------------------------------------------------------------------------

journal_steps = st.lists(
    st.tuples(st.just("append"), records)
    | st.tuples(st.just("tear"), st.integers(1, 40))
    | st.tuples(st.just("nul"), st.integers(1, 5000))
    | st.tuples(st.just("junk"), st.sampled_from([b"{", b"17\n", b"\xff\n", b"\0\n", b'{"a": 1}']))
    | st.tuples(st.just("reopen"), st.none()),
    max_size=12,
)


@quick
@given(steps=journal_steps)
def test_no_torn_line_survives_in_a_journal(steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        path.touch()
        journal = Journal(path)
        expected: list[dict[str, Any]] = []
        for step, value in steps:
            if step == "append":
                journal.append(value)
                expected.append(value)
            else:
                journal.close()  # damage comes between two processes
                data = path.read_bytes()
                if step == "tear":
                    path.write_bytes(data[:-value])
                elif step == "nul":
                    path.write_bytes(data + b"\0" * value)
                elif step == "junk":
                    path.write_bytes(data + value)
                journal = Journal(path)
                if step == "tear":
                    whole = data[:-value].count(b"\n")
                    expected = expected[:whole]
            assert Journal(path).read() == expected
        journal.append({"last": True})
        journal.close()
        lines = path.read_bytes().splitlines(keepends=True)
        assert [json.loads(line) for line in lines] == [*expected, {"last": True}]
        assert all(line.endswith(b"\n") for line in lines)


def test_a_journal_says_what_it_left_out(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal(path)
    assert (journal.read(), journal.dropped, journal.damaged) == ([], 0, False)
    with journal:
        for i in range(5):
            journal.append({"i": i})
    path.write_bytes(path.read_bytes()[:-3])
    assert [r["i"] for r in journal.read()] == [0, 1, 2, 3]
    assert (journal.dropped, journal.damaged) == (1, False)
    data = bytearray(path.read_bytes())
    data[12] = 0  # in the second line
    path.write_bytes(data)
    assert journal.read() == [{"i": 0}]
    assert (journal.dropped, journal.damaged) == (4, True)
    with journal:
        journal.append({"i": 1})
    assert path.read_text() == '{"i": 0}\n{"i": 1}\n'


@pytest.mark.parametrize("line", [b"", b"[]", b"null", b'{"a": 1}{"a": 2}', b'{"a": "\x80"}'])
def test_a_line_that_is_no_record_ends_the_journal(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "j").write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    journal = Journal(tmp_path / "j")
    assert (journal.read(), journal.dropped, journal.damaged) == ([{"a": 1}], 2, True)


def test_deep_nesting_in_a_journal_is_only_a_bad_line(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"a": 1}\n' + b"[" * 100_000 + b"\n")
    assert Journal(tmp_path / "j").read() == [{"a": 1}]


def test_sigkill_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from harness.store import Journal
        journal = Journal(Path(sys.argv[1]))
        i = len(journal.read())
        print("ready", flush=True)
        while True:
            journal.append({"i": i, "text": "x" * (i * 37 % 9000)})
            i += 1
            print(i, flush=True)
    """
    path = tmp_path / "j"
    for turn in range(4):
        process = start(script, path)
        time.sleep(0.01 + 0.01 * turn)
        process.kill()
        out, _ = process.communicate()
        acknowledged = [int(n) for n in out.split("\n")[:-1]]
        found = Journal(path).read()
        assert [r["i"] for r in found] == list(range(len(found)))
        assert len(found) >= (acknowledged or [0])[-1]
    assert len(found) > 0


def test_a_full_disk_leaves_no_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j"
    journal = Journal(path)
    journal.append({"i": 0})
    write = os.write
    room = [5]

    def full(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, bytes(data[: room[0]]))
        room[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageError) as caught:
            journal.append({"i": 1})
    one_sentence(caught.value, str(path), "No space left", "free some space")
    assert path.read_text() == '{"i": 0}\n'
    journal.append({"i": 2})
    journal.close()
    assert Journal(path).read() == [{"i": 0}, {"i": 2}]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_journal_on_a_full_device() -> None:
    journal = Journal(Path("/dev/full"))
    assert journal.read() == []
    with pytest.raises(StorageError, match="No space left"):
        journal.append({"i": 0})


@pytest.mark.parametrize("kind", ["folder", "fifo", "loop"])
def test_what_is_no_file_is_said_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "j"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    assert Journal(path).read() == []
    with pytest.raises(StorageError) as caught:
        Journal(path).append({"i": 0})
    one_sentence(caught.value, str(path))


def test_a_journal_syncs_about_once_a_second_and_on_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    journal = Journal(tmp_path / "j", clock=lambda: now[0])
    journal.append({})
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for _ in range(30):
        now[0] += 0.1
        journal.append({})
    assert 2 <= len(synced) <= 4
    journal.append({})
    before = len(synced)
    journal.close()
    assert len(synced) == before + 1


def test_a_journal_refuses_what_json_cannot_say(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        with pytest.raises(ValueError, match="JSON"):
            journal.append({"loss": float("nan")})
        journal.append({"loss": 1.0})
    assert Journal(tmp_path / "j").read() == [{"loss": 1.0}]


# --- run folder ------------------------------------------------------------------------------


def test_a_run_is_named_by_its_identity_and_writes_nothing_by_itself(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert run.path == tmp_path / "m" / "t" / f"quick-seed0-{run.key}"
    assert run.key == digest({"recipe": "quick", "seed": 0})[:12]
    assert not run.is_done("data", "k")
    assert run.status == "started"
    assert os.listdir(tmp_path) == []


def test_a_published_stage_is_done_for_the_next_process(tmp_path: Path) -> None:
    with (run := make_run(tmp_path)).lock():
        publish(run, "data", "k1", {"data/train.jsonl": "a\n", "data/test.jsonl": "b\n"})
        assert run.is_done("data", "k1")
        run.finish("done", {"tokens": 7, "loss": float("nan")})
    again = make_run(tmp_path)
    assert again.is_done("data", "k1")
    assert not again.is_done("data", "k2")
    assert not again.is_done("train", "k1")
    assert (again.status, again.manifest["facts"]) == ("done", {"tokens": 7, "loss": None})
    assert again.stage("data") == {
        "key": "k1",
        "files": {
            "data/test.jsonl": hashlib.sha256(b"b\n").hexdigest(),
            "data/train.jsonl": hashlib.sha256(b"a\n").hexdigest(),
        },
        "facts": {"n": 2},
        "seconds": 1.5,
    }


def test_a_folder_stands_for_its_files(tmp_path: Path) -> None:
    with (run := make_run(tmp_path)).lock():
        for name in ("a.json", "deep/b.bin"):
            write_atomic(run.path / "adapter" / name, name)
        run.publish("train", "k", [run.path / "adapter"])
        entry = run.stage("train")
        assert entry is not None
        assert list(entry["files"]) == ["adapter/a.json", "adapter/deep/b.bin"]


@pytest.mark.parametrize("how", ["flip", "truncate", "remove", "folder", "grow"])
def test_damage_is_found_told_once_and_costs_one_stage(tmp_path: Path, how: str) -> None:
    with (run := make_run(tmp_path)).lock():
        publish(run, "data", "k", {"data/test.jsonl": "0123456789"})
        publish(run, "train", "k", {"adapter/w": "weights"})
        run.finish("done")
    path = run.path / "data" / "test.jsonl"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    if how == "flip":  # of one bit, size and times as before
        path.write_bytes(b"0123456788")
        os.utime(path, ns=times)
    elif how == "truncate":
        path.write_bytes(b"01234")
    elif how == "grow":
        path.write_bytes(b"0123456789\n")
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
    notices: list[str] = []
    again = make_run(tmp_path, notices)
    assert not again.is_done("data", "k")  # a look without the lock
    with again.lock():
        assert not again.is_done("data", "k")
        assert again.is_done("train", "k")
    what = "is missing" if how == "remove" else "was changed or damaged"
    assert notices == [f"data/test.jsonl of {run.label} {what}; made again"]
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert (manifest["status"], list(manifest["stages"])) == ("started", ["train"])


def test_a_look_without_the_lock_changes_nothing(tmp_path: Path) -> None:
    with (run := make_run(tmp_path)).lock():
        publish(run, "data", "k", {"f": "x"})
    (run.path / "f").write_text("y")
    before = (run.path / "manifest.json").read_bytes()
    assert not make_run(tmp_path).is_done("data", "k")
    assert (run.path / "manifest.json").read_bytes() == before


def test_a_big_file_is_hashed_once_a_process_unless_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []

    def counting(path: Path) -> str:
        hashed.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(store, "_BIG_FILE", 1000)
    monkeypatch.setattr(store, "file_digest", counting)
    with (run := make_run(tmp_path)).lock():
        publish(run, "train", "k", {"big": "x" * 5000, "small": "x"})
        assert run.is_done("train", "k")
        assert run.is_done("train", "k")
        assert sorted(hashed) == ["big", "small", "small", "small"]
        (run.path / "big").write_text("x" * 4999 + "y")
        assert not run.is_done("train", "k")


def test_publishing_again_removes_what_is_no_longer_there(tmp_path: Path) -> None:
    with (run := make_run(tmp_path)).lock():
        publish(run, "scores", "k1", {"scores/a": "1", "scores/b": "2"})
        publish(run, "scores", "k2", {"scores/b": "3"})
        assert not run.is_done("scores", "k1")
        assert run.is_done("scores", "k2")
        assert os.listdir(run.path / "scores") == ["b"]


def test_a_file_has_one_owner(tmp_path: Path) -> None:
    with (run := make_run(tmp_path)).lock():
        publish(run, "score", "k", {"f": "1"})
        publish(run, "scores", "k", {"f": "2"})
        assert not run.is_done("score", "k")
        assert run.is_done("scores", "k")


def test_only_files_of_the_run_can_be_published(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("x")
    with (run := make_run(tmp_path)).lock():
        partial = run.stage_dir("data", "k") / "f"
        partial.write_text("x")
        for path in (tmp_path / "outside", Path("../x"), partial):
            write_atomic(run.path / path, "x")
            with pytest.raises(ValueError, match="no place"):
                run.publish("data", "k", [path])
        with pytest.raises(StorageError):
            run.publish("data", "k", [Path("missing")])
        assert run.stage("data") is None


def test_changes_need_the_lock(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for change in (
        lambda: run.publish("data", "k", []),
        lambda: run.adopt("data", "k"),
        lambda: run.stage_dir("data", "k"),
        lambda: run.finish("done"),
    ):
        with pytest.raises(RuntimeError, match="lock"):
            change()


run_steps = st.lists(
    st.tuples(
        st.sampled_from(["publish", "damage", "remove", "reopen", "finish", "tear"]),
        st.sampled_from(["data", "train", "score"]),
        st.integers(0, 2),
    ),
    max_size=10,
)


@quick
@given(steps=run_steps)
def test_a_stage_is_done_only_with_intact_files(steps: list[tuple[str, str, int]]) -> None:
    """Against a model: what was published under which key, and whether it is still intact."""
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), [])
        held = run.lock()
        held.__enter__()
        try:
            done: dict[str, str] = {}
            for step, name, number in steps:
                file = run.path / name / "f"
                if step == "publish":
                    publish(run, name, f"k{number}", {f"{name}/f": f"{name} {number}"})
                    done[name] = f"k{number}"
                elif step == "damage" and file.exists():
                    file.write_text(f"{name} !")
                    done.pop(name, None)
                elif step == "remove" and file.exists():
                    file.unlink()
                    done.pop(name, None)
                elif step == "finish":
                    run.finish("done")
                elif step in ("reopen", "tear"):
                    held.__exit__(None, None, None)
                    if step == "tear":
                        manifest = run.path / "manifest.json"
                        manifest.write_bytes(manifest.read_bytes()[: -2 - number * 40])
                        done = {}
                    run = make_run(Path(folder), [])
                    held = run.lock()
                    held.__enter__()
                for stage in ("data", "train", "score"):
                    for key in ("k0", "k1", "k2"):
                        assert run.is_done(stage, key) == (done.get(stage) == key)
                assert temporaries(run.path) == []
        finally:
            held.__exit__(None, None, None)


@pytest.mark.parametrize("call", ["fsync", "replace", "open", "write"])
def test_sigkill_at_any_call_leaves_each_stage_whole_or_not_done(tmp_path: Path, call: str) -> None:
    """Two stages and the end of a run, killed at the n-th system call, for every n."""
    real = getattr(os, call)

    def work(root: Path, kill_at: int) -> None:
        count = 0

        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(os, call, counted)
        with (run := make_run(root)).lock():
            for name in ("data", "train"):
                if not run.is_done(name, "k"):
                    publish(run, name, "k", {f"{name}/f": name * 1000})
            run.finish("done")

    for kill_at in range(1, 100):
        root = tmp_path / str(kill_at)
        status = in_child(lambda root=root, n=kill_at: work(root, n))  # type: ignore[misc]
        notices: list[str] = []
        run = make_run(root, notices)
        for name in ("data", "train"):
            if run.is_done(name, "k"):
                assert (run.path / name / "f").read_text() == name * 1000
        assert (run.status == "done") <= (run.is_done("data", "k") and run.is_done("train", "k"))
        assert in_child(lambda root=root: work(root, 0)) == 0  # type: ignore[misc]
        assert make_run(root, notices).status == "done"
        assert make_run(root).is_done("train", "k")
        assert temporaries(root) == []
        assert notices == []
        if status == 0:
            assert kill_at > 5  # the call was made, and killed, at least so often
            return
        assert status == -signal.SIGKILL
    pytest.fail("the work never ended undisturbed")


# --- the manifest, damaged -------------------------------------------------------------------

garbage: dict[str, Callable[[Path], object]] = {
    "empty": lambda p: p.write_bytes(b""),
    "binary": lambda p: p.write_bytes(bytes(range(256)) * 20),
    "nul": lambda p: p.write_bytes(b"\0" * 500),
    "deep": lambda p: p.write_bytes(b"[" * 100_000),
    "list": lambda p: p.write_bytes(b"[1, 2]"),
    "number": lambda p: p.write_bytes(b"NaN"),
    "wrong shape": lambda p: p.write_bytes(b'{"schema": 1, "status": 3, "stages": [{}]}'),
    "future": lambda p: p.write_bytes(b'{"schema": 999}'),
    "dangling link": lambda p: p.symlink_to(p.parent / "nowhere"),
    "loop": lambda p: p.symlink_to(p),
    "fifo": os.mkfifo,
    "folder": lambda p: p.mkdir(),
}


@pytest.mark.parametrize("kind", garbage)
def test_garbage_for_a_manifest_counts_as_none(tmp_path: Path, kind: str) -> None:
    with (run := make_run(tmp_path)).lock():
        publish(run, "data", "k", {"f": "x"})
    manifest = run.path / "manifest.json"
    manifest.unlink()
    garbage[kind](manifest)
    assert list_runs(tmp_path) == []
    with pytest.raises(UsageError) as unusable:
        RunFolder.open_existing(run.path, notice=lambda _: None)
    one_sentence(unusable.value, str(run.path))
    notices: list[str] = []
    again = make_run(tmp_path, notices)
    assert not again.is_done("data", "k")
    if kind == "folder":  # not ours to remove
        with pytest.raises(StorageError) as caught, again.lock():
            pass
        one_sentence(caught.value, str(manifest), "move what is in its place")
    else:
        with again.lock():
            publish(again, "data", "k", {"f": "x"})
        assert make_run(tmp_path, notices).is_done("data", "k")
    assert notices == [f"{manifest} is damaged and treated as absent; its stages are made again"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    with (run := make_run(tmp_path_factory.mktemp("runs"))).lock():
        publish(run, "data", "k", {"f": "x"})
        run.finish("done", {"loss": 1.25, "text": "größer"})
    return run


@settings(quick, max_examples=100)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_manifest_is_found(
    finished: RunFolder, position: float, bit: int
) -> None:
    path = finished.path / "manifest.json"
    whole = path.read_bytes()
    data = bytearray(whole)
    data[int(position * len(data))] ^= 1 << bit
    path.write_bytes(data)
    try:
        notices: list[str] = []
        again = make_run(finished.root, notices)
        if again.manifest != finished.manifest:
            assert not again.is_done("data", "k")
            assert again.status == "started"
            assert len(notices) == 1
    finally:
        path.write_bytes(whole)


def test_a_manifest_of_another_run_is_not_used(tmp_path: Path) -> None:
    with (other := make_run(tmp_path, seed=1)).lock():
        publish(other, "data", "k", {"f": "x"})
    run = make_run(tmp_path)
    for name in ("manifest.json", "f"):
        write_atomic(run.path / name, (other.path / name).read_bytes())
    notices: list[str] = []
    assert not make_run(tmp_path, notices).is_done("data", "k")
    assert notices == [f"{run.path / 'manifest.json'} belongs to another run; not used"]


def test_listing_passes_over_garbage(tmp_path: Path) -> None:
    for seed in (1, 0):
        with make_run(tmp_path, seed=seed).lock():
            pass
    (tmp_path / "file").write_text("x")
    (tmp_path / "m" / "t" / "empty").mkdir()
    (tmp_path / "m" / "t" / "file").write_text("x")
    (tmp_path / "m" / "loop").symlink_to("loop")
    for number, make in enumerate(garbage.values()):
        folder = tmp_path / "g" / "t" / str(number)
        folder.mkdir(parents=True)
        make(folder / "manifest.json")
    runs = list_runs(tmp_path)
    assert [(r["model"], r["task"], r["seed"], r["status"]) for r in runs] == [
        ("m", "t", 0, "started"),
        ("m", "t", 1, "started"),
    ]
    assert [Path(r["path"]) for r in runs] == [
        make_run(tmp_path).path,
        make_run(tmp_path, seed=1).path,
    ]
    assert list_runs(tmp_path / "nowhere") == []
    assert list_runs(tmp_path / "file") == []


def test_a_run_can_be_read_where_it_was_moved_to(tmp_path: Path) -> None:
    with (run := make_run(tmp_path / "runs")).lock():
        publish(run, "data", "k", {"data/f": "x"})
    moved = tmp_path / "kept"
    run.path.rename(moved)
    found = RunFolder.open_existing(moved)
    assert (found.model, found.task, found.recipe, found.seed) == ("m", "t", "quick", 0)
    assert (found.key, found.identity) == (run.key, run.identity)
    assert found.is_done("data", "k")
    (moved / "data" / "f").write_text("y")
    assert not found.is_done("data", "k")


# --- sibling runs, partial work --------------------------------------------------------------


def test_equal_work_of_a_sibling_is_copied(tmp_path: Path) -> None:
    with (sibling := make_run(tmp_path, seed=0)).lock():
        publish(sibling, "data", "k", {"data/a": "x", "data/b": "y"})
    with (run := make_run(tmp_path, seed=1)).lock():
        assert not run.adopt("data", "other key")
        assert not run.adopt("train", "k")
        assert run.adopt("data", "k")
        (sibling.path / "data" / "a").write_text("damage stays where it is")
        assert run.is_done("data", "k")
        entry = run.stage("data")
        assert entry is not None
        assert (entry["facts"], entry["seconds"]) == ({"n": 2}, 1.5)
        assert entry["adopted_from"] == sibling.path.name
    assert make_run(tmp_path, seed=1).is_done("data", "k")


def test_a_damaged_sibling_is_passed_over_for_an_intact_one(tmp_path: Path) -> None:
    for seed in (0, 1):
        with (sibling := make_run(tmp_path, seed=seed)).lock():
            publish(sibling, "data", "k", {"data/a": "x", "data/b": "y"})
    folders = sorted(path.parent for path in tmp_path.glob("*/*/*/manifest.json"))
    (folders[0] / "data" / "b").write_text("damaged")
    with (run := make_run(tmp_path, seed=2)).lock():
        assert run.adopt("data", "k")
        assert (run.path / "data" / "b").read_text() == "y"
        (folders[1] / "data" / "b").unlink()
    with (late := make_run(tmp_path, seed=3, recipe="a")).lock():
        assert late.adopt("data", "k")  # from the one that adopted it
        entry = late.stage("data")
        assert entry is not None
        assert entry["adopted_from"] == run.path.name


def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with (evil := make_run(tmp_path)).lock():
        publish(evil, "data", "k", {"f": "x"})
    content = json.loads((evil.path / "manifest.json").read_text())
    for name in ("../../../secret", str(tmp_path / "secret")):
        content["stages"]["data"]["files"] = {name: hashlib.sha256(b"x").hexdigest()}
        del content["digest"]
        content["digest"] = digest(content)
        write_json(evil.path / "manifest.json", content)
        with (run := make_run(tmp_path, seed=1)).lock():
            assert not run.adopt("data", "k")


def test_partial_work_outlives_the_process_but_not_its_key(tmp_path: Path) -> None:
    with (run := make_run(tmp_path)).lock(), Journal(run.stage_dir("g", "key1") / "j") as journal:
        journal.append({"i": 0})
    with (run := make_run(tmp_path)).lock():
        assert Journal(run.stage_dir("g", "key1") / "j").read() == [{"i": 0}]
        other = run.stage_dir("g-2", "key1")
        assert Journal(run.stage_dir("g", "key2") / "j").read() == []
        assert Journal(run.stage_dir("g", "key1") / "j").read() == []
        assert other.is_dir()
        publish(run, "g", "key1", {"g.jsonl": "x"})
        assert not (run.path / "tmp" / "g").exists()
        assert other.is_dir()
        run.finish("failed")
        assert other.is_dir()
        run.finish("done")
        assert not (run.path / "tmp").exists()


# --- lock ------------------------------------------------------------------------------------

HOLD = """
    import sys, time
    from pathlib import Path
    from harness.store import RunFolder
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
    assert time.monotonic() - begun < 2
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
        from harness.store import RunFolder
        run = RunFolder(Path(sys.argv[1]), "m", "t", "quick", 0, {"recipe": "quick", "seed": 0})
        with run.lock():
            worker = os.fork()
            if worker == 0:
                time.sleep(30)
                os._exit(0)
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
