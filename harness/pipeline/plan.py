"""What a command is going to do: its runs, what each depends on, and the keys that follow.

A stage's key is the hash of all that can change its files, and of nothing else:

    stage      configuration                 what is read             code, libraries, keys
    prepare    data, columns, split          rows or generator        CODE, LIBRARIES
    train      recipe but UNKEYED, template, weights and tokenizer    the same, and prepare
               seed; with eval_samples also
               decoding
    generate   template, decoding, limit     weights and tokenizer    the same, prepare, train (if
                                                                      tuned)
    measure    template, max_length, limit   the same                 the same
    score      scorers, text: as signatures  -                        the same, generate, measure
    compare    names, seed                   -                        the same, score

Weights are their files' contents (a hub's: the commit) with the precision, quantisation and kind of
device that they are loaded with; `models.folder.READ_BESIDE_WEIGHTS` says which files of a folder
count, `data.identity` which of a task's and what of a data file. Python's minor version is in every
key. Where a file lies, when it was written, what is said and shown, and how a step is carried out
(--max-memory, --report-to) are in none. No torch is imported here.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from harness import __version__
from harness.config.overrides import override
from harness.config.registry import Registry
from harness.config.schema import ModelConfig, RecipeConfig, TaskConfig
from harness.data.identity import identity as data_identity
from harness.host.files import digest, file_digest
from harness.host.machine import cpu_has_bf16, has_gpu, version_of
from harness.models.locate import Located, locate
from harness.records import ARMS
from harness.scorers import get

UNKEYED: Mapping[str, frozenset[str]] = {
    # What names or describes an entry; how much of a machine it needs; where its weights lie. The
    # number of parameters only decides how they are held, which is keyed.
    "model": frozenset(
        ["description", "license", "parameters", "needs_gpu", "recipe", "task", "source"]
    ),
    "task": frozenset(["description", "license"]),
    # When a training speaks, and from where an interrupted one goes on: never what it computes.
    "recipe": frozenset(
        ["description", "logging_steps", "save_steps", "save_strategy", "save_total_limit"]
    ),
}
"""Settings that change no file of a run: no key and no name of a run's folder has them."""

_MODEL_CODE = (
    *("models", "decoder", "kernels", "training", "inference", "backends", "records.py"),
    *("data/tokens.py", "data/pack.py", "data/prompt.py"),
)
CODE: Mapping[str, tuple[str, ...]] = {
    "prepare": ("data", "records.py", "stages/prepare.py"),
    "train": (*_MODEL_CODE, "stages/train.py", "stages/encode.py", "stages/sampling.py"),
    "answer": (*_MODEL_CODE, "stages/generate.py"),
    "score": ("scorers", "records.py", "data/nearest.py", "data/words.py", "stages/score.py"),
    "compare": ("statistics", "reports", "stages"),
    "samples": ("scorers",),
}
"""The source files of the stages ("answer": generate and measure; "samples": what eval_samples adds
to train)."""

_MODEL_LIBRARIES = (
    *("torch", "transformers", "tokenizers", "safetensors", "accelerate", "peft"),
    *("bitsandbytes", "numpy"),
)
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "prepare": ("datasets", "pyarrow", "numpy"),
    "weights": _MODEL_LIBRARIES,
    "tokenizer": ("sentencepiece", "tiktoken", "protobuf"),
    "embedded": ("gguf",),
    "cuda": ("triton",),
    "score": ("html5lib", "beautifulsoup4", "soupsieve", "rapidfuzz", "numpy"),
    "compare": ("numpy",),
    "samples": ("rapidfuzz",),
}
"""The packages under the stages. "tokenizer": where there is no tokenizer.json, which needs none of
them; "embedded": what reads a GGUF file; "cuda": on a GPU only."""

DEFAULT_RECIPE = "quick"
DEFAULT_TASK = "html_blocks"
"""What a model that names none of its own is trained with, and on."""

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Options:
    """A `run` command, as the user gave it.

    tasks, recipe: None for each model's own. overrides: fields of recipes and tasks, such as
    "recipe.lora.r" (harness.config.overrides). max_memory: bytes of a card to plan for, None for
    this machine's; it changes how a step is carried out, not what is computed, so no key has it.
    report_to: sinks that the steps of trainings are shown in; no key has them either. verify: hash
    weights and data that are kept between commands, whatever their times say. name: of the folder
    of the tables, None for one of what is asked for (harness.pipeline.naming).
    """

    models: tuple[str, ...] = ("gemma3-270m",)
    tasks: tuple[str, ...] | None = None
    recipe: str | None = None
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    max_memory: int | None = None
    report_to: tuple[str, ...] = ()
    verify: bool = False
    registry: Path | None = None
    runs: Path = Path("runs")
    results: Path = Path("results")
    name: str | None = None

    @property
    def max_steps(self) -> int | None:
        """Optimiser steps of each training, where the command bounds them."""
        return self.overrides.get("recipe.max_steps")

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
    runs = []
    for name in options.models:
        model = registry.model(name)
        recipe = override(registry.recipe(options.recipe_of(model)), options.overrides)
        located = locate(model, options.weights.get(name), verify=options.verify)
        for task_name in options.tasks_of(model):
            task = override(registry.task(task_name), options.overrides)
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
    device = "cuda" if has_gpu() else "cpu"
    weights = {
        "identity": located.identity,
        "quantization": recipe.quantization_of(model.parameters),
        "precision": recipe.precision,
        "machine": {"device": device, "bf16": cpu_has_bf16()},
        "libraries": libraries(*_under(model, located, device)),
    }
    training = recipe.model_dump(
        exclude={*UNKEYED["recipe"], "name", "quantization", "precision"}  # these are in weights
    )
    decoding = task.decoding.model_dump()
    keys: dict[str, str] = {}
    keys["prepare"] = digest(
        {
            "source": data_identity(task, task_dir, data_path),
            "data": task.data.model_dump(),
            "columns": task.columns.model_dump() if task.columns else None,
            "split": task.split.model_dump(),
            "code": code(*CODE["prepare"]),
            "libraries": libraries("prepare"),
        }
    )
    watched = recipe.eval_samples > 0
    keys["train"] = digest(
        {
            "weights": weights,
            "recipe": training,
            "template": task.template,
            "seed": seed,
            "prepare": keys["prepare"],
            "samples": [decoding, code(*CODE["samples"]), libraries("samples")] if watched else [],
            "code": code(*CODE["train"]),
        }
    )
    for arm in ARMS:
        common = {
            "weights": weights,
            "template": task.template,
            "prepare": keys["prepare"],
            "limit": limit,
            "adapter": keys["train"] if arm == "tuned" else None,
            "code": code(*CODE["answer"]),
        }
        keys[f"generate-{arm}"] = digest({**common, "decoding": decoding})
        keys[f"measure-{arm}"] = digest({**common, "max_length": recipe.max_length})
    made = [keys[f"{verb}-{arm}"] for arm in ARMS for verb in ("generate", "measure")]
    keys["score"] = digest(
        {
            "made": made,
            # What scorers find on this machine, as the Nu checker, is in their signatures.
            "metrics": [m.signature for each in get(task.scorers, task.text) for m in each.metrics],
            "code": code(*CODE["score"]),
            "libraries": libraries("score"),
        }
    )
    keys["compare"] = digest(
        {
            "score": keys["score"],
            "run": [model.name, task.name, recipe.name, seed],
            "code": code(*CODE["compare"]),
            "libraries": libraries("compare"),
        }
    )
    identity = {
        "model": model.model_dump(exclude=set(UNKEYED["model"])),
        "weights": weights,
        "task": task.model_dump(exclude=set(UNKEYED["task"])),
        "recipe": recipe.model_dump(exclude=set(UNKEYED["recipe"])),
        "seed": seed,
        "limit": limit,
        "keys": dict(keys),
    }
    return Run(model, task, task_dir, recipe, seed, limit, located, data_path, keys, identity)


def _under(model: ModelConfig, located: Located, device: str) -> list[str]:
    """The groups of LIBRARIES that loading and running the model goes through."""
    groups = ["weights"]
    if model.source.kind != "scripted" and "gguf" not in located.identity:
        plain = (Path(located.path) / "tokenizer.json").is_file()
        groups += [] if plain else ["tokenizer"]
    if "gguf" in located.identity:
        groups.append("embedded")
    return [*groups, "cuda"] if device == "cuda" else groups


def environment() -> dict[str, str]:
    """Versions of what stood under a run, for its manifest."""
    names = dict.fromkeys(name for group in LIBRARIES.values() for name in group)
    return {
        "harness": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: version_of(name) for name in names},
    }


def libraries(*groups: str) -> dict[str, str]:
    """The versions of Python and of the packages in these groups of LIBRARIES."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python} | {n: version_of(n) for group in groups for n in LIBRARIES[group]}


@cache
def code(*parts: str) -> str:
    """Hash of the source files named (folders whole): changed code makes its stages anew."""
    files: list[Path] = []
    for part in parts:
        place = _PACKAGE / part
        files.extend(sorted(place.rglob("*.py")) if place.is_dir() else [place])
    return digest({f.relative_to(_PACKAGE).as_posix(): file_digest(f) for f in files})
