"""Trackio: a local dashboard, or a Space where the user's own settings name one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any


class Trackio:
    """A Sink. What trackio says goes to standard error: the tables have standard output."""

    def __init__(self) -> None:
        self._module: Any = None

    def open(self, run: str, config: Mapping[str, Any], folder: Path) -> None:
        with redirect_stdout(sys.stderr):
            import trackio

            trackio.init(project="harness", name=run, config=dict(config), resume="allow")
        self._module = trackio

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._module.log(dict(numbers), step=step)

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self._module.finish()


def make() -> Trackio:
    """The sink."""
    return Trackio()
