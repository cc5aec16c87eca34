"""What every stage is given."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.host.files import write_lines
from harness.host.paths import regular
from harness.pipeline.plan import Run
from harness.records import Example
from harness.runs.store import RunFolder

if TYPE_CHECKING:
    from harness.backends.local import Bench


@dataclass(frozen=True, slots=True)
class Context:
    """A run, its folder (locked), the shared model, and where to print a line."""

    run: Run
    folder: RunFolder
    bench: Bench
    say: Callable[[str], None]

    def path(self, *parts: str) -> Path:
        """A file of the run's folder; its parent is made."""
        path = self.folder.path.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def scratch(self, stage: str) -> Path:
        """The folder for a stage's unfinished work."""
        return self.folder.stage_dir(stage, self.run.keys[stage])

    def facts(self, stage: str) -> dict[str, Any]:
        """What a finished stage noted."""
        entry = self.folder.stage(stage)
        facts: dict[str, Any] = entry["facts"] if entry else {}
        return facts

    def publish(
        self, stage: str, files: Iterable[Path], facts: dict[str, Any], seconds: float
    ) -> None:
        """Record a stage as done."""
        self.folder.publish(stage, self.run.keys[stage], files, facts, seconds)

    def examples(self, part: str) -> list[Example]:
        """The examples of "train", "validation" or "test" (as many of these as --limit says)."""
        rows = each_jsonl(self.path("data", f"{part}.jsonl"))
        wanted = islice(rows, self.run.limit) if part == "test" else rows
        return [Example.from_json(row) for row in wanted]


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file that a finished stage wrote (its hash was checked)."""
    return list(each_jsonl(path))


def each_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The same, one at a time."""
    with open(path, encoding="utf-8", newline="\n", opener=regular) as file:
        yield from map(json.loads, file)


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Publish rows as JSONL, whole or not at all."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_lines(path, lines)
    return path


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Within, a function that tells the seconds since the block began."""
    began = time.perf_counter()
    yield lambda: time.perf_counter() - began
