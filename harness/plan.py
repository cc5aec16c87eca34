"""What a command is going to do: its runs, what each depends on, and the keys that follow.

A stage's key is the hash of all that can change its files: the configuration that it reads, the
identity of weights and data, the code that makes it, the libraries under it, and the keys of the
stages before it. No torch is imported here.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness import __version__
from harness.config.registry import Registry
from harness.config.schema import ModelConfig, RecipeConfig, TaskConfig
from harness.data.identity import identity as data_identity
from harness.files import digest, file_digest
from harness.machine import cpu_has_bf16, has_gpu
from harness.models.locate import Located, locate
from harness.records import ARMS
from harness.scorers import get

LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "bitsandbytes",
    "datasets",
    "numpy",
    "html5lib",
    "beautifulsoup4",
    "rouge-score",
    "rapidfuzz",
)
DEFAULT_RECIPE = "quick"
DEFAULT_TASK = "html_blocks"
"""What a model that names none of its own is trained with, and on."""

_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Options:
    """A `run` command, as the user gave it.

    tasks, recipe: None for each model's own. max_memory: bytes of a card to plan for, None for
    this machine's; it changes how a step is carried out, not what is computed, so no key has it.
    report_to: sinks that the steps of trainings are shown in; no key has them either. name: of the
    folder of the tables, None for one of what is asked for (harness.naming).
    """

    models: tuple[str, ...] = ("gemma3-270m",)
    tasks: tuple[str, ...] | None = None
    recipe: str | None = None
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    max_steps: int | None = None
    epochs: float | None = None
    quantization: str | None = None
    precision: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    max_memory: int | None = None
    report_to: tuple[str, ...] = ()
    registry: Path | None = None
    runs: Path = Path("runs")
    results: Path = Path("results")
    name: str | None = None

    def tasks_of(self, model: ModelConfig) -> tuple[str, ...]:
        """The names of the tasks that `model` is run on."""
        return (model.task or DEFAULT_TASK,) if self.tasks is None else self.tasks

    def recipe_of(self, model: ModelConfig) -> str:
        """The name of the recipe that `model` is trained with."""
        return (model.recipe or DEFAULT_RECIPE) if self.recipe is None else self.recipe


@dataclass(frozen=True, slots=True)
class Run:
    """One (model, task, recipe, seed), with where its weights and data are."""

    model: ModelConfig
    task: TaskConfig
    task_dir: Path
    recipe: RecipeConfig
    seed: int
    limit: int | None
    located: Located
    data_path: str | None
    keys: Mapping[str, str]
    identity: Mapping[str, Any]

    @property
    def label(self) -> str:
        return f"{self.model.name} on {self.task.name}, {self.recipe.name}, seed {self.seed}"


def stage_names() -> list[str]:
    """The stages of a run, in order."""
    arms = [f"{verb}-{arm}" for arm in ARMS for verb in ("generate", "measure")]
    return ["prepare", "train", *arms, "score", "compare"]


def plan_runs(options: Options) -> list[Run]:
    """The runs of a command, models outermost. Raises UsageError or MissingError."""
    registry = Registry(options.registry)
    overrides = {
        "max_steps": options.max_steps,
        "num_train_epochs": options.epochs,
        "quantization": options.quantization,
        "precision": options.precision,
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    runs = []
    for name in options.models:
        model = registry.model(name)
        recipe = registry.recipe(options.recipe_of(model), given)
        located = locate(model, options.weights.get(name))
        for task_name in options.tasks_of(model):
            task = registry.task(task_name)
            for seed in options.seeds:
                runs.append(
                    _plan(
                        model,
                        located,
                        task,
                        registry.path("tasks", task_name).parent,
                        recipe,
                        seed,
                        options.limit,
                        options.data.get(task_name),
                    )
                )
    return runs


def _plan(
    model: ModelConfig,
    located: Located,
    task: TaskConfig,
    task_dir: Path,
    recipe: RecipeConfig,
    seed: int,
    limit: int | None,
    data_path: str | None,
) -> Run:
    machine = {"device": "cuda" if has_gpu() else "cpu", "bf16": cpu_has_bf16()}
    weights = {
        "identity": located.identity,
        "quantization": recipe.quantization_of(model.parameters),
        "precision": recipe.precision,
        "machine": machine,
        "libraries": _versions("torch", "transformers", "tokenizers", "peft", "bitsandbytes"),
    }
    training = recipe.model_dump(exclude={"name", "description", "quantization", "precision"})
    keys: dict[str, str] = {}
    keys["prepare"] = digest(
        {
            "source": data_identity(task, task_dir, data_path),
            "data": task.data.model_dump(),
            "columns": task.columns.model_dump() if task.columns else None,
            "split": task.split.model_dump(),
            "code": code("data", "records.py"),
            "libraries": _versions("datasets"),
        }
    )
    model_code = code(
        *("models", "fused", "training", "generation", "tokens.py"),
        *("data/pack.py", "data/prompt.py", "scorers/cross_entropy.py"),
    )
    keys["train"] = digest(
        {
            "weights": weights,
            "recipe": training,
            "template": task.template,
            "seed": seed,
            "prepare": keys["prepare"],
            "code": model_code,
        }
    )
    for arm in ARMS:
        common = {
            "weights": weights,
            "template": task.template,
            "prepare": keys["prepare"],
            "limit": limit,
            "adapter": keys["train"] if arm == "tuned" else None,
            "code": model_code,
        }
        keys[f"generate-{arm}"] = digest({**common, "decoding": task.decoding.model_dump()})
        keys[f"measure-{arm}"] = digest({**common, "max_length": recipe.max_length})
    made = [keys[f"{verb}-{arm}"] for arm in ARMS for verb in ("generate", "measure")]
    keys["score"] = digest(
        {
            "made": made,
            # What scorers find on this machine, as the Nu checker, is in their signatures.
            "metrics": [m.signature for each in get(task.scorers, task.text) for m in each.metrics],
            "code": code("scorers", "records.py", "data/nearest.py"),
            "libraries": _versions("html5lib", "beautifulsoup4", "rouge-score", "rapidfuzz"),
        }
    )
    keys["compare"] = digest(
        {
            "score": keys["score"],
            "run": [model.name, task.name, recipe.name, seed],
            "code": code("statistics.py", "comparing.py", "reports", "stages"),
            "libraries": _versions("numpy"),
        }
    )
    identity = {
        "model": model.model_dump(exclude={"recipe", "task"}),  # they name it, its stages do not
        "weights": weights,
        "task": task.model_dump(),
        "recipe": recipe.model_dump(),
        "seed": seed,
        "limit": limit,
        "keys": dict(keys),
    }
    return Run(model, task, task_dir, recipe, seed, limit, located, data_path, keys, identity)


def environment() -> dict[str, str]:
    """Versions of what stood under a run, for its manifest."""
    return {
        "harness": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **_versions(*LIBRARIES),
    }


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _versions(*names: str) -> dict[str, str]:
    return {name: _version(name) for name in names}


@cache
def code(*parts: str) -> str:
    """Hash of the source files named (folders whole): changed code makes its stages anew."""
    files: list[Path] = []
    for part in parts:
        place = _PACKAGE / part
        files.extend(sorted(place.rglob("*.py")) if place.is_dir() else [place])
    return digest({f.relative_to(_PACKAGE).as_posix(): file_digest(f) for f in files})
