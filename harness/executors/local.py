"""The executor of this process: one job after another, which share the loaded model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.executors.job import Job, Outcome, Say, carry_out, prepare
from harness.models.session import Session

if TYPE_CHECKING:
    from harness.models.load import Base


class LocalExecutor:
    """Carries jobs out here.

    max_memory: bytes of a card to plan for. report_to: experiment trackers for trainings.
    """

    def __init__(
        self, say: Say, max_memory: int | None = None, report_to: Sequence[str] = ()
    ) -> None:
        self._say = say
        self._session = Session(say, self._prove, max_memory, report_to)

    def check(self, jobs: Sequence[Job]) -> None:
        """Hold the recipes of jobs that are yet to be trained against their architectures.

        Raises UsageError.
        """
        for job in jobs:
            # What is damaged is said when the run's turn comes.
            if not job.is_done("train", lambda line: None):
                self._session.check(job.run)

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Prepare the data of all jobs. Raises DataError, StorageError, BusyError, Interrupted."""
        for job in jobs:
            prepare(job, self._session, self._say)

    def carry_out(self, jobs: Sequence[Job]) -> list[Outcome]:
        """How each job ended, in order. Raises StorageError, BusyError, Interrupted."""
        return [carry_out(job, self._session, self._say) for job in jobs]

    def _prove(self, base: Base) -> None:
        from harness.backends.local import prove

        prove(base, self._say)
