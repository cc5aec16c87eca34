"""What a command needs and this machine lacks, found before any work and without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from harness.backends.scripted import ScriptedEngine
from harness.config.overrides import override
from harness.config.registry import Registry, printable
from harness.config.schema import (
    HubSource,
    LocalSource,
    ModelConfig,
    RecipeConfig,
    ScriptedSource,
    TaskConfig,
)
from harness.data.hub import check_snapshot, fetch_snapshot
from harness.data.load import available
from harness.data.rows import shown
from harness.errors import MissingError, UsageError
from harness.host.paths import expanded
from harness.hub import cached_snapshot
from harness.models import sanity
from harness.models.locate import ensure, missing
from harness.pipeline.plan import Options
from harness.scorers import get
from harness.tracking import require

Entry = TypeVar("Entry", TaskConfig, RecipeConfig)
# As long as what is written below a folder of runs: model, task, recipe with seed and key, a file.
_DEEPEST = "/".join("x" * length for length in (64, 64, 100, 64))


def preflight(options: Options) -> None:
    """Check names, paths and what models and tasks need.

    Raises UsageError for the first fault of the command itself, then MissingError with one
    sentence, a line each, for all that the machine lacks.
    """
    require(options.report_to)
    registry = Registry(options.registry)
    _once("--models", options.models)
    _once("--tasks", options.tasks or ())
    _once("--seeds", [str(seed) for seed in options.seeds])
    _only_for("--weights", options.weights, options.models)
    models = [registry.model(name) for name in options.models]
    tasks = _tasks(registry, options, models)
    _only_for("--data", options.data, [task.name for task in tasks])
    for model in models:
        name = options.recipe_of(model)
        override(_own(registry, model, options.recipe, registry.recipe, name), options.overrides)
    for task in tasks:
        try:
            get(task.scorers)
        except UsageError as error:
            own = "task.scorers" not in options.overrides
            where = registry.path("tasks", task.name) if own else "--set scorers"
            raise UsageError(f"{where}: {error}") from error
    for what, folder in (("--runs", options.runs), ("--results", options.results)):
        writable(what, folder)
    faults = [
        *(missing(model, options.weights.get(model.name)) for model in models),
        *(available(task, options.data.get(task.name)) for task in tasks),
    ]
    if found := [fault for fault in faults if fault]:
        raise MissingError("\n".join(found))
    _sane(models, options)
    for model in models:
        if isinstance(model.source, ScriptedSource):
            ScriptedEngine(Path(options.weights.get(model.name) or model.source.path or ""))


def fetch(options: Options, say: Callable[[str], None], *, dry: bool = False) -> None:
    """Download what the command takes from the hub, before runs are keyed by its commit.

    dry: say what would be, and do nothing. Raises MissingError or StorageError.
    """
    registry = Registry(options.registry)
    models = [registry.model(name) for name in options.models]
    for model in models:
        ensure(model, options.weights.get(model.name), say, verify=options.verify, dry=dry)
    _sane(models, options)
    for task in _tasks(registry, options, models):
        if task.data.hub is not None and task.name not in options.data:
            have = check_snapshot if dry else fetch_snapshot
            have(task, say, verify=options.verify)


def _sane(models: Sequence[ModelConfig], options: Options) -> None:
    """Look at the folders of weights that are here. Raises UsageError with all that is wrong."""
    faults = []
    for model in models:
        given, source = options.weights.get(model.name), model.source
        # Weights that stand in for the registered ones may be of another size.
        parameters = model.parameters if given is None else None
        folder = None if given is None else expanded(given)
        if folder is None and isinstance(source, LocalSource):
            folder = Path(source.path)
        if folder is None and isinstance(source, HubSource):
            folder = cached_snapshot(source.repo, source.revision, "model")
        if folder is not None and not isinstance(source, ScriptedSource):
            fault = sanity.fault(folder, parameters)
            faults += [f"model {model.name}: {fault}"] if fault else []
    if faults:
        raise UsageError("\n".join(faults))


def _tasks(registry: Registry, options: Options, models: Sequence[ModelConfig]) -> list[TaskConfig]:
    """All tasks of a command, each once, in the order of first use."""
    tasks = {}
    for model in models:
        for name in options.tasks_of(model):
            task = _own(registry, model, options.tasks, registry.task, name)
            tasks[name] = override(task, options.overrides)
    return list(tasks.values())


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


def writable(option: str, folder: Path) -> None:
    """Check that `folder` is one that can be written to, or could be made: nothing is.

    option: what names it on the command line. Raises UsageError.
    """
    try:
        os.lstat(
            os.path.abspath(folder / _DEEPEST)
        )  # what is too long for the files is found now, not after hours
    except (FileNotFoundError, NotADirectoryError):
        pass  # it can be made, or what is in its way is named below
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{option} {shown(folder)}: {reason}; give another folder.") from error
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UsageError(f"{option} {shown(folder)}: {shown(place)} is not a folder; give another.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(
            f"{option} {shown(folder)}: {shown(place)} cannot be written to; give another folder."
        )


def _once(option: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{option} names {printable(name)} twice; name it once.")


def _only_for(option: str, given: object, names: Sequence[str]) -> None:
    for name in given if isinstance(given, dict) else ():
        if name not in names:
            raise UsageError(
                f"{option} is for {printable(name)}, but this command runs {', '.join(names)}; "
                "name it there too, or leave it out."
            )
