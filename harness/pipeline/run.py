"""The flow of `run`: select → check → fetch → plan → prepare → carry out → publish."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.errors import EXIT_FAILED, EXIT_OK
from harness.executors.job import Job
from harness.executors.local import LocalExecutor
from harness.host.signals import check
from harness.pipeline.naming import asked, name_of
from harness.pipeline.options import Options
from harness.pipeline.plan import plan_runs
from harness.pipeline.preflight import fetch, preflight
from harness.pipeline.publishing import Published, publish, refuse, tidy
from harness.pipeline.report import tables
from harness.pipeline.selection import select
from harness.reports import RunReport
from harness.stages.combine import combined_reports
from harness.stages.report import run_report

Say = Callable[[str], None]


def run(options: Options, command: str, say: Say) -> tuple[int, list[RunReport], Published]:
    """Do what is missing of every run of the command, then publish the tables.

    Returns the exit status (0, or 1 where a run failed and the others are done), what the tables
    say and where they are. Raises UsageError or MissingError before any work, BusyError when
    another process works on one of the runs, Interrupted when a signal came.
    """
    selection = select(options)
    preflight(selection)
    name = name_of(options)
    fetch(selection, say)
    check()
    jobs = [Job(each, options.runs) for each in plan_runs(selection)]
    refuse(options.results, name, asked(options), *at_most(options, jobs))
    tidy(options.results)
    executor = LocalExecutor(say, options.max_memory, options.report_to)
    executor.check(jobs)
    executor.prepare(jobs)
    refuse(options.results, name, asked(options), _prompts(options, jobs, say), None)
    outcomes = executor.carry_out(jobs)
    folders = [outcome.folder for outcome in outcomes]
    reports = [run_report(each.folder, each.status, each.error) for each in outcomes]
    done = [outcome.folder for outcome in outcomes if outcome.status == "done"]
    reports = combined_reports(folders, reports, say)
    found = tables(reports, done, name, asked(options), command)
    published = publish(found, options.results, say)
    return (EXIT_OK if len(done) == len(outcomes) else EXIT_FAILED), reports, published


def at_most(options: Options, jobs: Sequence[Job]) -> tuple[int | None, int | None]:
    """The prompts and training steps of all jobs, as far as the command bounds them."""
    asked_of_each, steps = options.limit, options.max_steps
    return (
        None if asked_of_each is None else asked_of_each * len(jobs),
        None if steps is None else steps * len(jobs),
    )


def _prompts(options: Options, jobs: Sequence[Job], say: Say) -> int:
    """How many held-out prompts the jobs ask, all of them prepared."""
    held_out = [job.folder(say).manifest["stages"]["prepare"]["facts"]["test"] for job in jobs]
    return sum(n if options.limit is None else min(n, options.limit) for n in held_out)
