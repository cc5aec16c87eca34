"""Weights & Biases: the user's own key and WANDB_* settings; nothing of them is kept by us."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Wandb:
    """A Sink. A run's name is its id there, so that a resumed one goes on in the same place."""

    def __init__(self) -> None:
        self._run: Any = None

    def open(self, run: str, config: Mapping[str, Any], folder: Path) -> None:
        import wandb

        # A silent session never asks for a key: without one, the sink fails and is dropped.
        wandb.setup(settings=wandb.Settings(console="off", silent=True))
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "harness"),
            id=re.sub(r"[^A-Za-z0-9_-]", "-", run)[-64:],
            name=run,
            config=dict(config),
            dir=str(folder),
            resume="allow",
            settings=wandb.Settings(console="off", silent=True, init_timeout=30),
        )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


def make() -> Wandb:
    """The sink."""
    return Wandb()
