"""A run's folder keeps its word under kills, torn writes, damage and garbage."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import StorageError, UsageError
from harness.host import files
from harness.host.files import digest, file_digest, write_atomic, write_json
from harness.runs.journal import Journal
from harness.runs.store import RunFolder, list_runs
from tests.support.storing import make_run, one_sentence, publish, quick, temporaries


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

    monkeypatch.setattr(files, "_BIG_FILE", 1000)
    monkeypatch.setattr(files, "file_digest", counting)
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


@pytest.mark.parametrize(
    "call",
    ["replace", "write", *(pytest.param(c, marks=pytest.mark.slow) for c in ("fsync", "open"))],
)
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
