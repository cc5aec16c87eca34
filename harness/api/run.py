"""`harness.run`: the main job, as `harness run` does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harness.api.load import LoadedRun, load_run
from harness.api.rows import Rows, rows_of
from harness.errors import EXIT_OK, UsageError
from harness.host.paths import expanded
from harness.host.text import listed
from harness.reports.comparison import ALL_SEEDS, ComparisonRow

AnyPath: TypeAlias = str | PathLike[str]


@dataclass(frozen=True)
class RunResult:
    """What a command came to.

    status: "done", or "failed" where a run failed and the others are done (see each run's `error`).
    runs: in the order of the tables. folder: of the tables; NAME.incomplete where a run failed.
    rows: of comparison.csv.
    """

    status: Literal["done", "failed"]
    runs: tuple[LoadedRun, ...]
    folder: Path
    rows: tuple[ComparisonRow, ...]

    @property
    def comparison(self) -> Rows:
        """A row a run and metric, tuned against base, as comparison.csv has it."""
        return rows_of(row.to_json() for row in self.rows)


def run(
    models: str | Sequence[str] = ("gemma3-270m",),
    tasks: str | Sequence[str] | None = None,
    recipe: str | None = None,
    seeds: int | Sequence[int] = (0,),
    limit: int | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    data: Mapping[str, AnyPath] | None = None,
    weights: Mapping[str, AnyPath] | None = None,
    adapters: Mapping[str, AnyPath] | None = None,
    max_memory: int | None = None,
    report_to: str | Sequence[str] = (),
    verify: bool = False,
    registry: AnyPath | None = None,
    runs: AnyPath = "runs",
    results: AnyPath = "results",
    name: str | None = None,
) -> RunResult:
    """Fine-tune an adapter for each model on each task, answer the held-out prompts with and
    without it, score, and write the comparison. The same call again does only what is missing.

    models, tasks: names in the registry; tasks, recipe: None for each model's own.
    seeds: of training, from 0 on. limit: held-out prompts that are asked at most.
    set: fields of recipes and tasks by name, {"max_steps": 4, "lora.r": 8} (harness.config.schema).
    data: a task's rows, by its name: a folder, JSON, JSONL, CSV or Parquet file.
    weights: a folder with a model's weights, by its name.
    adapters: folders of other LoRA adapters of the model, by the names of the systems that they
    are; each answers as well, and is in systems.csv.
    max_memory: bytes of a GPU to plan training for. report_to: "wandb", "tensorboard", "trackio".
    verify: hash weights and data in the caches anew, and mend what is damaged.
    registry: a folder with models/, recipes/ and tasks/ of your own, beside the shipped ones.
    runs, results: where runs are kept and tables go. name: of the tables' folder in `results`.

    Messages name a setting by its option of `harness run`: `--set` is `set`. Progress goes to
    standard error. Signal handlers stay as they are: what an interrupt leaves is whole, and the
    same call continues.
    Raises UsageError (DataError, MissingError) before any work, BusyError where another process
    works on one of the runs, StorageError where the disk takes nothing more. What one run alone
    fails at is in its `error`, and the others are carried out.
    """
    command = _call(locals().copy())
    from harness.config.overrides import of_values
    from harness.host.machine import expandable_memory
    from harness.host.progress import write
    from harness.host.temporary import sweep_temporary
    from harness.pipeline.options import Options
    from harness.pipeline.run import run as carry_out

    options = Options(
        models=_names("models", models),
        tasks=None if tasks is None else _names("tasks", tasks),
        recipe=recipe,
        seeds=_seeds(seeds),
        limit=None if limit is None else _whole("limit", limit, 1),
        overrides=of_values(set or {}),
        data={key: str(_path(path)) for key, path in (data or {}).items()},
        weights={key: str(_path(path)) for key, path in (weights or {}).items()},
        adapters={key: str(_path(path)) for key, path in (adapters or {}).items()},
        max_memory=None if max_memory is None else _whole("max_memory", max_memory, 2**20),
        report_to=_trackers(report_to),
        verify=verify,
        registry=None if registry is None else _path(registry),
        runs=_path(runs),
        results=_path(results),
        name=name,
    )
    sweep_temporary()
    expandable_memory()
    status, reports, published = carry_out(options, command, write)
    folders = [options.runs / r.model / r.task / r.run for r in reports if r.seed != ALL_SEEDS]
    return RunResult(
        "done" if status == EXIT_OK else "failed",
        tuple(load_run(folder) for folder in folders),
        published.folder,
        tuple(row for report in reports for row in report.rows),
    )


# --- arguments -------------------------------------------------------------------------------


def _call(arguments: Mapping[str, Any]) -> str:
    """The call of `run` with these arguments, for the tables that it makes; defaults left out."""
    given = {key: _plain(value) for key, value in arguments.items()}
    defaults = {key: _plain(each.default) for key, each in signature(run).parameters.items()}
    changed = (f"{key}={value!r}" for key, value in given.items() if value != defaults[key])
    return f"harness.run({', '.join(changed)})"


def _plain(value: Any) -> Any:
    """The value, paths in it as text and sequences as lists."""
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _names(argument: str, given: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several. Raises UsageError."""
    names = (given,) if isinstance(given, str) else tuple(given)
    if not names or not all(isinstance(name, str) for name in names):
        raise UsageError(f"`{argument}` is {given!r}: give a name, or a list of names.")
    return names


def _seeds(given: int | Sequence[int]) -> tuple[int, ...]:
    seeds = (given,) if isinstance(given, int) else tuple(given)
    if not seeds:
        raise UsageError("`seeds` is empty: give a whole number from 0 on, or a list of them.")
    return tuple(_whole("seeds", seed, 0) for seed in seeds)


def _whole(argument: str, value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**50:
        raise UsageError(f"`{argument}` is {value!r}: give a whole number from {least:,} on.")
    return value


def _trackers(given: str | Sequence[str]) -> tuple[str, ...]:
    from harness.tracking import SINKS

    names = _names("report_to", given) if given else ()
    if unknown := [name for name in names if name not in SINKS]:
        raise UsageError(f"`report_to` names {listed(unknown)}: known are {listed(SINKS)}.")
    return tuple(dict.fromkeys(names))


def _path(given: AnyPath) -> Path:
    return expanded(fspath(given))
