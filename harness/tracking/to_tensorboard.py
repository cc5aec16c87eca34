"""TensorBoard: event files in the run's folder, `tensorboard --logdir runs`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TensorBoard:
    """A Sink. Each process that goes on with a run adds an event file to the same folder."""

    def __init__(self) -> None:
        self._writer: Any = None

    def open(self, run: str, config: Mapping[str, Any], folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # a kill finds the step on the disk

    def close(self) -> None:
        self._writer.close()


def make() -> TensorBoard:
    """The sink."""
    return TensorBoard()
