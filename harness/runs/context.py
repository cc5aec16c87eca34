"""What every stage is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.runs.run import Run
from harness.runs.store import RunFolder
from harness.runs.view import RunView

if TYPE_CHECKING:
    from harness.models.session import Session


@dataclass(frozen=True, slots=True)
class Context:
    """A run, its folder (locked), what reads it, the command's loaded model, where to print."""

    run: Run
    folder: RunFolder
    view: RunView
    session: Session
    say: Callable[[str], None]

    def scratch(self, stage: str) -> Path:
        """The folder for a stage's unfinished work."""
        return self.folder.stage_dir(stage, self.run.keys[stage])

    def publish(
        self, stage: str, files: Iterable[Path], facts: dict[str, Any], seconds: float
    ) -> None:
        """Record a stage as done."""
        self.folder.publish(stage, self.run.keys[stage], files, facts, seconds)


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Within, a function that tells the seconds since the block began."""
    began = time.perf_counter()
    yield lambda: time.perf_counter() - began
