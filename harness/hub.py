"""The hub, without its library: the local cache, a token, whether it is within reach."""

from __future__ import annotations

import os
import socket
import threading
import urllib.parse
import urllib.request
from contextlib import suppress
from functools import cache
from pathlib import Path

DEFAULT_ENDPOINT = "https://huggingface.co"
PROBE_SECONDS = 1.5


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


def cached_snapshot(repo: str, revision: str, kind: str) -> Path | None:
    """The folder of a complete snapshot of `repo` in the local cache, or None.

    kind: "model" or "dataset". A snapshot counts as complete when no download of the
    repository is left half-done and, for a model, config and weights are there.
    """
    root = Path(os.environ.get("HF_HUB_CACHE") or home() / "hub")
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
