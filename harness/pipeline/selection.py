"""What a command names, read from the registry once: all that follows works on these entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.config.overrides import override
from harness.config.registry import Registry
from harness.config.schema import ModelConfig, RecipeConfig, TaskConfig
from harness.errors import UsageError
from harness.host.text import quoted
from harness.pipeline.given_adapters import given_adapters
from harness.pipeline.options import Options
from harness.runs.run import GivenAdapter
from harness.scorers import get

Entry = TypeVar("Entry", TaskConfig, RecipeConfig)


@dataclass(frozen=True, slots=True)
class Selected:
    """A model with its recipe and the tasks that it is run on, as the command changes them."""

    model: ModelConfig
    recipe: RecipeConfig
    tasks: tuple[TaskConfig, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """The entries of a command, models in the order given.

    task_dirs: the folder of each task's file, by the task's name.
    adapters: those given, by the name of their system.
    """

    options: Options
    chosen: tuple[Selected, ...]
    task_dirs: dict[str, Path]
    adapters: dict[str, GivenAdapter]

    @property
    def models(self) -> list[ModelConfig]:
        return [each.model for each in self.chosen]

    @property
    def tasks(self) -> list[TaskConfig]:
        """All tasks, each once, in the order of first use."""
        return list({task.name: task for each in self.chosen for task in each.tasks}.values())


def select(options: Options) -> Selection:
    """Read what the command names, and hold it against what else the command says.

    Raises UsageError for the first fault of the command itself or of an entry, MissingError where
    a scorer lacks what it needs.
    """
    registry = Registry(options.registry)
    _once("--models", options.models)
    _once("--tasks", options.tasks or ())
    _once("--seeds", [str(seed) for seed in options.seeds])
    _only_for("--weights", options.weights, options.models)
    models = [registry.model(name) for name in options.models]
    tasks: dict[str, TaskConfig] = {}
    for model in models:
        for name in options.tasks_of(model):
            if name not in tasks:
                entry = _own(registry, model, options.tasks, registry.task, name)
                tasks[name] = override(entry, options.overrides)
    _only_for("--data", options.data, list(tasks))
    chosen = []
    for model in models:
        asked = options.recipe_of(model)
        recipe = _own(registry, model, options.recipe, registry.recipe, asked)
        own = tuple(tasks[name] for name in options.tasks_of(model))
        chosen.append(Selected(model, override(recipe, options.overrides), own))
    for task in tasks.values():
        try:
            get(task.scorers)
        except UsageError as error:
            in_file = "task.scorers" not in options.overrides
            where = registry.path("tasks", task.name) if in_file else "--set scorers"
            raise UsageError(f"{where}: {error}") from error
    folders = {name: registry.path("tasks", name).parent for name in tasks}
    return Selection(options, tuple(chosen), folders, given_adapters(options.adapters, models))


def _own(
    registry: Registry,
    model: ModelConfig,
    asked: object,
    read: Callable[[str], Entry],
    name: str,
) -> Entry:
    """The entry `name`; where the command did not ask for it, a fault is the model's file's."""
    try:
        return read(name)
    except UsageError as error:
        if asked is not None:
            raise
        where = registry.path("models", model.name)
        told = "\n".join(f"{where}: {line}" for line in str(error).split("\n"))
        raise UsageError(told) from error


def _once(option: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{option} names {quoted(name)} twice; name it once.")


def _only_for(option: str, given: object, names: Sequence[str]) -> None:
    for name in given if isinstance(given, dict) else ():
        if name not in names:
            raise UsageError(
                f"{option} is for {quoted(name)}, but this command runs {', '.join(names)}; "
                "name it there too, or leave it out."
            )
