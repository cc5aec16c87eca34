"""A run as a job that anyone can take up: its folder, and its stages from where they stand.

Nothing here knows of a command line; a signal is looked for between pieces of work, on whatever
thread or process a job runs (`harness.host.signals`).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import DataError, DivergedError, HarnessError, StorageError
from harness.host.files import write_atomic
from harness.host.signals import check
from harness.models.session import Session
from harness.runs.context import Context
from harness.runs.environment import commit, environment
from harness.runs.run import Run
from harness.runs.store import RunFolder, Status
from harness.runs.view import RunView
from harness.stages import stage_names, stages

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Job:
    """A run, and the folder of all runs that its own folder is in."""

    run: Run
    root: Path

    def folder(self, say: Say) -> RunFolder:
        """The run's folder; nothing is written by asking. say: told of what is damaged."""
        run = self.run
        names = run.model.name, run.task.name, run.recipe.name, run.seed
        return RunFolder(self.root, *names, run.identity, notice=say)

    def is_done(self, stage: str, say: Say) -> bool:
        """Whether a stage is there, whole, under today's key."""
        return self.folder(say).is_done(stage, self.run.keys[stage])


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended. error: one sentence, where it is not done."""

    folder: RunFolder
    status: Status
    error: str | None = None


def carry_out(job: Job, session: Session, say: Say) -> Outcome:
    """One run, from where it stands to its end. An error of the run's own is in the outcome.

    Raises StorageError where the disk takes nothing more, BusyError, Interrupted.
    """
    run, folder = job.run, job.folder(say)
    names = stage_names(tuple(run.adapters))
    if folder.status == "done" and all(folder.is_done(name, run.keys[name]) for name in names):
        say(f"{run.label}: done before, in {folder.path}")
        return Outcome(folder, "done")
    with folder.lock():
        status: Status = "done"
        error = None
        say(f"{run.label}: in {folder.path}")
        context = Context(run, folder, RunView(folder), session, say)
        try:
            _advance(context, names)
        except StorageError:
            raise  # of the whole command: the disk takes nothing more
        except HarnessError as fault:
            status = "diverged" if isinstance(fault, DivergedError) else "failed"
            error = str(fault)
        except Exception as fault:
            # Not foreseen: the next run may still do, and the trace is kept for who mends it.
            status = "failed"
            trace = context.view.files.error
            write_atomic(trace, traceback.format_exc())
            error = f"{type(fault).__name__} in {run.label}; the trace is in {trace}."
        finally:
            session.release()
        facts = {"environment": environment(), "commit": commit(), "error": error}
        folder.finish(status, facts)
        if error:
            say(f"{run.label}: {status}: {error}")
        return Outcome(folder, status, error)


def prepare(job: Job, session: Session, say: Say) -> None:
    """Prepare the data of a run, so that data which cannot be used is known before any training.

    Raises DataError, having left nothing of the run behind.
    """
    folder = job.folder(say)
    if folder.is_done("prepare", job.run.keys["prepare"]):
        return
    try:
        with folder.lock():
            _advance(Context(job.run, folder, RunView(folder), session, say), ["prepare"])
    except DataError:
        folder.discard()
        raise


def _advance(context: Context, names: Sequence[str]) -> None:
    """Those stages that are not done, in order; equal work of a sibling run is taken over."""
    for stage in stages(tuple(context.run.adapters)):
        if stage.name not in names:
            continue
        check()
        key = context.run.keys[stage.name]
        if context.folder.is_done(stage.name, key):
            continue
        if context.folder.adopt(stage.name, key):
            context.say(f"{stage.name}: taken from an earlier run")
            continue
        stage.make(context)
