"""A data set of the hub, by name: from its cache or over the network."""

from __future__ import annotations

import errno
import glob
import os
from pathlib import Path

from harness.config.schema import ColumnsConfig
from harness.data.quiet import quiet_datasets
from harness.data.rows import Rows, one_line, used_columns
from harness.errors import DataError, MissingError, StorageError
from harness.hub import home, offline, reachable

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def read(name: str, columns: ColumnsConfig, *, split: str, revision: str | None, task: str) -> Rows:
    """All rows of the split. Raises MissingError (cannot be had), DataError or StorageError."""
    missing = problem(name, task)
    if missing:
        raise MissingError(missing)
    with quiet_datasets() as datasets:
        switched_off = datasets.config.HF_HUB_OFFLINE
        # Without this the client retries an unreachable hub for 24 s before it takes the cache.
        datasets.config.HF_HUB_OFFLINE = switched_off or not reachable()
        try:
            loaded = datasets.load_dataset(
                name, split=split, revision=revision, cache_dir=str(_cache_folder())
            )
            used = [column for column in used_columns(columns) if column in loaded.column_names]
            return Rows(list(loaded.column_names), list(loaded.select_columns(used)))
        except (datasets.exceptions.DatasetGenerationError, ValueError) as error:
            raise DataError(
                f"the data set {name} of task '{task}' cannot be read "
                f"({one_line(error.__cause__ or error)}): {_mend(task)}."
            ) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
                raise StorageError(
                    f"the data set {name} of task '{task}' cannot be stored "
                    f"({one_line(error.strerror)}): free space, or set HF_HOME."
                ) from error
            # The error's text is not repeated: it holds addresses and request ids, not a mend.
            raise MissingError(
                f"the data set {name} of task '{task}' could not be had "
                f"({type(error).__name__}): {_mend(task)}."
            ) from error
        finally:
            datasets.config.HF_HUB_OFFLINE = switched_off


def problem(name: str, task: str) -> str | None:
    """None where the data set is cached or the hub answers, else one sentence. Under 2 s."""
    if _cached(name):
        return None
    if offline():
        return (
            f"task '{task}' needs the data set {name}, which is not cached while the hub is "
            f"switched off (HF_HUB_OFFLINE): {_mend(task)}."
        )
    if not reachable():
        return (
            f"task '{task}' needs the data set {name}, which is not cached, and the hub cannot "
            f"be reached: {_mend(task)}."
        )
    return None


def _mend(task: str) -> str:
    return f"give a local copy with --data {task}=PATH"


def _cache_folder() -> Path:
    """Where `datasets` keeps what it has prepared."""
    return Path(os.environ.get("HF_DATASETS_CACHE") or home() / "datasets").expanduser()


def _cached(name: str) -> bool:
    """Whether it has been prepared before: <cache>/<owner>___<name>/<config>/<version>/<hash>."""
    root = _cache_folder()
    if not root.is_dir():
        return False
    return any(
        glob.glob(os.path.join(glob.escape(str(entry)), "*", "*", "*", "*.arrow"))
        for entry in root.iterdir()
        if _plain(entry.name) == _plain(name)
    )


def _plain(name: str) -> str:
    """A name without case and underscores: `datasets` writes `MyData` as `my_data`."""
    return name.replace("/", "").replace("_", "").casefold()
