"""The hub: its local cache, a token, downloads, whether it is within reach.

Its library is imported where a command comes to the hub: its constants in 0.04 s, its downloads in
0.7 s. A snapshot that is in the cache is found without the latter, and more strictly:
`snapshot_download(local_files_only=True)` waits for ever where a reference is a pipe, and takes a
folder that it has no list of files of for whole.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal

from harness.errors import MissingError, StorageError
from harness.host.checksums import cached_seal
from harness.host.paths import read_text
from harness.model_folder import (
    OTHER_FORMATS,
    READ_BESIDE_WEIGHTS,
    UnfitError,
    is_whole,
    read_files,
    weight_files,
)

Kind = Literal["model", "dataset"]

DEFAULT_ENDPOINT = "https://huggingface.co"
PROBE_SECONDS = 1.5
MODEL_FILES = [*READ_BESIDE_WEIGHTS, "*.safetensors", "*.safetensors.index.json"]
"""What is downloaded of a model. Weights in any other format are not loaded: they can hold code."""

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def cache_folder() -> Path:
    """Where the hub's library keeps snapshots."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def token() -> str | None:
    """The user's hub token, from wherever the hub's library takes it."""
    from huggingface_hub import get_token

    try:
        return get_token()
    except Exception:  # a file that cannot be read, a login of a CI that fails
        return None


def cached_snapshot(repo: str, revision: str, kind: Kind) -> Path | None:
    """The folder of a whole snapshot of `repo` in the local cache, or None.

    A snapshot is whole when no download of the repository is left half-done, and a model's when
    config and every safetensors file that its index names are there.
    """
    snapshot = _snapshot(repo, revision, kind)
    try:
        if snapshot is None or (kind == "model" and not is_whole(snapshot)):
            return None
        return snapshot if any(snapshot.iterdir()) else None
    except OSError:
        return None


def _snapshot(repo: str, revision: str, kind: Kind) -> Path | None:
    """The folder of a snapshot that no download is left half-done of, or None.

    Laid out as https://huggingface.co/docs/huggingface_hub/guides/manage-cache says.
    """
    folder = cache_folder() / f"{kind}s--{repo.replace('/', '--')}"
    try:
        reference = folder / "refs" / revision
        commit = read_text(reference).strip() if reference.is_file() else revision
        snapshot = folder / "snapshots" / commit
        if not snapshot.is_dir() or any(folder.glob("blobs/*.incomplete")):
            return None
        return snapshot
    except (OSError, ValueError):
        return None


def unfit(repo: str, revision: str) -> str | None:
    """Why the cached snapshot of a model cannot be loaded, as one sentence, or None."""
    snapshot = _snapshot(repo, revision, "model")
    try:
        if snapshot is not None:
            read_files(snapshot)
    except UnfitError as fault:
        return f"{repo} in the hub's cache ({snapshot}) {fault}"
    except OSError as error:
        return f"{repo} in the hub's cache ({snapshot}) cannot be read ({error.strerror})."
    return None


def incomplete(repo: str, revision: str) -> str | None:
    """What a model's snapshot in the cache holds in place of weights that are loaded, or None."""
    snapshot = _snapshot(repo, revision, "model")
    try:
        if snapshot is not None and any(snapshot.iterdir()):
            weight_files(snapshot)
    except UnfitError as fault:
        return f"{repo} in the hub's cache ({snapshot}) {fault}"
    except OSError:
        return None
    return None


def damaged(snapshot: Path, kind: Kind, *, verify: bool = False) -> list[str]:
    """The files of a cached snapshot that are not what was downloaded, by their names.

    Each is hashed when it is first seen, and again where its size or times have changed.
    verify: hash all.
    """
    names: list[str] = []
    if kind == "model":
        with suppress(UnfitError):
            names = read_files(snapshot)
    if not names:  # a data set, or a model of which a damaged file hides what is read
        names = sorted(
            f.relative_to(snapshot).as_posix() for f in snapshot.rglob("*") if not f.is_dir()
        )
    seal = cached_seal(snapshot)
    found = seal.damaged(names, verify=verify)
    seal.save()
    return found


def fetch(
    repo: str,
    revision: str,
    kind: Kind,
    local_copy: str,
    say: Callable[[str], None],
    *,
    verify: bool = False,
) -> Path:
    """The folder of a snapshot of `repo`, from the cache or downloaded into it, and checked.

    Once it is there its commit stays the same, so that what is keyed by it does too.
    local_copy: the option that takes a local copy instead, for the sentence of an error.
    verify: hash all files of it, whatever their times say.
    Raises MissingError (not to be had, or damaged), StorageError (no room for it).
    """
    mend = f"give a local copy with {local_copy}"
    found, faulty = checked_snapshot(repo, revision, kind, local_copy, say, verify=verify)
    if found is not None and not faulty:
        return found
    if found is not None:
        revision = found.name
        _drop(found, faulty)
    say(f"downloading {repo}")
    _download(repo, revision, kind, mend)
    found = cached_snapshot(repo, revision, kind)
    if found is None:
        why = unfit(repo, revision) or _formats(repo, revision) if kind == "model" else None
        why = why or f"{repo} at revision {revision} has no config.json or no safetensors"
        raise MissingError(f"{why.rstrip('.')}; {mend}.")
    if faulty := damaged(found, kind):
        raise MissingError(
            f"{repo}: {_listed(faulty)} is damaged again after a download; check the disk under "
            f"{cache_folder()}, or {mend}."
        )
    return found


def checked_snapshot(
    repo: str,
    revision: str,
    kind: Kind,
    local_copy: str,
    say: Callable[[str], None],
    *,
    verify: bool = False,
) -> tuple[Path | None, list[str]]:
    """The cached snapshot, or None, and its damaged files, which `fetch` would download again.

    Raises MissingError where something has to be downloaded and the hub is not within reach.
    """
    found = cached_snapshot(repo, revision, kind)
    faulty = [] if found is None else damaged(found, kind, verify=verify)
    mend = f"give a local copy with {local_copy}"
    if found is None:
        if not reachable():
            raise MissingError(
                f"{repo} is not in the cache, and the hub is not within reach; {mend}."
            )
    elif faulty:
        if not reachable():
            raise MissingError(
                f"{repo}: {_listed(faulty)} in the hub's cache ({found}) is not what was "
                f"downloaded, and the hub is not within reach; connect to it, or {mend}."
            )
        say(f"{repo}: {_listed(faulty)} in the hub's cache is damaged and downloaded again")
    return found, faulty


def _listed(names: list[str]) -> str:
    """The first of the names, and how many more there are."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _drop(snapshot: Path, names: list[str]) -> None:
    """Remove files of a snapshot and the blobs that they link to, so that they are had anew."""
    seal = cached_seal(snapshot)
    for name in names:
        file = snapshot / name
        with suppress(OSError):
            if file.is_symlink():
                blob = Path(os.path.normpath(snapshot / os.readlink(file)))
                if blob.parent.name == "blobs":
                    blob.unlink()
        with suppress(OSError):
            file.unlink()
        seal.forget(name)
    seal.save()


def _download(repo: str, revision: str, kind: Kind, mend: str) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError

    wanted, unwanted = (MODEL_FILES, "*/*") if kind == "model" else (None, None)
    try:
        snapshot_download(
            repo,
            repo_type=kind,
            revision=revision,
            allow_patterns=wanted,
            ignore_patterns=unwanted,
            cache_dir=cache_folder(),
        )
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


def _formats(repo: str, revision: str) -> str | None:
    """That a repository has its weights in formats that are not loaded, where that is so."""
    from huggingface_hub import list_repo_files

    with suppress(Exception):  # the sentence without this knowledge is right too
        for name in list_repo_files(repo, revision=revision):
            if any(fnmatchcase(name, pattern) for pattern in OTHER_FORMATS):
                return (
                    f"{repo} at revision {revision} has {name} and no safetensors; other formats "
                    "can hold code and are not loaded"
                )
    return None


def offline() -> bool:
    """Whether the user has switched the hub off (HF_HUB_OFFLINE and its like)."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
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
