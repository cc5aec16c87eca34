"""The flow of `run`: prepare → train → generate → measure → score → compare → report."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.backends.local import Bench
from harness.errors import (
    EXIT_FAILED,
    EXIT_OK,
    DataError,
    DivergedError,
    HarnessError,
    StorageError,
)
from harness.host.files import write_atomic
from harness.host.signals import check
from harness.pipeline.naming import asked, name_of
from harness.pipeline.plan import Options, Run, environment, plan_runs, stage_names
from harness.pipeline.preflight import fetch, preflight
from harness.pipeline.publishing import Published, publish, refuse, tidy
from harness.pipeline.report import tables
from harness.reports import RunReport
from harness.runs.store import RunFolder, Status
from harness.stages.combine import combined_reports
from harness.stages.compare import compare
from harness.stages.context import Context
from harness.stages.generate import generate, measure
from harness.stages.prepare import prepare
from harness.stages.report import commit, run_report
from harness.stages.score import score
from harness.stages.train import train

Say = Callable[[str], None]

STAGES: dict[str, Callable[[Context], None]] = {
    "prepare": prepare,
    "train": train,
    "generate-base": lambda context: generate(context, "base"),
    "measure-base": lambda context: measure(context, "base"),
    "generate-tuned": lambda context: generate(context, "tuned"),
    "measure-tuned": lambda context: measure(context, "tuned"),
    "score": score,
    "compare": compare,
}
assert list(STAGES) == stage_names()


def run(options: Options, command: str, say: Say) -> tuple[int, list[RunReport], Published]:
    """Do what is missing of every run of the command, then publish the tables.

    Returns the exit status (0, or 1 where a run failed and the others are done), what the tables
    say and where they are. Raises UsageError or MissingError before any work, BusyError when
    another process works on one of the runs, Interrupted when a signal came.
    """
    preflight(options)
    name = name_of(options)
    fetch(options, say)
    check()
    runs = plan_runs(options)
    refuse(options.results, name, asked(options), *at_most(options, runs))
    tidy(options.results)
    bench = Bench(say, options.max_memory, options.report_to)
    for each in runs:
        # What is damaged is said when the run's turn comes.
        folder = folder_of(each, options.runs, lambda line: None)
        if not folder.is_done("train", each.keys["train"]):
            bench.check(each)
    for each in runs:
        begin(each, options.runs, bench, say)
    refuse(options.results, name, asked(options), prompts(options, runs, say), None)
    reports = [run_one(each, options.runs, bench, say) for each in runs]
    folders = [folder_of(each, options.runs, say) for each in runs]
    failed = any(report.status != "done" for report in reports)
    done = [f for f, report in zip(folders, reports, strict=True) if report.status == "done"]
    reports = combined_reports(folders, reports, say)
    found = tables(reports, done, name, asked(options), command)
    published = publish(found, options.results, say)
    return (EXIT_FAILED if failed else EXIT_OK), reports, published


def at_most(options: Options, runs: Sequence[Run]) -> tuple[int | None, int | None]:
    """The prompts and training steps of all runs, as far as the command bounds them."""
    asked_of_each, steps = options.limit, options.max_steps
    return (
        None if asked_of_each is None else asked_of_each * len(runs),
        None if steps is None else steps * len(runs),
    )


def prompts(options: Options, runs: Sequence[Run], say: Say) -> int:
    """How many held-out prompts the runs ask, all of them prepared."""
    held_out = [
        folder_of(run, options.runs, say).manifest["stages"]["prepare"]["facts"]["test"]
        for run in runs
    ]
    return sum(n if options.limit is None else min(n, options.limit) for n in held_out)


def folder_of(run: Run, root: Path, say: Say) -> RunFolder:
    """The folder of a run; nothing is written by asking."""
    return RunFolder(
        root,
        run.model.name,
        run.task.name,
        run.recipe.name,
        run.seed,
        dict(run.identity),
        notice=say,
    )


def finished(run: Run, folder: RunFolder) -> bool:
    """Whether every stage of the run is there, whole, under today's keys."""
    return folder.status == "done" and all(
        folder.is_done(name, run.keys[name]) for name in stage_names()
    )


def run_one(run: Run, root: Path, bench: Bench, say: Say) -> RunReport:
    """One run, from where it stands to its end. An error of the run's own is in the report."""
    folder = folder_of(run, root, say)
    if finished(run, folder):
        say(f"{run.label}: done before, in {folder.path}")
        return run_report(folder, "done", None)
    with folder.lock():
        status: Status = "done"
        error = None
        say(f"{run.label}: in {folder.path}")
        try:
            advance(Context(run, folder, bench, say), stage_names())
        except StorageError:
            raise  # of the whole command: the disk takes nothing more
        except HarnessError as fault:
            status = "diverged" if isinstance(fault, DivergedError) else "failed"
            error = str(fault)
        except Exception as fault:
            # Not foreseen: the next run may still do, and the trace is kept for who mends it.
            status = "failed"
            trace = folder.path / "error.txt"
            write_atomic(trace, traceback.format_exc())
            error = f"{type(fault).__name__} in {run.label}; the trace is in {trace}."
        finally:
            bench.clear_adapter()
        folder.finish(
            status,
            {"environment": environment(), "commit": commit(), "error": error},
        )
        if error:
            say(f"{run.label}: {status}: {error}")
        return run_report(folder, status, error)


def begin(run: Run, root: Path, bench: Bench, say: Say) -> None:
    """Prepare the data of a run, so that data which cannot be used is known before any training.

    Raises DataError, having left nothing of the run behind.
    """
    folder = folder_of(run, root, say)
    if folder.is_done("prepare", run.keys["prepare"]):
        return
    try:
        with folder.lock():
            advance(Context(run, folder, bench, say), ["prepare"])
    except DataError:
        folder.discard()
        raise


def advance(context: Context, names: Sequence[str]) -> None:
    """Those stages that are not done, in order; equal work of a sibling run is taken over."""
    for name in names:
        check()
        key = context.run.keys[name]
        if context.folder.is_done(name, key):
            continue
        if context.folder.adopt(name, key):
            context.say(f"{name}: taken from an earlier run")
            continue
        STAGES[name](context)
