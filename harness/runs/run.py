"""One (model, task, recipe, seed): what is asked for, and where its weights and data are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.config.schema import ModelConfig, RecipeConfig, TaskConfig
    from harness.models.locate import Located

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


@dataclass(frozen=True, slots=True)
class GivenAdapter:
    """An adapter in PEFT's format that a run did not train. digest: of its files."""

    folder: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Run:
    """One (model, task, recipe, seed).

    limit:     held-out prompts that are asked at most.
    data_path: the user's own rows, instead of the task's source.
    weights:   what tells the loaded base from another: the files' identity, how they are held and
               on what kind of machine, and the libraries that only some weights need.
    keys:      by stage (harness.runs.stage).
    adapters:  others of the same base that answer as well, by the name of their system.
    """

    model: ModelConfig
    task: TaskConfig
    task_dir: Path
    recipe: RecipeConfig
    seed: int
    limit: int | None
    located: Located
    data_path: str | None
    weights: Mapping[str, Any]
    keys: Mapping[str, str]
    adapters: Mapping[str, GivenAdapter] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.model.name} on {self.task.name}, {self.recipe.name}, seed {self.seed}"

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this run from another, and names its folder."""
        return {
            "model": self.model.model_dump(exclude=set(UNKEYED["model"])),
            "weights": dict(self.weights),
            "task": self.task.model_dump(exclude=set(UNKEYED["task"])),
            "recipe": self.recipe.model_dump(exclude=set(UNKEYED["recipe"])),
            "seed": self.seed,
            "limit": self.limit,
            "adapters": {name: each.digest for name, each in self.adapters.items()},
            "keys": dict(self.keys),
        }
