"""A data set of the hub: its snapshot is a folder, read like any local copy of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.config.schema import TaskConfig
from harness.hub import cached_snapshot, checked_snapshot, fetch, offline, reachable


def snapshot(task: TaskConfig) -> Path | None:
    """The cached snapshot of the task's data set, or None."""
    return cached_snapshot(task.data.hub or "", task.data.revision or "main", "dataset")


def fetch_snapshot(task: TaskConfig, say: Callable[[str], None], *, verify: bool = False) -> Path:
    """The snapshot, downloaded if it is not there or damaged. verify: hash all of its files.

    Raises MissingError or StorageError.
    """
    name, revision = task.data.hub or "", task.data.revision or "main"
    return fetch(name, revision, "dataset", _option(task), say, verify=verify)


def check_snapshot(task: TaskConfig, say: Callable[[str], None], *, verify: bool = False) -> None:
    """Say what of the snapshot would be downloaded again. Raises MissingError if it cannot be."""
    name, revision = task.data.hub or "", task.data.revision or "main"
    checked_snapshot(name, revision, "dataset", _option(task), say, verify=verify)


def problem(task: TaskConfig) -> str | None:
    """None where the data set is cached or the hub answers, else one sentence. Under 2 s."""
    if snapshot(task) is not None:
        return None
    name, mend = task.data.hub, f"give a local copy with {_option(task)}"
    if offline():
        return (
            f"task '{task.name}' needs the data set {name}, which is not cached while the hub is "
            f"switched off (HF_HUB_OFFLINE): {mend}."
        )
    if not reachable():
        return (
            f"task '{task.name}' needs the data set {name}, which is not cached, and the hub "
            f"cannot be reached: {mend}."
        )
    return None


def _option(task: TaskConfig) -> str:
    return f"--data {task.name}=PATH"
