"""What a command needs and this machine lacks, found before any work and without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.config.registry import Registry, printable
from harness.config.schema import ScriptedSource
from harness.data.hub import fetch_snapshot
from harness.data.load import available
from harness.errors import MissingError, UsageError
from harness.generation.scripted import ScriptedEngine
from harness.models.locate import ensure, missing
from harness.plan import Options
from harness.scorers import get


def preflight(options: Options) -> None:
    """Check names, paths and what models and tasks need.

    Raises UsageError for the first fault of the command itself, then MissingError with one
    sentence, a line each, for all that the machine lacks.
    """
    registry = Registry(options.registry)
    _once("--models", options.models)
    _once("--tasks", options.tasks)
    _once("--seeds", [str(seed) for seed in options.seeds])
    _only_for("--weights", options.weights, options.models)
    _only_for("--data", options.data, options.tasks)
    models = [registry.model(name) for name in options.models]
    tasks = [registry.task(name) for name in options.tasks]
    registry.recipe(options.recipe)
    for task in tasks:
        try:
            get(task.scorers)
        except UsageError as error:
            raise UsageError(f"{registry.path('tasks', task.name)}: {error}") from error
    for what, folder in (("--runs", options.runs), ("--results", options.results)):
        writable(what, folder)
    faults = [
        *(missing(model, options.weights.get(model.name)) for model in models),
        *(available(task, options.data.get(task.name)) for task in tasks),
    ]
    if found := [fault for fault in faults if fault]:
        raise MissingError("\n".join(found))
    for model in models:
        if isinstance(model.source, ScriptedSource):
            ScriptedEngine(Path(options.weights.get(model.name) or model.source.path or ""))


def fetch(options: Options, say: Callable[[str], None]) -> None:
    """Download what the command takes from the hub, before runs are keyed by its commit.

    Raises MissingError or StorageError.
    """
    registry = Registry(options.registry)
    for name in options.models:
        ensure(registry.model(name), options.weights.get(name), say)
    for name in options.tasks:
        task = registry.task(name)
        if task.data.hub is not None and name not in options.data:
            fetch_snapshot(task, say)


def writable(option: str, folder: Path) -> None:
    """Check that `folder` is one that can be written to, or could be made: nothing is.

    option: what names it on the command line. Raises UsageError.
    """
    try:
        os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        pass  # it can be made, or what is in its way is named below
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{option} {printable(str(folder))}: {reason}; give another folder."
        ) from error
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UsageError(f"{option} {folder}: {place} is not a folder; give another.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {folder}: {place} cannot be written to; give another folder.")


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
