"""What is known of the hub without talking to it: its cache, a token, whether it is within reach."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_ENDPOINT = "https://huggingface.co"
PROBE_SECONDS = 1.5


def _home() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or Path(base) / "huggingface").expanduser()


def token() -> str | None:
    """The user's hub token, from the environment or the file that the hub's login writes."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if value := os.environ.get(name):
            return value
    try:
        path = os.environ.get("HF_TOKEN_PATH") or _home() / "token"
        return Path(path).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def cached_snapshot(repo: str, revision: str, kind: str) -> Path | None:
    """The folder of a complete snapshot of `repo` in the local cache, or None.

    kind: "model" or "dataset". A snapshot counts as complete when no download of the
    repository is left half-done and, for a model, config and weights are there.
    """
    root = Path(os.environ.get("HF_HUB_CACHE") or _home() / "hub")
    folder = root / f"{kind}s--{repo.replace('/', '--')}"
    try:
        reference = folder / "refs" / revision
        commit = reference.read_text().strip() if reference.is_file() else revision
        snapshot = folder / "snapshots" / commit
        if not snapshot.is_dir() or any(folder.glob("blobs/*.incomplete")):
            return None
        if kind == "model" and not (
            (snapshot / "config.json").exists() and any(snapshot.glob("*.safetensors"))
        ):
            return None
        return snapshot
    except OSError:
        return None


@cache
def reachable() -> bool:
    """Whether a connection to the hub opens within a second or so (asked once a process)."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    parts = urlsplit(os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT)
    if not parts.hostname or any(os.environ.get(p) for p in ("HTTPS_PROXY", "https_proxy")):
        return bool(parts.hostname)  # behind a proxy only the download itself can tell
    address = (parts.hostname, parts.port or (80 if parts.scheme == "http" else 443))
    answered = threading.Event()

    def probe() -> None:
        with suppress(OSError):
            socket.create_connection(address, PROBE_SECONDS).close()
            answered.set()

    # In a thread, for a name look-up has no time limit of its own.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answered.is_set()
