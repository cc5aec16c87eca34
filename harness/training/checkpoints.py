"""Checkpoints of a training: written whole or not at all, found damaged, limited in number."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import torch

from harness.files import file_digest, write_atomic

_NAME = re.compile(r"step-(\d{8})\.pt")


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], limit: int) -> None:
    """Publish `state` as the checkpoint after `step` steps; keep the newest `limit`.

    The seal beside it (its hash) is written last: a checkpoint without one does not count.
    Raises StorageError when the disk refuses it; older checkpoints are intact then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = folder / f"step-{step:08d}.pt"
    write_atomic(path, buffer.getvalue())
    write_atomic(path.with_suffix(".json"), json.dumps({"sha256": file_digest(path)}))
    for _, old in _found(folder)[limit:]:
        old.with_suffix(".json").unlink(missing_ok=True)
        old.unlink(missing_ok=True)


def newest_checkpoint(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """The last whole checkpoint as (step, state), or None; damaged ones are passed over."""
    for step, path in _found(folder):
        try:
            seal = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            if seal["sha256"] == file_digest(path):
                return step, torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _found(folder: Path) -> list[tuple[int, Path]]:
    """Checkpoint files, the newest first."""
    if not folder.is_dir():
        return []
    found = [(int(m[1]), f) for f in folder.iterdir() if (m := _NAME.fullmatch(f.name))]
    return sorted(found, reverse=True)
