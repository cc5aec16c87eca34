"""`harness bench job`: `harness run` beside a script that does its work with TRL's SFTTrainer,
transformers' `generate` and rouge-score, each a process of its own, by the wall.

Both load the same converted weights, train as many steps of as many examples with the same LoRA,
answer the same prompts as base and as tuned, score the references under both, and compute ROUGE and
exact match. `harness run` also computes its other metrics, statistics and tables.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.benchmarks import trl
from harness.benchmarks.figures import Figures
from harness.benchmarks.train import LIBRARIES, Say, card, library
from harness.config.overrides import override
from harness.config.registry import Registry
from harness.data.load import load
from harness.data.prompt import render
from harness.data.split import split
from harness.errors import RunError, UsageError
from harness.host.temporary import temporary_folder
from harness.models.device import pick_device, pick_dtype
from harness.models.locate import locate

PEER = "TRL, generate, rouge-score"
TASK = "html_blocks"


def bench_job(
    models: Sequence[str],
    weights: Mapping[str, str],
    steps: int | None,
    prompts: int,
    precision: str,
    out: Path,
    command: str,
    say: Say,
) -> str:
    """Measure, write `out`/job.json after each row; returns the table.

    weights: folders, by a model's name. steps: of the training, None for the recipe's own.
    prompts: that are answered. precision: as the
    recipe's field. Raises UsageError for a model that is not loaded here, MissingError without TRL,
    RunError where one of the two fails.
    """
    trl.require()
    versions = {name: library(name) for name in (*LIBRARIES, "rouge-score")}
    figures = Figures(out, "job", card(), versions)
    for name in models:
        spec = _spec(name, weights.get(name), steps, prompts, precision)
        common = {"command": command, "steps": spec["steps"], "prompts": prompts}
        for system, work in (("harness run", _ours), (PEER, _theirs)):
            say(f"{name}: {system}")
            with temporary_folder("harness-bench-") as folder:
                row = {"model": name, "system": system, **work(name, spec, folder), **common}
            figures.add(row)
            say(line(row))
    return table(figures.result)


def _spec(
    name: str, weights: str | None, steps: int | None, prompts: int, precision: str
) -> dict[str, Any]:
    """The work, as plain data."""
    registry = Registry(None)
    model, task = registry.model(name), registry.task(TASK)
    if not model.has_weights or model.needs_gpu or model.recipe is None:
        raise UsageError(
            f"bench job is for models that need no GPU and name a recipe, and {name} is none."
        )
    overrides: dict[str, Any] = {"recipe.precision": precision}
    if steps is not None:
        overrides["recipe.max_steps"] = steps
    recipe = override(registry.recipe(model.recipe), overrides)
    folder = registry.path("tasks", task.name).parent
    loaded = load(task, task_dir=folder)
    parts = split(loaded.examples, task.split, loaded.sides, name=task.name)
    batch = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps
    if recipe.max_steps is None:
        raise UsageError(f"the recipe {recipe.name} has no max_steps: give --steps.")
    device = pick_device()

    def rows(examples: Sequence[Any]) -> list[dict[str, str]]:
        return [
            {"prompt": render(task.template, e.prompt), "completion": e.target} for e in examples
        ]

    return {
        "weights": locate(model, weights).path,
        "given": weights,
        "dtype": str(pick_dtype(recipe.precision, device)).removeprefix("torch."),
        "cpu": device.type == "cpu",
        "steps": recipe.max_steps,
        "batch": batch,
        "max_length": recipe.max_length,
        "learning_rate": recipe.learning_rate,
        "schedule": recipe.lr_scheduler_type,
        "warmup": recipe.warmup_ratio,
        "r": recipe.lora.r,
        "alpha": recipe.lora.lora_alpha,
        "max_new_tokens": task.decoding.max_new_tokens,
        "train": rows(parts.train[: recipe.max_steps * batch]),
        "test": rows(parts.test[:prompts]),
        "precision": precision,
    }


def _ours(name: str, spec: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    words = ["-m", "harness", "run", "--models", name, "--tasks", TASK]
    words += ["--limit", str(len(spec["test"])), "--max-steps", str(spec["steps"])]
    words += ["--precision", spec["precision"]]
    if spec["given"]:
        words += ["--weights", f"{name}={spec['given']}"]
    words += ["--runs", str(folder / "runs"), "--results", str(folder / "results")]
    seconds = _timed(words, folder)
    (manifest,) = folder.glob("runs/*/*/*/manifest.json")
    stages = json.loads(manifest.read_text(encoding="utf-8"))["stages"]
    parts = {stage: entry["seconds"] for stage, entry in stages.items()}
    return {
        "seconds": seconds,
        "train_seconds": parts["train"],
        "answers_seconds": parts["generate-base"] + parts["generate-tuned"],
        "losses_seconds": parts["likelihood-base"] + parts["likelihood-tuned"],
        **_figures_of(folder / "results" / "comparison.csv"),
    }


def _figures_of(path: Path) -> dict[str, Any]:
    """The two figures that both have, so that it is seen that they did the same."""
    from harness.reports import parse_comparison_csv

    rows = {row.metric: row for row in parse_comparison_csv(path.read_text(encoding="utf-8"))}
    return {"rougeL": rows["rougeL"].tuned, "cross_entropy": rows["cross_entropy"].tuned}


def _theirs(name: str, spec: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    words = ["-m", "harness.benchmarks.peer_job", str(folder)]
    seconds = _timed(words, folder)
    made: dict[str, Any] = json.loads((folder / "made.json").read_text(encoding="utf-8"))
    return {"seconds": seconds, **made}


def _timed(words: Sequence[str], folder: Path) -> float:
    """Seconds that a process took. Raises RunError with the end of what it said."""
    log = folder / "log"
    began = time.perf_counter()
    with log.open("wb") as file:
        code = subprocess.call([sys.executable, *words], stdout=file, stderr=file)
    seconds = time.perf_counter() - began
    if code:
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise RunError(f"`python {' '.join(words)[:200]}` failed: {said[-1:]}.")
    return seconds


HEAD = (
    f"{'model':<13}{'system':<28}{'seconds':>9}{'training':>10}{'answers':>9}{'losses':>8}"
    f"{'rougeL':>8}{'nats':>7}"
)


def line(row: Mapping[str, Any]) -> str:
    """One row of the table."""
    return (
        f"{row['model']:<13}{row['system']:<28}{row['seconds']:>9,.0f}"
        f"{row['train_seconds']:>10,.0f}{row['answers_seconds']:>9,.0f}"
        f"{row['losses_seconds']:>8,.0f}{row['rougeL']:>8.3f}{row['cross_entropy']:>7.3f}"
    )


def table(result: Mapping[str, Any]) -> str:
    """The file's rows as a table for a terminal."""
    rows = result["rows"]
    lines = [HEAD, "─" * len(HEAD), *(line(row) for row in rows), str(result["card"])]
    for ours in (row for row in rows if row["system"] != PEER):
        for row in rows:
            same = (row["model"], row["command"]) == (ours["model"], ours["command"])
            if same and row["system"] == PEER:
                ratio = row["seconds"] / ours["seconds"]
                lines.append(f"{row['model']}: {ratio:.1f} × as fast as {PEER}")
    return "\n".join(lines)
