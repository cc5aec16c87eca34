"""Sinks: fed from the log, each step once, dropped where they fail."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness.cli import run
from harness.errors import MissingError
from harness.tracking import SINKS, Feed, require


class Kept:
    """A sink that keeps what it is given; `fails` names the verb that raises."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.steps, self.closed = fails, [], False  # type: ignore[var-annotated]

    def open(self, run: str, config: Mapping[str, Any], folder: Path) -> None:
        self._may("open")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._may("log")
        self.steps.append((step, dict(numbers)))

    def close(self) -> None:
        self._may("close")
        self.closed = True

    def _may(self, verb: str) -> None:
        if verb == self.fails:
            raise OSError(f"no network in {verb}")


def row(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "loss": 1.0 / step, "validation": None, "grad_norm": None, **more}


def rows(*steps: int) -> list[dict[str, Any]]:
    return [row(step) for step in steps]


def feed(folder: Path, said: list[str], **sinks: Kept) -> Feed:
    return Feed(
        list(sinks), "run", {}, folder, folder / "sent.jsonl", said.append, sinks.__getitem__
    )


def test_each_step_once_over_two_processes(tmp_path: Path) -> None:
    said: list[str] = []
    first, second = Kept(), Kept()
    one = feed(tmp_path, said, a=first)
    one.follow(rows(1, 2))
    one.follow(rows(1, 2))
    one.follow(rows(3))
    # Killed here. The training goes on from a checkpoint at step 1: the log is cut to it.
    two = feed(tmp_path, said, a=second)
    two.follow(rows(1))
    two.follow(rows(2, 3, 4))
    two.close()
    assert [step for step, _ in first.steps] == [1, 2, 3]
    assert second.steps == [(4, {"loss": 0.25})]
    assert second.closed
    assert said == []


def test_what_was_sent_and_is_damaged_is_said_and_sent_again(tmp_path: Path) -> None:
    feed(tmp_path, [], a=Kept()).follow(rows(1, 2, 3))
    path = tmp_path / "sent.jsonl"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1  # in the last line
    path.write_bytes(data)
    said: list[str] = []
    kept = Kept()
    feed(tmp_path, said, a=kept).follow(rows(1, 2, 3, 4))
    assert [step for step, _ in kept.steps] == [3, 4]
    assert len(said) == 1
    assert "sent.jsonl is damaged after record 2: 1 record cut off" in said[0]


@pytest.mark.parametrize("verb", ["open", "log", "close"])
def test_a_sink_that_fails_is_named_once_and_dropped(tmp_path: Path, verb: str) -> None:
    said: list[str] = []
    good = Kept()
    one = feed(tmp_path, said, bad=Kept(verb), good=good)
    one.follow(rows(1, 2))
    one.close()
    assert len(said) == 1
    assert "bad" in said[0]
    assert f"no network in {verb}" in said[0]
    assert [step for step, _ in good.steps] == [1, 2]


def test_names_and_absent_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SINKS == run.SINKS
    monkeypatch.setattr("harness.tracking.sink.find_spec", lambda name: None)
    with pytest.raises(MissingError, match="pip install trackio"):
        require(["trackio"])


def test_tensorboard_reads_back_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    said: list[str] = []
    one = Feed(["tensorboard"], "run", {}, tmp_path, tmp_path / "sent.jsonl", said.append)
    one.follow(rows(1, 2))
    one.close()
    assert said == []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1.0), (2, 0.5)]


def send_steps(folder: Path, sink: str, **environment: str) -> None:
    """Two steps handed to `sink` in a process of its own, which says nothing on standard output."""
    code = (
        "import json, sys; from pathlib import Path; from harness.tracking import Feed\n"
        "folder, sink = Path(sys.argv[1]), sys.argv[2]\n"
        "feed = Feed([sink], 'run', {'r': 4}, folder, folder / 'sent.jsonl', print)\n"
        "feed.follow(json.loads(sys.argv[3])); feed.close()\n"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "TRACKIO"))}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), sink, json.dumps(rows(1, 2))],
        env={**kept, **environment, "HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert len((folder / "sent.jsonl").read_text().splitlines()) == 2


def test_wandb_offline_without_a_key(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    send_steps(tmp_path, "wandb", WANDB_MODE="offline")
    files = list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 1
    assert b"loss" in files[0].read_bytes()


def test_trackio_keeps_its_steps_on_this_machine(tmp_path: Path) -> None:
    if find_spec("trackio") is None:
        pytest.skip("trackio is not installed")
    send_steps(tmp_path, "trackio", TRACKIO_DIR=str(tmp_path / "trackio"))
    with closing(sqlite3.connect(tmp_path / "trackio" / "harness.db")) as kept:
        rows = kept.execute("select run_name, step, metrics from metrics order by step").fetchall()
    assert [(run, step, json.loads(numbers)) for run, step, numbers in rows] == [
        ("run", 1, {"loss": 1.0}),
        ("run", 2, {"loss": 0.5}),
    ]
