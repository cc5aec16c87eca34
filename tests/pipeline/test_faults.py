"""Kills, signals, damage, a full disk and a second process: the same command again mends it."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from harness.reports import parse_comparison_csv
from tests.support.commands import (
    Commands,
    Fault,
    Outcome,
    files_under,
    make_registry,
    manifest,
    run_folders,
    run_of,
    tables,
    write_script,
)

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A command that needs no model."""
    root = tmp_path_factory.mktemp("scripted")
    registry = make_registry(root / "registry")
    return run_of(registry, {"scripted": write_script(root / "says.jsonl")})


@pytest.fixture(scope="module")
def undisturbed(
    commands: Commands, scripted: list[str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The tables of `scripted` when nothing goes wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    outcome = commands.run(folder, *scripted)
    assert outcome.status == 0, outcome.output
    return tables(folder)


def in_order(outcome: Outcome, *texts: str) -> None:
    """No traceback, and these texts one after another on standard error."""
    assert "Traceback" not in outcome.output, outcome.output
    at = 0
    for text in texts:
        at = outcome.stderr.find(text, at)
        assert at >= 0, f"no {text!r} in:\n{outcome.stderr}"


# --- SIGKILL ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_each_stage_with_a_model(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    """One run is killed again and again, each time further on; its tables are those of a run
    that was left in peace."""
    registry = make_registry(tmp_path / "registry", test=40, train=40, validation=0.1)
    words = run_of(registry, {"llama2-7b": tiny_weights["llama"]})
    words += ["--max-steps", "7"]
    peace, trouble = tmp_path / "peace", tmp_path / "trouble"
    peace.mkdir()
    trouble.mkdir()
    assert model_commands.run(peace, *words).status == 0

    faults = [
        Fault("replace", "data/test.jsonl"),
        Fault("append", "tmp/train", count=4),  # in mid-epoch, after the checkpoint of step 2
        Fault("replace", "step-00000006.json"),  # a checkpoint without its seal
        Fault("publish", "train "),  # the adapter is there, its entry is not
        Fault("append", "generate-base", count=3),  # in mid-batch
        Fault("append", "generate-tuned", count=2, action="TEAR"),  # answered beside the base's
        Fault("append", "generate-base", count=33, action="TEAR"),
        Fault("append", "likelihood-base", count=5),
        Fault("publish", "generate-tuned "),
        Fault("append", "likelihood-tuned", count=20),
        Fault("replace", "scores/nearest.jsonl"),
        Fault("replace", "kinds.jsonl"),
        Fault("replace", "results/comparison.md"),
    ]
    for fault in faults:
        outcome = model_commands.run(trouble, *words, fault=fault)
        assert outcome.status == KILLED, (fault, outcome)
    last = model_commands.run(trouble, *words)
    assert last.status == 0, last.output
    assert last.stages == ()
    assert tables(trouble) == tables(peace)

    (one,), (other,) = run_folders(peace), run_folders(trouble)
    logs = [(f / "log.jsonl").read_text().splitlines() for f in (one, other)]
    curves = [[(r["step"], r["loss"], r["grad_norm"]) for r in map(json.loads, lg)] for lg in logs]
    assert curves[0] == curves[1]
    weights = [(f / "adapter" / "adapter_model.safetensors").read_bytes() for f in (one, other)]
    assert weights[0] == weights[1]
    assert not any(".tmp-" in path.name for path in files_under(trouble / "runs"))
    assert not (other / "tmp").exists()


@pytest.mark.slow
def test_a_watched_training_is_the_same_after_kills(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    """Answers, the best checkpoint and the picture, killed in the training and after it."""
    watch = {"eval_steps": 1, "eval_samples": 2, "load_best_model_at_end": True}
    registry = make_registry(
        tmp_path / "registry", train=24, validation=0.25, early_stopping_patience=2, **watch
    )
    words = run_of(registry, {"llama2-7b": tiny_weights["llama"]}, "--report-to", "tensorboard")
    peace, trouble = tmp_path / "peace", tmp_path / "trouble"
    peace.mkdir()
    trouble.mkdir()
    left = model_commands.run(peace, *words)
    assert left.status == 0, left.output
    in_order(left, "% MFU", "step 1/", "validation", "accuracy", "rougeL", "step 1  ", " → ")
    for fault in (Fault("replace", "best-00000001.json"), Fault("append", "log.jsonl", count=3)):
        assert model_commands.run(trouble, *words, fault=fault).status == KILLED, fault
    again = model_commands.run(trouble, *words)
    assert again.status == 0, again.output
    assert tables(trouble) == tables(peace)
    (one,), (other,) = run_folders(peace), run_folders(trouble)
    for name in ("samples.jsonl", "adapter/adapter_model.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    (picture,) = (peace / "results" / "curves").iterdir()
    assert picture.read_bytes() == (trouble / "results/curves" / picture.name).read_bytes()
    assert f"(curves/{picture.name})" in tables(peace)["comparison.md"]
    assert list((one / "tensorboard").iterdir())
    rows = [json.loads(line) for line in (one / "samples.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows][:4] == [1, 1, 2, 2]
    assert {"id", "prompt", "text", "rouge1", "rougeL"} <= set(rows[0])


def test_choosing_by_validation_without_a_validation_part_is_one_sentence(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    registry = make_registry(tmp_path / "registry", eval_steps=1, load_best_model_at_end=True)
    outcome = model_commands.run(tmp_path, *run_of(registry, {"falcon7b": tiny_weights["falcon"]}))
    assert outcome.status == 1
    in_order(outcome, "has no validation part; set split.validation")


def test_training_goes_on_from_its_checkpoint(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    registry = make_registry(tmp_path / "registry")
    words = run_of(registry, {"falcon7b": tiny_weights["falcon"]})
    fault = Fault("append", "tmp/train", count=6)
    assert model_commands.run(tmp_path, *words, fault=fault).status == KILLED
    again = model_commands.run(tmp_path, *words)
    assert again.status == 0
    in_order(again, "training goes on from step 4 of 6", "step 5/6", "step 6/6")
    assert "step 4/6" not in again.stderr


# 32 prompts are decoded together, so that the 35th record is in the second batch.
@pytest.mark.parametrize(
    ("stage", "at"),
    [("generate-base", 35), pytest.param("likelihood-tuned", 12, marks=pytest.mark.slow)],
)
def test_records_that_are_there_are_not_made_again(
    stage: str,
    at: int,
    model_commands: Commands,
    tiny_weights: dict[str, Path],
    tmp_path: Path,
) -> None:
    registry = make_registry(tmp_path / "registry", test=40)
    words = run_of(registry, {"llama2-7b": tiny_weights["llama"]})
    words += ["--max-steps", "1"]
    killed = model_commands.run(tmp_path, *words, fault=Fault("append", stage, count=at))
    assert killed.status == KILLED
    ended = model_commands.run(tmp_path, *words, fault=Fault("append", stage, action="TERM"))
    assert ended.status == 75
    assert f"{at - 1} of 40 are there already" in ended.stderr
    last = model_commands.run(tmp_path, *words, fault=Fault("append", stage, action="COUNT"))
    assert last.status == 0, last.output
    found = re.search(r"(\d+) of 40 are there already", last.stderr)
    assert found
    assert int(found[1]) >= at - 1
    assert last.events == 40 - int(found[1])


@pytest.mark.slow
@pytest.mark.parametrize("event", ["replace", "append", "publish"])
def test_killed_anywhere(
    event: str,
    commands: Commands,
    scripted: list[str],
    undisturbed: dict[str, str],
    tmp_path: Path,
) -> None:
    count = tmp_path / "count"
    count.mkdir()
    events = commands.run(count, *scripted, fault=Fault(event, action="COUNT")).events
    assert events >= 8
    for at in sorted({1, events, *range(3, events, max(1, events // 5))}):
        folder = tmp_path / str(at)
        folder.mkdir()
        killed = commands.run(folder, *scripted, fault=Fault(event, count=at))
        assert killed.status == KILLED, at
        again = commands.run(folder, *scripted)
        assert again.status == 0, again.output
        assert tables(folder) == undisturbed, f"{event} {at} of {events}"


# --- signals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault("replace", "data/train.jsonl", action="TERM"),
        Fault("append", "generate-base", count=3, action="TERM"),
        Fault("publish", "score ", action="TERM"),
        Fault("replace", "results/comparison.csv", action="TERM"),
    ],
)
def test_sigterm_names_the_command_that_continues(
    fault: Fault,
    commands: Commands,
    scripted: list[str],
    undisturbed: dict[str, str],
    tmp_path: Path,
) -> None:
    outcome = commands.run(tmp_path, *scripted, fault=fault)
    assert outcome.status == 75
    in_order(outcome, "harness: interrupted")
    command = ["python", "-m", "harness", *scripted]
    assert outcome.stderr.splitlines()[-1] == " ".join(command)
    assert commands.run(tmp_path, *scripted).status == 0
    assert tables(tmp_path) == undisturbed


def stopped(outcome: Outcome, words: list[str]) -> None:
    """Ended by a signal, as such: the last line continues it."""
    assert outcome.status == 75, outcome.output
    assert "Traceback" not in outcome.output, outcome.output
    assert outcome.stderr.splitlines()[-1] == " ".join(["python", "-m", "harness", *words])


@pytest.mark.slow
def test_a_signal_anywhere_ends_a_command_that_then_goes_on(
    commands: Commands, scripted: list[str], undisturbed: dict[str, str], tmp_path: Path
) -> None:
    """At functions drawn by a seed, from the imports on: one to come back from, or two at once."""
    calls = commands.run(tmp_path, *scripted, fault=Fault("enter", action="COUNT")).events
    # 40: just after the handlers are there, before anything of ours is imported.
    moments = [40, *random.Random(0).sample(range(40, calls * 9 // 10), 4)]
    for turn, at in enumerate(moments):
        fault = Fault("enter", count=at, action=("INT", "TWICE", "TERM")[turn % 3])
        folder = tmp_path / str(at)
        folder.mkdir()
        stopped(commands.run(folder, *scripted, fault=fault), scripted)
        again = commands.run(folder, *scripted)
        assert again.status == 0, again.output
        assert tables(folder) == undisturbed, f"{fault} of {calls}"
        assert not any(".tmp-" in path.name for path in files_under(folder))


@pytest.mark.slow
def test_signals_anywhere_in_a_training(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    """Inside of the libraries too, again and again in one run."""
    registry = make_registry(tmp_path / "registry", train=24, validation=0.25, eval_steps=2)
    words = run_of(registry, {"llama2-7b": tiny_weights["llama"]})
    peace, trouble = tmp_path / "peace", tmp_path / "trouble"
    peace.mkdir()
    trouble.mkdir()
    calls = model_commands.run(peace, *words, fault=Fault("enter", action="COUNT")).events
    for part, action in ((0.2, "TWICE"), (0.3, "TERM")):
        fault = Fault("enter", count=int(part * calls), action=action)
        stopped(model_commands.run(trouble, *words, fault=fault), words)
    assert model_commands.run(trouble, *words).status == 0
    assert tables(trouble) == tables(peace)
    (one,), (other,) = run_folders(peace), run_folders(trouble)
    name = "adapter/adapter_model.safetensors"
    assert (one / name).read_bytes() == (other / name).read_bytes()
    answers = [(run / "generations/tuned.jsonl").read_text().splitlines() for run in (one, other)]
    assert [{**json.loads(row), "seconds": 0} for row in answers[0]] == [
        {**json.loads(row), "seconds": 0} for row in answers[1]
    ]


def test_sigterm_in_training_leaves_a_checkpoint(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    registry = make_registry(tmp_path / "registry", save_steps=0)
    words = run_of(registry, {"llama2-7b": tiny_weights["llama"]})
    fault = Fault("append", "tmp/train", count=3, action="TERM")
    outcome = model_commands.run(tmp_path, *words, fault=fault)
    assert outcome.status == 75
    assert outcome.stderr.splitlines()[-1] == " ".join(["python", "-m", "harness", *words])
    (folder,) = run_folders(tmp_path)
    assert manifest(folder)["status"] == "started"
    again = model_commands.run(tmp_path, *words)
    assert again.status == 0, again.output
    in_order(again, "training goes on from step 3 of 6", "step 4/6", "step 6/6")


# --- leftovers -------------------------------------------------------------------------------


def test_what_a_kill_leaves_in_results_goes_with_the_next_command(
    commands: Commands, scripted: list[str], undisturbed: dict[str, str], tmp_path: Path
) -> None:
    fault = Fault("replace", "results/comparison.md")
    assert commands.run(tmp_path, *scripted, fault=fault).status == KILLED
    assert [p for p in (tmp_path / "results").iterdir() if p.name.startswith(".tmp-")]
    assert commands.run(tmp_path, *scripted).status == 0
    assert not any(".tmp-" in path.name for path in files_under(tmp_path))
    assert tables(tmp_path) == undisturbed


# --- links -----------------------------------------------------------------------------------


def test_a_link_inside_a_run_is_refused(
    commands: Commands, scripted: list[str], tmp_path: Path
) -> None:
    """By all that read or write the run; what it leads to is neither changed nor removed."""
    assert commands.run(tmp_path, *scripted).status == 0
    (folder,) = run_folders(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    scoring: list[list[object]] = [["score", folder], ["compare", f"{folder}:base", folder]]
    for name, more in (
        ("manifest.json", []),
        ("generations", scoring),
        ("generations/base.jsonl", scoring[1:]),
        (".lock", []),
        ("adapter", []),
        ("tmp", []),
    ):
        place = folder / name
        if was_there := place.exists():
            place.rename(elsewhere)
        else:
            elsewhere.mkdir()
            (elsewhere / "kept").write_text("x")
        files = [elsewhere] if elsewhere.is_file() else [*files_under(elsewhere)]
        before = [path.read_bytes() for path in files]
        place.symlink_to(elsewhere)
        for words in [scripted, *more]:
            outcome = commands.run(tmp_path, *words)
            assert outcome.status == 2, outcome.output
            in_order(outcome, f"harness: {place} is a link, and links inside a run's folder")
            assert len(outcome.stderr.splitlines()) == 1
        assert [path.read_bytes() for path in files] == before
        assert place.is_symlink()
        place.unlink()
        if was_there:
            elsewhere.rename(place)
        else:
            shutil.rmtree(elsewhere)
    assert commands.run(tmp_path, *scripted).stages == ()


# --- two processes ---------------------------------------------------------------------------


def test_a_second_process_names_the_first(
    commands: Commands,
    scripted: list[str],
    undisturbed: dict[str, str],
    tmp_path: Path,
) -> None:
    hold = Fault("append", "generate-base", count=2, action="HOLD")
    first = commands.start(tmp_path, *scripted, fault=hold)
    pid = first[0]
    deadline = time.monotonic() + 60
    while not (tmp_path / "held").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        began = time.monotonic()
        second = commands.run(tmp_path, *scripted)
        assert time.monotonic() - began < 50  # the first is there for 60 s
        assert second.status == 2
        in_order(second, "harness: the run scripted/words/", f"process {pid} on ")
        assert second.stages == ()
        assert not (tmp_path / "results").exists()
        # A plan only reads, and the run of another seed is not held.
        assert commands.run(tmp_path, *scripted, "--dry-run").status == 0
        assert commands.run(tmp_path, *scripted, "--seeds", 5, "--results", "other").status == 0
    finally:
        os.kill(pid, signal.SIGKILL)
        assert commands.wait(first).status == KILLED
    assert commands.run(tmp_path, *scripted).status == 0
    assert tables(tmp_path) == undisturbed


# --- damage ----------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_partial_work_that_is_damaged_is_said_and_made_again(
    commands: Commands, scripted: list[str], undisturbed: dict[str, str], tmp_path: Path
) -> None:
    """A record that is still valid JSON; a record in the middle; a record of another shape."""

    def other_word(data: bytes) -> bytes:
        return data.replace(b'"text": "<p>no</p>"', b'"text": "<p>on</p>"', 1)

    def second_end(data: bytes) -> bytes:
        first = data.index(b"\n")
        second = data.index(b"\n", first + 1)
        return data[:second] + b"\x0b" + data[second + 1 :]

    def other_shape(data: bytes) -> bytes:
        return b'{"x": 1}\n' + data

    kill = Fault("append", "generate-base", count=5)
    for damage, lost in ((other_word, 4), (second_end, 3), (other_shape, 5)):
        folder = tmp_path / damage.__name__
        folder.mkdir()
        assert commands.run(folder, *scripted, fault=kill).status == KILLED
        (run,) = run_folders(folder)
        (journal,) = run.glob("tmp/generate-base/*/records.jsonl")
        journal.write_bytes(damage(journal.read_bytes()))
        again = commands.run(folder, *scripted)
        assert again.status == 0, again.output
        told = [line for line in again.stderr.splitlines() if "damaged" in line]
        assert len(told) == 1
        assert f"damaged after record {4 - min(lost, 4)}: {lost} records cut off" in told[0]
        assert tables(folder) == undisturbed
        assert b"\t" not in (run / "generations" / "base.jsonl").read_bytes()


def test_a_damaged_training_log_and_checkpoint_are_said_and_the_log_is_whole(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    registry = make_registry(tmp_path / "registry")
    words = run_of(registry, {"falcon7b": tiny_weights["falcon"]}, "--max-steps", "6")
    kill = Fault("append", "tmp/train", count=6)
    assert model_commands.run(tmp_path, *words, fault=kill).status == KILLED
    (run,) = run_folders(tmp_path)
    (journal,) = run.glob("tmp/train/*/log.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[1], lines[0], *lines[3:]]))  # a hole, and out of order
    flip(journal.parent / "checkpoints" / "step-00000004.pt")
    again = model_commands.run(tmp_path, *words)
    assert again.status == 0, again.output
    damage = "checkpoint step-00000004.pt is damaged; training goes on from step 2"
    in_order(again, damage, "log.jsonl is damaged after record 0: 4 records cut off", "step 3/6")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("data/test.jsonl", {"prepare"}),
        ("generations/base.jsonl", {"generate-base"}),
        ("likelihoods/tuned.jsonl", {"likelihood-tuned"}),
        ("scores/nearest.jsonl", {"score"}),
        ("predictions.csv", {"compare"}),
    ],
)
def test_a_flipped_bit_is_found_and_mended(
    name: str,
    stages: set[str],
    commands: Commands,
    scripted: list[str],
    undisturbed: dict[str, str],
    tmp_path: Path,
) -> None:
    assert commands.run(tmp_path, *scripted).status == 0
    (folder,) = run_folders(tmp_path)
    flip(folder / name)
    again = commands.run(tmp_path, *scripted)
    assert again.status == 0
    assert set(again.stages) == stages
    told = [line for line in again.stderr.splitlines() if "damaged" in line]
    assert len(told) == 1
    assert told[0].startswith(f"{name} of scripted/words/")
    assert "made again" in told[0]
    assert tables(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_manifest_of_garbage_is_made_again(
    commands: Commands, scripted: list[str], undisturbed: dict[str, str], tmp_path: Path
) -> None:
    assert commands.run(tmp_path, *scripted).status == 0
    (folder,) = run_folders(tmp_path)
    for garbage in (b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"schema": 1}'):
        (folder / "manifest.json").write_bytes(garbage)
        again = commands.run(tmp_path, *scripted)
        assert again.status == 0, again.output
        assert again.stderr.count("manifest.json is damaged") == 1
        assert tables(tmp_path) == undisturbed
    entry = json.loads((folder / "manifest.json").read_text())
    entry["stages"]["score"]["seconds"] = -1.0  # plausible, but not what was written
    (folder / "manifest.json").write_text(json.dumps(entry))
    assert "manifest.json is damaged" in commands.run(tmp_path, *scripted).stderr


def test_a_truncated_adapter_is_trained_again(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    registry = make_registry(tmp_path / "registry")
    words = run_of(registry, {"gemma3-270m": tiny_weights["gemma3"]})
    assert model_commands.run(tmp_path, *words).status == 0
    before = tables(tmp_path)
    (folder,) = run_folders(tmp_path)
    adapter = folder / "adapter" / "adapter_model.safetensors"
    whole = adapter.read_bytes()
    adapter.write_bytes(whole[: len(whole) // 2])
    again = model_commands.run(tmp_path, *words)
    assert again.status == 0, again.output
    assert again.stages == ("train",)  # the same weights come out: what follows stands
    in_order(again, "adapter/adapter_model.safetensors of gemma3-270m/words/")
    assert adapter.read_bytes() == whole
    assert tables(tmp_path) == before


# --- a full disk -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault("append", "generate-tuned", count=2, action="ENOSPC"),
        Fault("replace", "comparison.csv", action="ENOSPC"),
        *(
            pytest.param(Fault(*event, action="ENOSPC"), marks=pytest.mark.slow)
            for event in (("replace", "generations/tuned.jsonl"), ("replace", "manifest.json", 3))
        ),
    ],
)
def test_a_full_disk_leaves_the_earlier_tables(
    fault: Fault,
    commands: Commands,
    scripted: list[str],
    undisturbed: dict[str, str],
    tmp_path: Path,
) -> None:
    assert commands.run(tmp_path, *scripted).status == 0
    outcome = commands.run(tmp_path, *scripted, "--limit", 4, fault=fault)
    assert outcome.status == 1
    in_order(outcome, "harness: cannot write ", "No space left on device", "free some space")
    assert len([li for li in outcome.stderr.splitlines() if li.startswith("harness:")]) == 1
    assert tables(tmp_path) == undisturbed
    assert not any(".tmp-" in path.name for path in files_under(tmp_path))
    assert commands.run(tmp_path, *scripted, "--limit", 4).status == 0
    rows = parse_comparison_csv((tmp_path / "results" / "comparison.csv").read_text("utf-8"))
    assert {row.n for row in rows} == {4}
