"""What a sink is, and which there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from harness.errors import MissingError

SINKS = ("wandb", "tensorboard", "trackio")
"""Their names, which are those of their packages and of our extras too."""


class Sink(Protocol):
    """Takes the numbers of a training's steps. Whatever it raises drops it, and nothing else."""

    def open(self, run: str, config: Mapping[str, Any], folder: Path) -> None:
        """Begin, or go on with, the run of that name. folder: the run's, for files of its own."""
        ...

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take one step's numbers. Steps only rise, also over several processes."""
        ...

    def close(self) -> None:
        """Hand over what is still on its way."""
        ...


def require(names: Sequence[str]) -> None:
    """Raise MissingError where the package of one of the sinks is not installed."""
    if absent := [name for name in names if find_spec(name) is None]:
        raise MissingError(
            f"--report-to {' '.join(absent)}: not installed; `pip install {' '.join(absent)}`, or "
            "leave it out."
        )


def make_sink(name: str) -> Sink:
    """The sink of that name, its package imported when it opens."""
    sink: Sink = import_module(f"harness.tracking.to_{name}").make()
    return sink
