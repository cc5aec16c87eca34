"""Links inside a run's folder: refused, never followed, and nothing is deleted through one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from harness.errors import UsageError

FOREIGN = ("wandb", "tensorboard", "trackio")
"""Folders in which experiment trackers keep files of their own, links too; we never read them."""


def refuse_links(folder: Path) -> None:
    """Raise UsageError, naming it, where anything in a run's folder is a symbolic link."""
    if (link := first_link(folder)) is not None:
        raise UsageError(
            f"{link} is a link, and links inside a run's folder are not followed; remove it, or "
            "put what it leads to in its place"
        )


def first_link(folder: Path) -> Path | None:
    """Some symbolic link in the folder or below, or None; what cannot be listed has none."""
    waiting: list[tuple[Path, tuple[str, ...]]] = [(folder, FOREIGN)]
    while waiting:
        place, passed = waiting.pop()
        with suppress(OSError), os.scandir(place) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_symlink():
                    return Path(entry.path)
                if entry.is_dir() and entry.name not in passed:
                    waiting.append((Path(entry.path), ()))
    return None
