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
from harness.hub import reachable, token
from harness.machine import available_memory, cache_dir, cpu_has_bf16, has_gpu
from harness.models.locate import missing
from harness.plan import environment
from harness.run_list import runs_table
from harness.scorers import describe, metric_names
from harness.scorers import names as scorer_names

WIDTH = 100  # columns of what is printed


def listing(kind: str, extra: Path | None, runs: Path) -> str:
    """The entries of "models", "tasks", "recipes", "scorers" or "runs", a line each."""
    registry = Registry(extra)
    if kind == "runs":
        return runs_table(runs, _width())
    if kind == "scorers":
        return _columns([row for name in scorer_names() for row in _scorer(name)] + [_EVALUATE])
    read: dict[str, Callable[[str], ModelConfig | TaskConfig | RecipeConfig]] = {
        "models": registry.model,
        "tasks": registry.task,
        "recipes": registry.recipe,
    }
    return _columns([(name, read[kind](name).description) for name in registry.names(kind)])


def doctor(extra: Path | None) -> str:
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
    return _columns([*rows, *models, *tasks])


def _width() -> int | None:
    """Columns of the terminal; None for a file or a pipe, which take every column of a table."""
    if not (sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()):
        return None
    return shutil.get_terminal_size((WIDTH, 24)).columns


_EVALUATE = ("evaluate:NAME", "any metric of the evaluate library, by its name or a script's path")


def _scorer(name: str) -> list[tuple[str, str]]:
    """A scorer, and below it its metrics where they are not called as it is."""
    metrics = metric_names(name)
    rows = [(name, describe(name))]
    return rows if metrics == (name,) else [*rows, ("", f"metrics: {', '.join(metrics)}")]


def _fault(sentence: str | None, subject: str) -> str:
    """What is missing, without its subject, which stands in the column before."""
    return (sentence or "ready").removeprefix(subject).lstrip(": ")


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows as aligned columns; the last one is wrapped to lines of WIDTH."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines: list[str] = []
    for *cells, last in rows:
        head = "".join(f"{cell:<{w}}  " for cell, w in zip(cells, widths, strict=True))
        room = max(40, WIDTH - len(head))
        first, *rest = textwrap.wrap(
            last, room, break_long_words=False, break_on_hyphens=False
        ) or [""]
        lines += [f"{head}{first}".rstrip(), *(f"{'':{len(head)}}{line}" for line in rest)]
    return "\n".join(lines)
