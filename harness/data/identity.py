"""What tells one state of a task's data from another, found without reading a row."""

from __future__ import annotations

import os
from pathlib import Path

from harness.config.schema import TaskConfig
from harness.data.hub import snapshot
from harness.data.rows import one_line, shown
from harness.errors import DataError
from harness.files import file_digest


def identity(task: TaskConfig, task_dir: Path, path: str | None) -> dict[str, str]:
    """Hashes of the local data files, of the generator's source, or the hub's name and revision.

    Call after `load.available` found nothing amiss with `path`. Raises DataError where a file of
    the data cannot be read, OSError where one of the generator's cannot.
    """
    if path is not None:
        place = Path(os.path.expanduser(path))
        files = sorted(f for f in place.rglob("*") if f.is_file()) if place.is_dir() else [place]
        try:
            return {f.relative_to(place).as_posix(): file_digest(f) for f in files}
        except OSError as error:
            raise DataError(
                f"{shown(error.filename or place)} cannot be read "
                f"({one_line(error.strerror or error)}): change its permissions."
            ) from error
    if task.data.generator is not None:
        # All that the generator may read; its bytecode and the task's own settings are keyed apart.
        return {
            f.relative_to(task_dir).as_posix(): file_digest(f)
            for f in sorted(task_dir.rglob("*"))
            if f.is_file() and "__pycache__" not in f.parts and f.name != "task.toml"
        }
    found = snapshot(task)
    revision = found.name if found else task.data.revision or "main"
    return {"hub": task.data.hub or "", "revision": revision}
