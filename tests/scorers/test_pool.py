"""Scoring in worker processes: the same numbers as without, whatever a sample does to them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HarnessError, Interrupted, MissingError, UsageError
from harness.host import signals
from harness.records import Assertion, Sample, Scored
from harness.scorers import get, merged, score_all
from harness.scorers.workers import pool
from harness.scorers.workers.pool import score_in_workers
from tests.support.misbehaving import Elsewhere, Misbehaving, chosen

ROOT = Path(__file__).parents[2]
CHEAP = ["exact_match", "rouge", "answers", "validity", "assertions", "rougeL_markup"]


def sample(prediction: str, number: int = 0, reference: str = "<p>b</p>") -> Sample:
    return Sample(str(number), "", reference, prediction)


def samples(*predictions: str) -> list[Sample]:
    return [sample(text, number) for number, text in enumerate(predictions)]


def children() -> set[int]:
    """The processes that this one has started and not yet taken leave of."""
    task = Path("/proc/self/task")
    if not task.is_dir():
        pytest.skip("no /proc here to see processes in")
    found = [int(p) for thread in task.iterdir() for p in (thread / "children").read_text().split()]
    return set(found)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No test leaves a process, a zombie, a thread or an open file."""
    files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    threads, processes = threading.active_count(), children()
    yield
    assert children() == processes
    assert threading.active_count() == threads
    assert not files or len(os.listdir("/proc/self/fd")) == files


@pytest.mark.parametrize("workers", [1, 3])
def test_numbers_notes_and_details_are_those_of_one_process(workers: int) -> None:
    draw = random.Random(workers)
    words = [
        "<p>",
        "</p>",
        "<div class=a>",
        "b",
        " ",
        "é",
        "\0",
        "\ud800",
        "<",
        "```html\n",
        "&#x;",
    ]
    rows = [
        Sample(
            str(n),
            "say",
            "<p>b</p><div class=a>é</div>",
            "".join(draw.choices(words, k=draw.randrange(30))),
            (Assertion("p"),) if n % 2 else (),
            draw.choice(["stop", "length", None]),
        )
        for n in range(70)
    ]
    scorers = get(CHEAP, "extracted")
    done: list[int] = []
    found = score_in_workers(rows, scorers, done.append, workers)
    assert found == [merged(one.score(row) for one in scorers) for row in rows]
    assert [list(one.scores) for one in found] == [list(found[0].scores)] * len(rows)
    assert any(one.details for one in found)
    assert done == list(range(1, 71))


def test_no_samples_start_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert score_all([], get(["rouge"])) == []
    assert score_all([sample("a")], []) == [Scored({}, {})]


@pytest.mark.parametrize("word", ["sleep", "spin", "hog"])
def test_a_sample_that_takes_too_long_is_stopped_and_the_rest_goes_on(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SECONDS", 0.5)
    scorers = [chosen(Misbehaving(name)) for name in ("a", "b", "c", "d")]
    rows = score_in_workers(samples("xx", f"{word} b", "yyy"), scorers, workers=1)
    assert rows[0].scores == dict.fromkeys("abcd", 2.0)
    assert rows[1] == Scored(
        {"a": float(len(word) + 2), "b": None, "c": None, "d": None},
        {
            "b": "stopped after 0.5 s in b",
            "c": "not reached: stopped after 0.5 s in b",
            "d": "not reached: stopped after 0.5 s in b",
        },
    )
    assert rows[2].scores == dict.fromkeys("abcd", 3.0)
    assert not rows[2].notes


@pytest.mark.parametrize("word", ["exit", "kill"])
def test_a_sample_that_ends_its_process_is_named_and_the_rest_goes_on(word: str) -> None:
    scorers = [chosen(Misbehaving(name)) for name in ("a", "b", "c")]
    rows = score_in_workers(samples("x", f"{word} b", "y", f"{word} c", "z"), scorers, workers=1)
    assert rows[1].scores == {"a": 6.0, "b": None, "c": None}
    assert rows[1].notes == {
        "b": "its process died in b",
        "c": "not reached: its process died in b",
    }
    assert rows[3].scores == {"a": 6.0, "b": 6.0, "c": None}
    assert rows[3].notes == {"c": "its process died in c"}
    assert [rows[n].scores["c"] for n in (0, 2, 4)] == [1.0, 1.0, 1.0]


def test_parts_too_large_to_be_rescued_are_lost_only_when_the_process_dies() -> None:
    scorers = [chosen(Misbehaving(name)) for name in ("a", "bulky", "c", "d")]
    whole, broken = score_in_workers(samples("x", "exit d"), scorers)
    assert (set(whole.scores.values()), whole.notes) == ({1.0}, {})
    assert len(whole.details["bulky"]) == 300_000
    assert broken.scores == {"a": 6.0, "bulky": None, "c": None, "d": None}
    assert broken.notes == {
        "bulky": "lost: its process died in d",
        "c": "lost: its process died in d",
        "d": "its process died in d",
    }


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("raise", "ValueError"),
        ("memory", "MemoryError"),
        ("deep", "RecursionError"),
        ("quit", "SystemExit"),
    ],
)
def test_a_scorer_that_raises_costs_its_own_metrics_only(word: str, kind: str) -> None:
    scorers = [chosen(Misbehaving("a")), chosen(Misbehaving("b")), *get(["answers"])]
    rows = score_in_workers(samples("x", f"{word} a", "y"), scorers)
    assert rows[1].notes == {"a": f"scorer failed: {kind}"}
    assert rows[1].scores["b"] == len(word) + 2
    assert rows[1].scores["empty"] == 0.0
    assert not rows[0].notes
    assert not rows[2].notes


@pytest.mark.parametrize(("word", "kind"), [("usage", UsageError), ("missing", MissingError)])
@pytest.mark.parametrize("made", [Misbehaving, Elsewhere])
def test_a_fault_of_the_task_is_raised_here(
    word: str, kind: type[UsageError], made: type[Misbehaving]
) -> None:
    with pytest.raises(kind, match=r"^(the task is at fault|something is missing)\.$"):
        score_in_workers(samples("x", word), [chosen(made())])


def test_what_libraries_print_reaches_neither_the_frames_nor_the_user(
    capfd: pytest.CaptureFixture[str],
) -> None:
    rows = score_in_workers(samples("print", "print"), [chosen(Misbehaving())])
    assert [row.scores["misbehaves"] for row in rows] == [5.0, 5.0]
    assert capfd.readouterr() == ("", "")


def test_scorers_that_are_not_for_workers_run_here_in_their_place() -> None:
    scorers = [chosen(Misbehaving("a")), chosen(Elsewhere("b")), chosen(Misbehaving("c"))]
    rows = score_in_workers(samples("x", "exit a"), scorers)
    assert [list(row.scores) for row in rows] == [["a", "b", "c"]] * 2
    assert rows[0].scores == dict.fromkeys("abc", 1.0)
    assert rows[1].scores == {"a": None, "b": 6.0, "c": None}
    done: list[int] = []
    (row,) = score_in_workers(samples("raise"), [chosen(Elsewhere("b"))], done.append)
    assert row == Scored({"b": None}, {"b": "scorer failed: ValueError"})
    assert done == [1]


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("exit", "no scoring process can be started: exit status 0"),
        ("raise", "the scorers cannot be loaded: ValueError: told so"),
        ("missing", "something is missing."),
    ],
)
def test_workers_that_cannot_start_are_one_sentence_and_no_loop(
    start: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISBEHAVING_PARENT", str(os.getpid()))
    with pytest.raises(HarnessError) as error:
        score_in_workers(samples("x"), [chosen(Misbehaving(start=start))])
    assert str(error.value) == words


def test_an_interpreter_that_does_not_start_is_told_by_its_last_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "harness.scorers.workers.process._START", "raise ImportError('no such thing')"
    )
    with pytest.raises(HarnessError, match=r"started: ImportError: no such thing$"):
        score_in_workers(samples("x"), [chosen(Misbehaving())])


@pytest.mark.parametrize("word", ["x", "sleep", "hog"])
def test_an_interruption_ends_all_workers_at_once(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SECONDS", 60.0)  # no sample is stopped for its own time
    timer = threading.Timer(0.6, os.kill, (os.getpid(), signal.SIGTERM))
    rows, scorers = samples(*[word] * 100), [chosen(Misbehaving())]

    def score() -> None:
        with signals.handling():
            timer.start()
            while True:
                score_in_workers(rows, scorers, workers=2)

    begin = time.monotonic()
    with pytest.raises(Interrupted):
        score()
    timer.join()
    assert time.monotonic() - begin < 12  # workers end by themselves, but only after 15 s


def test_an_error_of_progress_ends_all_workers() -> None:
    def fail(done: int) -> None:
        raise OSError("no terminal")

    with pytest.raises(OSError, match="no terminal"):
        score_in_workers(samples("x", "sleep"), [chosen(Misbehaving())], fail)


@pytest.mark.parametrize("word", ["sleep", "spin"])
def test_workers_do_not_outlive_a_killed_parent(word: str) -> None:
    code = f"""
from tests.support.misbehaving import *
from harness.scorers.workers.pool import score_in_workers
score_in_workers([Sample("", "", "", "{word}")], [chosen(Misbehaving())])
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as parent:
        children_file = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        if not children_file.exists():
            parent.kill()
            pytest.skip("no /proc here to see processes in")
        workers: list[int] = []
        while not workers and parent.poll() is None:
            workers = [int(pid) for pid in children_file.read_text().split()]
            time.sleep(0.01)
        time.sleep(0.5)
        parent.kill()
    (worker,) = workers
    end = time.monotonic() + 10  # a worker ends by itself, but only after 15 s
    while _alive(worker) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _alive(worker)


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_worker_imports_no_torch_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = "import sys; assert 'torch' not in sys.modules; assert 'pytest' not in sys.modules"
    monkeypatch.setattr(
        "harness.scorers.workers.process._START",
        "import harness.scorers.workers.worker as w; warm = w._warm\n"
        f"def _warm(c):\n warm(c)\n {code}\n"
        "w._warm = _warm; w.main()",
    )
    (row,) = score_all([sample("<p>b</p>")], get(CHEAP))
    assert row.scores["exact_match"] == 1.0
    assert list(tmp_path.iterdir()) == []
