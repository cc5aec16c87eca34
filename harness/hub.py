"""The hub, without its library: the local cache, a token, whether it is within reach."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

from harness.errors import MissingError, StorageError

Kind = Literal["model", "dataset"]

DEFAULT_ENDPOINT = "https://huggingface.co"
PROBE_SECONDS = 1.5
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def home() -> Path:
    """The folder of the hub's libraries: $HF_HOME or the system's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or Path(base) / "huggingface").expanduser()


def token() -> str | None:
    """The user's hub token, from the environment or the file that the hub's login writes."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if value := os.environ.get(name):
            return value
    try:
        path = os.environ.get("HF_TOKEN_PATH") or home() / "token"
        return Path(path).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def cached_snapshot(repo: str, revision: str, kind: Kind) -> Path | None:
    """The folder of a whole snapshot of `repo` in the local cache, or None.

    A snapshot is whole when no download of the repository is left half-done, and a model's when
    config and every safetensors file that its index names are there.
    """
    root = Path(os.environ.get("HF_HUB_CACHE") or home() / "hub").expanduser()
    folder = root / f"{kind}s--{repo.replace('/', '--')}"
    try:
        reference = folder / "refs" / revision
        commit = reference.read_text().strip() if reference.is_file() else revision
        snapshot = folder / "snapshots" / commit
        if not snapshot.is_dir() or any(folder.glob("blobs/*.incomplete")):
            return None
        if kind == "model" and not _has_weights(snapshot):
            return None
        return snapshot if any(snapshot.iterdir()) else None
    except OSError:
        return None


def _has_weights(snapshot: Path) -> bool:
    if not (snapshot / "config.json").exists():
        return False
    try:
        index = json.loads((snapshot / "model.safetensors.index.json").read_bytes())
        return all((snapshot / name).exists() for name in set(index["weight_map"].values()))
    except FileNotFoundError:
        return any(snapshot.glob("*.safetensors"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def fetch(
    repo: str, revision: str, kind: Kind, local_copy: str, say: Callable[[str], None]
) -> Path:
    """The folder of a snapshot of `repo`, from the cache or downloaded into it.

    Once it is there its commit stays the same, so that what is keyed by it does too.
    local_copy: the option that takes a local copy instead, for the sentence of an error.
    Raises MissingError (not to be had), StorageError (no room for it).
    """
    if found := cached_snapshot(repo, revision, kind):
        return found
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError

    mend = f"give a local copy with {local_copy}"
    if not reachable():
        raise MissingError(f"{repo} is not in the cache, and the hub is not within reach; {mend}.")
    say(f"downloading {repo}")
    # Weights in any other format are not loaded: they can hold code.
    wanted = ["*.json", "*.safetensors", "*.model", "*.txt"] if kind == "model" else None
    try:
        snapshot_download(repo, repo_type=kind, revision=revision, allow_patterns=wanted)
    except GatedRepoError as error:
        raise MissingError(
            f"{repo} is gated and your token has no access; accept its licence at "
            f"{DEFAULT_ENDPOINT}/{repo}, or {mend}."
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise StorageError(
                f"{repo} cannot be stored ({error.strerror}); free space, or set HF_HOME."
            ) from error
        # The error's own text holds addresses and request ids, not a mend.
        raise MissingError(
            f"{repo} could not be downloaded ({type(error).__name__}); try again, or {mend}."
        ) from error
    found = cached_snapshot(repo, revision, kind)
    if found is None:
        raise MissingError(
            f"{repo} at revision {revision} has no config.json or no safetensors; {mend}."
        )
    return found


def offline() -> bool:
    """Whether the user has switched the hub off (HF_HUB_OFFLINE, HF_DATASETS_OFFLINE)."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


def reachable() -> bool:
    """Whether the hub's host, or the proxy in front of it, takes a connection; 1.5 s at most."""
    if offline():
        return False
    endpoint = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT)
    proxy = urllib.request.getproxies().get(endpoint.scheme)
    if proxy and not urllib.request.proxy_bypass(endpoint.hostname or ""):
        endpoint = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        port = endpoint.port or (443 if endpoint.scheme == "https" else 80)
    except ValueError:
        return False
    return _answers(endpoint.hostname or "", port)


@cache
def _answers(host: str, port: int) -> bool:
    """Asked once a process, in a thread, since looking a name up has no time limit of its own."""
    answered = threading.Event()

    def probe() -> None:
        with suppress(OSError, ValueError):
            socket.create_connection((host, port), PROBE_SECONDS).close()
            answered.set()

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answered.is_set()
