"""A `run` command, as the user gave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.config.schema import ModelConfig

DEFAULT_RECIPE = "small"
DEFAULT_TASK = "html_blocks"
"""What a model that names none of its own is trained with, and on."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a command asks for.

    adapters: folders of adapters that answer as well, by the name of their system. tasks, recipe:
    None for each model's own. overrides: fields of recipes and tasks, such as
    "recipe.lora.r" (harness.config.overrides). max_memory: bytes of a card to plan for, None for
    this machine's; it changes how a step is carried out, not what is computed, so no key has it.
    report_to: experiment trackers that show the steps of trainings; no key has them either.
    verify: hash weights and data that are kept between commands, whatever their times say. name:
    of the folder of the tables, None for one of what is asked for (harness.pipeline.naming).
    """

    models: tuple[str, ...] = ("gemma3-270m",)
    tasks: tuple[str, ...] | None = None
    recipe: str | None = None
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    adapters: Mapping[str, str] = field(default_factory=dict)
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
