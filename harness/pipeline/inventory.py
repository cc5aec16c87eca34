"""`harness list` and `harness doctor`: what there is, and what this machine can do with it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.config.registry import Registry
from harness.config.schema import ModelConfig, RecipeConfig, TaskConfig
from harness.data.load import available
from harness.errors import UsageError
from harness.host.console import COLUMNS
from harness.host.machine import available_memory, cache_dir, cpu_has_bf16, has_gpu
from harness.host.paths import no_folder
from harness.host.text import quoted
from harness.hub import reachable, token
from harness.models.locate import missing
from harness.pipeline.listing import runs_table
from harness.runs.environment import environment
from harness.scorers import Entry, entries


def listing(kind: str, extra: Path | None, runs: Path, width: int = COLUMNS) -> str:
    """The entries of "models", "tasks", "recipes", "scorers" or "runs", a line each."""
    registry = Registry(extra)
    if kind == "runs" and (fault := no_folder(runs)) not in (None, "does not exist"):
        raise UsageError(f"--runs {quoted(runs)} {fault}; give a folder of runs.")
    if kind == "runs":
        # A file or a pipe takes every column.
        return runs_table(runs, width if sys.stdout.isatty() or width != COLUMNS else None)
    if kind == "scorers":
        return _columns([row for entry in entries() for row in _scorer(entry)], width)
    read: dict[str, Callable[[str], ModelConfig | TaskConfig | RecipeConfig]] = {
        "models": registry.model,
        "tasks": registry.task,
        "recipes": registry.recipe,
    }
    found = [(name, read[kind](name).description) for name in registry.names(kind)]
    return _columns(found, width)


def doctor(extra: Path | None, width: int = COLUMNS) -> str:
    """What this machine has, then each model and task: ready, or what is missing."""
    registry = Registry(extra)
    memory = available_memory()
    versions = environment()
    rows = [
        ("system", f"{versions['system']}, Python {platform.python_version()}"),
        ("processor", f"{os.cpu_count()} cores, {'bf16' if cpu_has_bf16() else 'no bf16: fp32'}"),
        ("GPU", "NVIDIA driver found" if has_gpu() else "none found"),
        ("memory", f"{memory / 2**30:.1f} GiB free" if memory else "unknown"),
        ("disk", f"{shutil.disk_usage(Path.cwd()).free / 2**30:.1f} GiB free here"),
        ("cache", str(cache_dir())),
        ("hub", "within reach" if reachable() else "not within reach"),
        ("hub token", "set" if token() else "not set"),
        *((name, versions[name]) for name in ("torch", "transformers", "peft", "bitsandbytes")),
    ]
    models = [
        (f"model {name}", _fault(missing(registry.model(name), None), f"model {name}"))
        for name in registry.names("models")
    ]
    tasks = [
        (f"task {name}", _fault(available(registry.task(name)), f"task '{name}'"))
        for name in registry.names("tasks")
    ]
    return _columns([*rows, *models, *tasks], width)


_LEAST = 24  # columns for the last one beside the others


def _scorer(entry: Entry) -> list[tuple[str, str]]:
    """A scorer, and below it its metrics where they are not called as it is."""
    rows = [(entry.name, entry.summary)]
    if entry.metrics in ((), (entry.name,)):
        return rows
    return [*rows, ("", f"metrics: {', '.join(entry.metrics)}")]


def _fault(sentence: str | None, subject: str) -> str:
    """What is missing, without its subject, which stands in the column before."""
    return (sentence or "ready").removeprefix(subject).lstrip(": ")


def _columns(rows: Sequence[tuple[str, ...]], width: int) -> str:
    """Rows as aligned columns; the last one is wrapped to lines of `width`, or stands below."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines: list[str] = []
    for *cells, last in rows:
        head = "".join(f"{cell:<{w}}  " for cell, w in zip(cells, widths, strict=True))
        below = width - len(head) < _LEAST
        indent = "  " if below else " " * len(head)
        found = textwrap.wrap(
            last, max(_LEAST, width - len(indent)), break_long_words=False, break_on_hyphens=False
        )
        if below:
            lines.append(head.rstrip())
        else:
            lines.append(f"{head}{found.pop(0) if found else ''}".rstrip())
        lines += [f"{indent}{line}" for line in found]
    return "\n".join(lines)
