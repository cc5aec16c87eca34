"""Scorers that are scripts: evaluate:PATH, where a path begins at the file that names it."""

from __future__ import annotations

import os
from pathlib import Path

EVALUATE = "evaluate:"


def resolve(asked: str, folder: Path) -> str:
    """The name of a scorer with a script's path made absolute; `folder` is where it begins.

    For the names in a task's file: evaluate:./metric.py is the script beside that file. Other
    names stay as they are.
    """
    given = asked.removeprefix(EVALUATE)
    if given == asked or not is_path(given):
        return asked
    return EVALUATE + os.path.abspath(folder / Path(given).expanduser())


def is_path(given: str) -> bool:
    """Whether what follows "evaluate:" is a script's path, and no name of the hub's."""
    return given.endswith(".py") or given.startswith((".", "~")) or Path(given).is_absolute()
