"""A data set of the hub, by name: from its cache or over the network."""

from __future__ import annotations

import errno
import glob
import os
import socket
import threading
import urllib.parse
import urllib.request
from pathlib import Path

from harness.config.schema import ColumnsConfig
from harness.data.quiet import quiet_datasets
from harness.data.rows import Rows, one_line, used_columns
from harness.errors import DataError, MissingError, StorageError

_PROBE_SECONDS = 1.5
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


def read(name: str, columns: ColumnsConfig, *, split: str, revision: str | None, task: str) -> Rows:
    """All rows of the split. Raises MissingError (cannot be had), DataError or StorageError."""
    missing = problem(name, task)
    if missing:
        raise MissingError(missing)
    with quiet_datasets() as datasets:
        offline = datasets.config.HF_HUB_OFFLINE
        # Without this the client retries an unreachable hub for 24 s before it takes the cache.
        datasets.config.HF_HUB_OFFLINE = offline or _is_offline() or not _reachable()
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
            datasets.config.HF_HUB_OFFLINE = offline


def problem(name: str, task: str) -> str | None:
    """None where the data set is cached or the hub answers, else one sentence. Under 2 s."""
    if _cached(name):
        return None
    if _is_offline():
        return (
            f"task '{task}' needs the data set {name}, which is not cached while the hub is "
            f"switched off (HF_HUB_OFFLINE): {_mend(task)}."
        )
    if not _reachable():
        return (
            f"task '{task}' needs the data set {name}, which is not cached, and the hub cannot "
            f"be reached: {_mend(task)}."
        )
    return None


def _mend(task: str) -> str:
    return f"give a local copy with --data {task}=PATH"


def _is_offline() -> bool:
    from huggingface_hub import constants

    switched = (os.environ.get(name, "").upper() for name in _OFFLINE_VARIABLES)
    return bool(constants.HF_HUB_OFFLINE) or any(
        value in ("1", "TRUE", "YES", "ON") for value in switched
    )


def _cache_folder() -> Path:
    """Where `datasets` keeps what it has prepared."""
    from huggingface_hub import constants

    default = Path(os.environ.get("HF_HOME") or constants.HF_HOME, "datasets")
    return Path(os.environ.get("HF_DATASETS_CACHE") or default).expanduser()


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


def _reachable() -> bool:
    """Whether the hub's host, or the proxy in front of it, takes a TCP connection."""
    from huggingface_hub import constants

    endpoint = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or constants.ENDPOINT)
    proxy = urllib.request.getproxies().get(endpoint.scheme)
    host = endpoint.hostname or ""
    if proxy and not urllib.request.proxy_bypass(host):
        endpoint = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host = endpoint.hostname or ""
    answered = threading.Event()

    def probe() -> None:
        try:
            port = endpoint.port or (443 if endpoint.scheme == "https" else 80)
            socket.create_connection((host, port), _PROBE_SECONDS).close()
        except (OSError, ValueError):
            return
        answered.set()

    # A thread, since looking a name up has no time limit of its own.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    return answered.is_set()
