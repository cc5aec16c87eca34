"""Tables are published together: all or none, whatever happens, each command's in its folder."""

from __future__ import annotations

import calendar
import csv
import errno
import io
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness.errors import BusyError, StorageError, UsageError
from harness.host import exchange
from harness.pipeline import publishing
from harness.pipeline.listing import age, runs_table
from harness.pipeline.naming import asked, checked, name_of
from harness.pipeline.options import Options
from harness.pipeline.publishing import CURVES, FILES, Published, Tables, publish, refuse, tidy
from tests.support.commands import (
    Commands,
    Fault,
    manifest,
    run_folders,
    tables,
)


def made(
    mark: str, name: str = "mine", *, size: int = 4, ask: str = "a", complete: bool = True
) -> Tables:
    """Tables whose every file says `mark`, of one run that compares `size` prompts."""
    stages = {"compare": {"facts": {"prompts": size}}, "train": {"facts": {"steps": size}}}
    manifests = [{"mark": mark, "stages": stages}]
    texts = {**dict.fromkeys(FILES, mark), FILES[3]: json.dumps(manifests)}
    texts[f"{CURVES}/{mark}.svg"] = mark
    files = {path: text.encode() for path, text in texts.items()}
    return Tables(name, ask, "the command", files, manifests, complete)


def put(tables: Tables, results: Path, said: list[str] | None = None) -> Published:
    return publish(tables, results, (said if said is not None else []).append)


def marks(folder: Path) -> set[str]:
    """What the files in a folder of tables say; each must be there."""
    found = {(folder / name).read_text() for name in FILES[:3]}
    found.add(json.loads((folder / FILES[3]).read_text())[0]["mark"])
    return found | {file.read_text() for file in (folder / CURVES).iterdir()}


def leftovers(results: Path) -> list[str]:
    return [p.name for p in results.iterdir() if p.name.startswith((".tmp-", ".replaced-"))]


def in_child(work: Callable[[], object]) -> int:
    """The exit status of a forked process that does `work`; negative for a signal."""
    if (pid := os.fork()) == 0:
        status = 70
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def at_name(count: int, strike: Callable[[], object], at_once: bool) -> list[int]:
    """Have `strike` happen before the `count`-th time that anything gets or changes its name; the
    number of those times so far. at_once: whether the system can exchange two names."""
    times = [0]

    def patch(module: Any, name: str) -> None:
        plain = getattr(module, name)

        def patched(*arguments: Any, **options: Any) -> Any:
            times[0] += 1
            if times[0] == count:
                strike()
            return plain(*arguments, **options)

        setattr(module, name, patched)

    for name in ("replace", "rename", "symlink"):
        patch(os, name)
    if at_once:
        patch(exchange, "exchange")
    else:
        exchange.exchange = lambda one, other: False  # type: ignore[assignment]
    return times


def before(results: Path, start: str) -> None:
    """What stands there before the command."""
    if start == "over":
        put(made("old"), results)
    elif start == "other":
        put(made("old", "other"), results)
    elif start == "earlier":  # as an earlier version left them: no folder, no links
        for path, payload in made("old").files.items():
            (results / path).parent.mkdir(parents=True, exist_ok=True)
            (results / path).write_bytes(payload)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.parametrize(
    ("start", "at_once"),
    [
        ("fresh", True),
        ("over", False),
        *(pytest.param(s, True, marks=pytest.mark.slow) for s in ("other", "earlier", "over")),
    ],
)
def test_killed_at_every_name_the_tables_are_the_old_or_the_new(
    start: str, at_once: bool, tmp_path: Path
) -> None:
    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    counted = tmp_path / "counted"
    before(counted, start)

    def count() -> None:
        times = at_name(0, kill, at_once)
        put(made("new"), counted)
        (tmp_path / "times").write_text(str(times[0]))

    assert in_child(count) == 0
    total = int((tmp_path / "times").read_text())
    assert total >= 8
    for at in range(1, total + 1):
        results = tmp_path / str(at)
        before(results, start)

        def struck(results: Path = results, at: int = at) -> None:
            at_name(at, kill, at_once)
            put(made("new"), results)

        assert in_child(struck) == -signal.SIGKILL, at
        if not at_once:
            tidy(results)  # two renames: the next command puts right what a kill between them left
        if (results / "mine").exists():
            (mark,) = marks(results / "mine")
            assert mark == "new" or (mark == "old" and start == "over"), at
        if start != "fresh":  # the usual paths, at every moment
            (mark,) = {(results / name).read_text() for name in FILES[:3]}
            assert mark in ("old", "new")
        if start == "other":
            assert marks(results / "other") == {"old"}
        put(made("new"), results)
        assert marks(results / "mine") == marks(results) == {"new"}, at
        assert os.readlink(results / "latest") == "mine"
        assert leftovers(results) == []
        if start == "earlier":
            assert marks(results / "earlier") == {"old"}


@pytest.mark.parametrize("at_once", [True, False])
def test_a_full_disk_at_every_name_leaves_one_of_both(at_once: bool, tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def work(results: Path, at: int) -> None:
        times = at_name(at, full, at_once)
        try:
            put(made("new"), results)
        except StorageError as error:
            os._exit(1 if "No space left" in str(error) else 71)
        assert times[0] < at or leftovers(results) == []  # only a removal was refused

    for at in range(1, 20):
        results = tmp_path / str(at)
        before(results, "over")
        status = in_child(lambda results=results, at=at: work(results, at))
        assert status in (0, 1), at
        (mark,) = marks(results / "mine")
        assert marks(results) == {mark}
        assert leftovers(results) == [], at
        assert mark == "new" if status == 0 else mark in ("old", "new")
        if at == 2:
            assert (status, mark) == (1, "old")


def test_incomplete_tables_leave_the_last_good_ones(tmp_path: Path) -> None:
    first = put(made("bad", complete=False), tmp_path)
    assert (first.folder, first.latest, first.last) == (tmp_path / "mine.incomplete", True, None)
    assert marks(tmp_path) == {"bad"}  # better than nothing
    good = put(made("good"), tmp_path)
    assert (good.folder, good.latest) == (tmp_path / "mine", True)
    assert not (tmp_path / "mine.incomplete").exists()
    for name, last in (("mine", "mine"), ("other", "mine")):
        failed = put(made("worse", name, complete=False), tmp_path)
        assert (failed.latest, failed.last) == (False, tmp_path / last)
        assert marks(tmp_path) == marks(tmp_path / "mine") == {"good"}
        assert marks(tmp_path / f"{name}.incomplete") == {"worse"}
        assert f"the last complete tables stand in {tmp_path / last}" in failed.text()
        assert f"report: {tmp_path / name}.incomplete/comparison.md" in failed.text()


def test_a_smaller_run_of_another_command_is_refused(tmp_path: Path) -> None:
    put(made("large", size=10), tmp_path)
    with pytest.raises(UsageError, match=r"a larger run, 10 answers to compare, and this .* has 9"):
        put(made("small", size=9, ask="b"), tmp_path)
    with pytest.raises(UsageError, match="10 training steps"):
        refuse(tmp_path, "mine", "b", None, 3)
    assert marks(tmp_path / "mine") == {"large"}
    assert leftovers(tmp_path) == []
    refuse(tmp_path, "mine", "b", None, None)  # not known yet
    put(made("as many", size=10, ask="b"), tmp_path)
    put(made("fewer by the same", size=3, ask="b"), tmp_path)
    assert marks(tmp_path) == {"fewer by the same"}
    (tmp_path / "mine" / "command.json").unlink()  # what they were asked for is not known
    with pytest.raises(UsageError, match="larger run"):
        put(made("small", size=2, ask="b"), tmp_path)


def test_what_is_the_users_own_stays(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="no folder of tables"):
        put(made("x", "notes"), tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="no folder of tables"):
        put(made("x", "file"), tmp_path)
    put(made("old"), tmp_path)
    (tmp_path / "mine" / "plots").mkdir()
    (tmp_path / "mine" / "plots" / "a.png").write_text("plot")
    (tmp_path / "mine" / "why.txt").write_text("because")
    put(made("new"), tmp_path)
    assert (tmp_path / "mine" / "plots" / "a.png").read_text() == "plot"
    assert (tmp_path / "mine" / "why.txt").read_text() == "because"
    assert not (tmp_path / "mine" / CURVES / "old.svg").exists()
    # A file in the place of a link is moved, not lost, and not by every command anew.
    (tmp_path / "comparison.csv").unlink()
    (tmp_path / "comparison.csv").write_text("my own")
    said: list[str] = []
    put(made("newer"), tmp_path, said)
    put(made("newest"), tmp_path, said)
    assert (tmp_path / "earlier" / "comparison.csv").read_text() == "my own"
    assert len(said) == 1
    assert marks(tmp_path) == {"newest"}
    assert (tmp_path / "notes" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("obstacle", ["links", "folder"])
def test_without_links_the_usual_paths_are_copies(
    obstacle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "not here")

    if obstacle == "links":
        monkeypatch.setattr(os, "symlink", refused)
    else:
        (tmp_path / "latest").mkdir()
    assert put(made("one"), tmp_path).latest
    assert put(made("two", "other"), tmp_path).latest
    assert {(tmp_path / name).read_text() for name in FILES[:3]} == {"two"}
    assert (tmp_path / CURVES / "two.svg").read_text() == "two"
    assert not (tmp_path / "comparison.md").is_symlink()
    assert not put(made("bad", "other", complete=False), tmp_path).latest
    assert {(tmp_path / name).read_text() for name in FILES[:3]} == {"two"}


def test_writers_exclude_one_another(tmp_path: Path) -> None:
    names = [f"command{number}" for number in range(5)]
    children = []
    for name in names:
        if (pid := os.fork()) == 0:
            status = 70
            try:
                for _ in range(3):
                    put(made(name, name), tmp_path)
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    assert {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children} == {0}
    assert {name: marks(tmp_path / name) for name in names} == {name: {name} for name in names}
    (mark,) = marks(tmp_path)
    assert mark in names
    assert leftovers(tmp_path) == []


def test_a_writer_that_does_not_let_go_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(made("old"), tmp_path)
    monkeypatch.setattr(publishing, "PATIENCE", 0.1)
    with FileLock(tmp_path / ".lock"):
        holder = {"pid": 4711, "host": "elsewhere", "since": "noon"}
        (tmp_path / ".lock.json").write_text(json.dumps(holder))
        named = "process 4711 on elsewhere since noon; the runs are kept"
        with pytest.raises(BusyError, match=named):
            put(made("new"), tmp_path)
    assert BusyError.exit_status == 2
    assert marks(tmp_path) == {"old"}
    put(made("new"), tmp_path)
    assert marks(tmp_path) == {"new"}


def setting(field: str, value: Any, *, kind: str = "recipe", **options: Any) -> Options:
    return Options(overrides={f"{kind}.{field}": value}, **options)


def test_every_command_has_a_name_of_its_own() -> None:
    assert asked(Options()) == "default"
    assert asked(Options(limit=8)) == "gemma3-270m-limit8"
    assert asked(Options(models=("falcon7b", "llama2-7b"))) == "falcon7b+llama2-7b"
    one = Options(
        *(("falcon7b",), ("html_alpaca",), "quick", (0, 1), 8),
        overrides={
            "recipe.precision": "bf16",
            "recipe.quantization": "nf4",
            "recipe.num_train_epochs": 0.5,
            "recipe.max_steps": 20,
        },
        results=Path("elsewhere"),
        max_memory=2**34,
    )
    name = "falcon7b@html_alpaca,quick-seeds0+1-limit8-steps20-epochs0.5-nf4-bf16"
    assert asked(one) == f"{name[:57]}-{asked(one)[-6:]}"
    assert len(asked(one)) == 64
    different = [
        Options(),
        Options(limit=8),
        setting("max_steps", 8),
        Options(seeds=(8,)),
        Options(seeds=(0, 8)),
        setting("num_train_epochs", 8.0),
        setting("num_train_epochs", 8.00000001),
        setting("quantization", "none"),
        setting("quantization", "auto"),
        setting("precision", "auto"),
        setting("lora.r", 8),
        setting("lora.r", 16),
        setting("lora.lora_alpha", 8.0),
        setting("lora.target_modules", "q_proj"),
        setting("lora.target_modules", ["q_proj"]),
        setting("lora.target_modules", ["q_proj", "v_proj"]),
        setting("template", "a/{}", kind="task"),
        setting("template", "b/{}", kind="task"),
        setting("description", "a"),
        setting("description", "a", kind="task"),
        Options(overrides={"recipe.lora.r": 8, "recipe.packing": True}),
        Options(tasks=("words",)),
        Options(recipe="words"),
        Options(models=("gemma3-270m", "words")),
        Options(models=("gemma3-270m-limit8",)),
        Options(models=("default",)),
        Options(models=("latest",)),
        Options(models=("a", "b")),
        Options(models=("a",), tasks=("b",)),
        Options(models=("a",), recipe="b"),
        Options(models=("a-int8",)),
        setting("quantization", "int8", models=("a",)),
        Options(models=("m" * 64,), limit=1),
        Options(models=("m" * 64,), limit=2),
        Options(data={"html_blocks": "a"}),
        Options(data={"html_blocks": "b"}),
        Options(weights={"gemma3-270m": "a"}),
        Options(registry=Path("a")),
    ]
    names = [name_of(options) for options in different]
    assert len(set(names)) == len(names), names
    assert max(map(len, names)) <= 64
    assert not {"latest", "bench"} & set(names)
    assert all("/" not in name for name in names)
    given = {"recipe.lora.lora_alpha": 8, "recipe.packing": True}
    same = {"recipe.packing": True, "recipe.lora.lora_alpha": 8.0}
    assert asked(Options(overrides=given)) == asked(Options(overrides=same))
    assert asked(Options(overrides=given)).startswith("gemma3-270m-lora.lora_alpha8-packingtrue-")


@pytest.mark.parametrize(
    "name",
    [
        *("", "a/b", "..", "A", "con", "x" * 65, "latest", "bench", "scores", "compare", "curves"),
        *(
            "earlier",
            "earlier-2",
            "comparison.md",
            "command.json",
            "x.incomplete",
            ".tmp-x",
            "a\nb",
        ),
    ],
)
def test_a_name_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError, match=r"^--name [^\n]*\.$"):
        checked(name)
    assert checked("my-run.2") == "my-run.2"


# --- commands --------------------------------------------------------------------------------


def test_a_failing_run_leaves_the_last_good_tables(
    commands: Commands, scripted: list[str], tmp_path: Path
) -> None:
    first = commands.run(tmp_path, *scripted)
    assert first.status == 0, first.output
    good = tables(tmp_path)
    folder = os.readlink(tmp_path / "results" / "latest")
    assert first.stdout.splitlines()[-3] == f"written: results/{folder}"
    (run,) = run_folders(tmp_path)
    for file in (run / "generations").iterdir():
        file.unlink()
    broken = Fault("call", "harness.stages.collect:write_jsonl", action="ENOSPC")
    failed = commands.run(tmp_path, *scripted, fault=broken)
    assert failed.status == 1
    assert tables(tmp_path) == good
    assert f"written: results/{folder}.incomplete (incomplete: " in failed.stdout
    assert failed.stdout.splitlines()[-1].endswith(f"complete tables stand in results/{folder}")
    text = (tmp_path / "results" / f"{folder}.incomplete" / "comparison.md").read_text("utf-8")
    assert "**Failed**: OSError in scripted on words" in text
    assert manifest(run)["status"] == "failed"
    (line,) = commands.run(tmp_path, "list", "runs").stdout.splitlines()[1:]
    assert line.split()[1:3] == ["failed", "all"]
    refused = commands.run(tmp_path, "report", run)
    assert (refused.status, refused.stdout) == (2, "")
    assert f"scripted/words/{run.name} is failed, not done" in refused.stderr
    assert commands.run(tmp_path, *scripted).status == 0
    assert tables(tmp_path) == good
    assert not (tmp_path / "results" / f"{folder}.incomplete").exists()


def test_a_smaller_run_is_refused_before_any_work(
    commands: Commands, scripted: list[str], tmp_path: Path
) -> None:
    plan = commands.run(tmp_path, *scripted, "--name", "mine", "--dry-run")
    assert plan.stdout.splitlines()[-1] == "tables: results/mine"
    assert commands.run(tmp_path, *scripted, "--name", "mine").status == 0
    large = tables(tmp_path)
    for more in ([], ["--dry-run"]):
        small = commands.run(tmp_path, *scripted, "--name", "mine", "--limit", 3, *more)
        assert (small.status, small.stages) == (2, ())
        assert "results/mine' holds the tables of a larger run, 6 answers" in small.stderr
    assert commands.run(tmp_path, *scripted, "--name", "a/b").status == 2
    assert tables(tmp_path) == large
    assert len(run_folders(tmp_path)) == 1
    # Without the name they go to a folder of their own, and may be the latest.
    assert commands.run(tmp_path, *scripted, "--limit", 3).status == 0
    assert len(tables(tmp_path)["predictions.csv"]) < len(large["predictions.csv"])
    mine = (tmp_path / "results" / "mine" / "predictions.csv").read_bytes().decode()
    assert mine == large["predictions.csv"]


def test_a_report_joins_finished_runs(
    commands: Commands, scripted: list[str], tmp_path: Path
) -> None:
    assert commands.run(tmp_path, *scripted, "--seeds", 0, 1).status == 0
    joint = tables(tmp_path)
    folders = run_folders(tmp_path)
    assert commands.run(tmp_path, *scripted, "--limit", 3).status == 0
    (small,) = set(run_folders(tmp_path)) - set(folders)
    os.rename(tmp_path / "registry", tmp_path / "gone")  # nothing but the runs is read
    report = commands.run(tmp_path, "report", *folders, folders[0], "--name", "both")
    assert report.status == 0, report.output
    assert "is given twice; it is taken once" in report.stderr
    assert not {"torch", "transformers", "datasets"} & report.imported
    assert report.stdout.splitlines()[-3] == "written: results/both"
    found = tables(tmp_path)
    for name in ("comparison.csv", "predictions.csv"):
        assert found[name] == joint[name]  # the row of all seeds with them

    report = commands.run(tmp_path, "report", *folders, small)
    assert report.status == 0, report.output
    assert "seeds 0, 1, 0: not combined, for the runs differ in limit, prompts" in report.stderr
    found = tables(tmp_path)
    rows = csv.DictReader(io.StringIO(found["comparison.csv"].removeprefix("\ufeff")))
    sizes = {(row["seed"], row["run"], row["n"]) for row in rows if row["metric"] == "exact_match"}
    assert sizes == {(str(at), folders[at].name, "6") for at in (0, 1)} | {("0", small.name, "3")}
    assert f"tiny, seed 0, run {small.name[-12:]}: Tuned is" in found["comparison.md"]
    assert found["predictions.csv"].splitlines()[0].endswith(",run")
    assert len(json.loads((tmp_path / "results" / "manifests.json").read_text())) == 3


def test_the_list_of_runs_says_where_each_stands(
    commands: Commands, scripted: list[str], tmp_path: Path
) -> None:
    kill = Fault("append", "generate-base", count=2)
    assert commands.run(tmp_path, *scripted, "--seeds", 7, fault=kill).status == -signal.SIGKILL
    assert commands.run(tmp_path, *scripted, "--limit", 3).status == 0
    runs = tmp_path / "runs"
    done, killed = run_folders(tmp_path)
    damaged = runs / "scripted" / "words" / "tiny-seed9-0"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{")
    told = manifest(done)
    path = "%Y-%m-%dT%H:%M:%SZ"
    now = calendar.timegm(time.strptime(told["finished"], path)) + 3 * 3600 + 5
    title, *lines = runs_table(runs, None, now).splitlines()
    assert title.split() == [
        *("run", "status", "limit", "age"),
        *("exact_match", "rougeL", "html_valid", "cross_entropy"),
    ]
    assert [line.split()[:4] for line in lines] == [
        [str(done), "done", "3", "3"],
        [str(killed), "interrupted", "all", "3"],
        [str(damaged), "damaged", "–", "–"],
    ]
    assert "  3 h  0.000 → 1.000  " in lines[0]
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": "noon"}
    (killed / ".lock.json").write_text(json.dumps(holder))
    assert runs_table(runs, None, now).splitlines()[2].split()[1] == "running"
    narrow = runs_table(runs, 40, now).splitlines()
    assert narrow[0].split() == ["run", "status"]
    assert max(map(len, narrow)) <= 40
    assert [age(s) for s in (-5, 59, 60, 7199, 86400 * 3)] == ["0 s", "59 s", "1 min", "1 h", "3 d"]
