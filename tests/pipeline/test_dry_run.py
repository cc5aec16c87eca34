"""What `run --dry-run` says is what the run then does, for each of many changed settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.cli.main import run_cli
from harness.records import Sample, Scored
from harness.scorers.base import Scorer
from harness.stages import stage_names
from tests.support.commands import (
    Commands,
    Fault,
    make_registry,
    manifest,
    noting_stages,
    run_folders,
    run_of,
    write_script,
)


def said(output: str) -> tuple[list[str], list[str]]:
    """The stages that a dry run's runs take over and make, in order."""
    lines = {"taken": list[str](), "to do": list[str]()}
    for line in output.splitlines():
        for what, stages in lines.items():
            if line.startswith(f"  {what} "):
                words = line.removeprefix(f"  {what} ").split(":")[0]
                stages += [word.split()[0] for word in words.split(", ")]
    return lines["taken"], lines["to do"]


def unscored(
    samples: Sequence[Sample], scorers: Sequence[Scorer], tick: Callable[[int], None]
) -> list[Scored]:
    """Nought for every metric."""
    names = [metric.name for scorer in scorers for metric in scorer.metrics]
    return [Scored(dict.fromkeys(names, 0.0)) for _ in samples]


@pytest.mark.slow
def test_twenty_changed_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process and with scores of nothing: workers that start cost seconds a run."""
    stages: list[str] = []
    noted = noting_stages(stages)
    monkeypatch.setattr("harness.executors.job.stages", lambda adapters: noted)
    monkeypatch.setattr("harness.scorers.score_all", unscored)
    monkeypatch.setattr("harness.host.files.sync_file", lambda path: None)
    monkeypatch.chdir(tmp_path)
    registry = make_registry(tmp_path / "registry", validation=0.2, test=2)
    script = write_script(tmp_path / "says.jsonl")
    words = run_of(registry, {"scripted": script})
    recipe = registry / "recipes" / "tiny.toml"
    task = registry / "tasks" / "words" / "task.toml"
    task.write_text(task.read_text().replace(', "validity", "answers"]', "]"))
    generator = task.with_name("generator.py")
    model = registry / "models" / "scripted.toml"
    model.parent.mkdir()
    own = 'name = "scripted"\nparameters = 0\n{}[source]\nkind = "scripted"\n'
    model.write_text(own.format(""))
    settings: set[str] = set()

    def agree(name: str, *more: object) -> tuple[str, ...]:
        argv = [*words, *map(str, more)]
        stages.clear()
        assert run_cli([*argv, "--dry-run"]) == 0
        plan = capsys.readouterr().out
        assert stages == []
        assert run_cli(argv) == 0
        done = capsys.readouterr().err
        taken, made = said(plan)
        assert sorted(made) == sorted(stages), name
        takes = [line.split(":")[0] for line in done.splitlines() if "taken from" in line]
        assert sorted(taken) == sorted(takes), name
        assert plan.count("cached   everything") == done.count("done before"), name
        settings.add(name)
        return tuple(stages)

    def edited(path: Path, old: str, new: str) -> Callable[[], None]:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        return lambda: path.write_text(text) and None

    assert agree("new") == tuple(stage_names())
    assert agree("nothing") == ()
    assert agree("limit", "--limit", 1)
    assert agree("seed", "--seeds", 1)
    assert agree("two seeds, one of them new", "--seeds", 1, 2)
    assert agree("max steps", "--max-steps", 1)
    assert agree("epochs", "--epochs", 1)
    assert agree("quantization", "--quantization", "nf4")
    assert agree("precision", "--precision", "bf16")
    assert agree("precision as it was", "--precision", "fp32") == ()
    assert agree("a field of the recipe", "--set", "learning_rate=0.03")
    assert agree("a field of the task", "--set", "decoding.max_new_tokens=5")
    assert agree("fields as they were", "--set", "max_length=1024", "split.seed=0") == ()
    assert agree("memory", "--max-memory", "16GiB") == ()
    for name, path, old, new, makes in (
        ("logging", recipe, "save_steps = 2", "save_steps = 2\nlogging_steps = 3", False),
        ("checkpoints", recipe, "save_steps = 2", "save_steps = 1", False),
        ("rate", recipe, "0.01", "0.02", True),
        ("recipe's words", recipe, "save_steps", 'description = "x"\nsave_steps', False),
        ("model's words", model, "parameters", 'description = "x"\nparameters', False),
        ("task's words", task, "template", 'description = "x"\ntemplate', False),
        ("template", task, "{}", "Do: {}", True),
        ("decoding", task, "max_new_tokens = 8", "max_new_tokens = 4", True),
        ("scorers", task, ', "rouge"', "", True),
        ("validation", task, "validation = 0.2", "validation = 0.4", True),
        ("data", generator, "sun", "sky", True),
        ("answers", script, "no", "yes", True),
    ):
        undo = edited(path, old, new)
        assert bool(agree(name)) == makes, name
        undo()
    # Files beside the generator, which opens none, and a file of a finished run that is damaged.
    generator.with_name("notes.txt").write_text("x")
    assert agree("notes") == ()
    shutil.rmtree(tmp_path / "runs")
    assert agree("all removed", "--seeds", 0, 1)
    first, second = run_folders(tmp_path)
    for folder in (first, second):
        (folder / "scores" / "base.jsonl").write_text("{}\n")
    assert agree("damaged", "--seeds", 0, 1) == ("score", "score")
    (first / "data" / "train.jsonl").unlink()
    assert agree("a stage that the other run has", "--seeds", 0, 1) == ()
    (second / "manifest.json").write_text("{}")
    agree("a damaged manifest", "--seeds", 0, 1)
    assert len(settings) >= 25


def test_partial_work_is_counted(commands: Commands, tmp_path: Path) -> None:
    script = write_script(tmp_path / "says.jsonl")
    words = run_of(make_registry(tmp_path / "registry"), {"scripted": script})
    fault = Fault("append", "generate-tuned", count=4)
    assert commands.run(tmp_path, *words, fault=fault).status == -9
    plan = commands.run(tmp_path, *words, "--dry-run")
    assert "cached   prepare, train, generate-base, likelihood-base" in plan.stdout
    assert "to do    generate-tuned (3 of 6 are there), likelihood-tuned, score" in plan.stdout
    done = commands.run(tmp_path, *words)
    assert "generate tuned: 3 of 6 are there already" in done.stderr


def test_a_training_that_was_begun_goes_on_where_the_plan_says(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    words = run_of(make_registry(tmp_path / "registry"), {"llama2-7b": tiny_weights["llama"]})
    fault = Fault("append", "log.jsonl", count=5)
    assert model_commands.run(tmp_path, *words, fault=fault).status == -9
    plan = model_commands.run(tmp_path, *words, "--dry-run")
    assert "to do    train (goes on from step 4), generate-base" in plan.stdout
    done = model_commands.run(tmp_path, *words)
    assert "training goes on from step 4 of 6" in done.stderr
    (folder,) = run_folders(tmp_path)
    assert manifest(folder)["status"] == "done"


def test_files_of_a_run_that_are_damaged_are_named(commands: Commands, tmp_path: Path) -> None:
    script = write_script(tmp_path / "says.jsonl")
    words = run_of(make_registry(tmp_path / "registry"), {"scripted": script})
    assert commands.run(tmp_path, *words).status == 0
    (folder,) = run_folders(tmp_path)
    (folder / "generations" / "base.jsonl").write_text(json.dumps({}))
    plan = commands.run(tmp_path, *words, "--dry-run")
    assert "damaged  generations/base.jsonl of" in plan.stdout
    assert said(plan.stdout) == ([], ["generate-base"])
