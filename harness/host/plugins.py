"""What other installed packages add to this project, by entry points."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@cache
def plugins(group: str) -> dict[str, list[EntryPoint]]:
    """The entry points of a group, by name, unloaded; looked for once a process."""
    from importlib.metadata import entry_points

    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=group):
        found.setdefault(entry.name, []).append(entry)
    return found


def package_of(entry: EntryPoint) -> str:
    """The package that an entry point is of, and its version."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module
