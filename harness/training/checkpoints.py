"""Checkpoints of a training: written whole or not at all, found damaged, limited in number."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness.host.files import file_digest, write_atomic
from harness.host.paths import read_text
from harness.host.temporary import remove

_NAME = re.compile(r"step-(\d{8})\.pt")
_BEST = re.compile(r"best-(\d{8})\.pt")


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], limit: int) -> None:
    """Publish `state` as the checkpoint after `step` steps; keep the newest `limit`.

    The seal beside it (its hash) is written last: a checkpoint without one does not count.
    Raises StorageError when the disk refuses it; older checkpoints are intact then.
    """
    _write(folder / f"step-{step:08d}.pt", state)
    for _, old in _found(folder, _NAME)[limit:]:
        _remove(old)
    _drop_outdone(folder)


def newest_checkpoint(
    folder: Path, say: Callable[[str], None] = lambda line: None
) -> tuple[int, dict[str, Any]] | None:
    """The last whole checkpoint as (step, state), or None.

    Damaged ones are passed over, and `say` is told of each.
    """
    passed, found = [], None
    for step, path in _found(folder, _NAME):
        if (state := _read(path)) is not None:
            found = step, state
            break
        passed.append(path)
    goes = "begins anew" if found is None else f"goes on from step {found[0]}"
    for path in passed:
        # The seal is written last: a kill in between leaves a checkpoint without one.
        state_of_it = "damaged" if path.with_suffix(".json").exists() else "unfinished"
        say(f"checkpoint {path.name} is {state_of_it}; training {goes}")
    return found


def save_best(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Publish `state` as the best one so far, measured after `step` steps.

    Earlier ones stay as long as a checkpoint may go on from a time when they were the best; no
    limit on checkpoints deletes them. Raises StorageError.
    """
    _write(folder / f"best-{step:08d}.pt", state)
    _drop_outdone(folder)


def load_best(folder: Path, step: int) -> dict[str, Any] | None:
    """What `save_best` wrote for `step`, or None where that is gone or damaged."""
    return _read(folder / f"best-{step:08d}.pt")


def forget_after(folder: Path, step: int) -> None:
    """Remove what is of steps after `step`, which are going to be taken again: it is damaged or
    abandoned, and would outlive newer ones."""
    for at, path in [*_found(folder, _NAME), *_found(folder, _BEST)]:
        if at > step:
            _remove(path)


def _drop_outdone(folder: Path) -> None:
    """Remove the best ones that no checkpoint refers to: all before the oldest's best."""
    steps = _found(folder, _NAME)
    best = _found(folder, _BEST)
    oldest = steps[-1][0] if steps else (best[0][0] if best else 0)
    for _, path in [found for found in best if found[0] <= oldest][1:]:
        _remove(path)


def _write(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    write_atomic(path, payload)
    seal = {"sha256": hashlib.sha256(payload).hexdigest()}  # of what was meant, not what came out
    write_atomic(path.with_suffix(".json"), json.dumps(seal))


def _read(path: Path) -> dict[str, Any] | None:
    """The state in `path`, or None where it is not whole."""
    try:
        seal = json.loads(read_text(path.with_suffix(".json")))
        if seal["sha256"] == file_digest(path):
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _remove(path: Path) -> None:
    remove(path.with_suffix(".json"))
    remove(path)


def _found(folder: Path, name: re.Pattern[str]) -> list[tuple[int, Path]]:
    """Files of that kind of name, the newest first."""
    if not folder.is_dir():
        return []
    found = [(int(m[1]), f) for f in folder.iterdir() if (m := name.fullmatch(f.name))]
    return sorted(found, reverse=True)
