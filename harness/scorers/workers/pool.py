"""Scoring in worker processes that are ended when a sample takes too long or takes them down.

A sample's numbers do not depend on how many workers there are, nor on which of them it meets.
"""

from __future__ import annotations

import io
import pickle
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from types import TracebackType

from harness.errors import HarnessError, StorageError, UsageError
from harness.host.signals import GLANCE, check
from harness.host.temporary import temporary_folder
from harness.records import Sample, Scored
from harness.scorers.chosen import Chosen, merged
from harness.scorers.workers.process import Event, Process, processors
from harness.scorers.workers.worker import Part, noted

SECONDS = 2.0  # a sample may take, counted from when its worker begins it, and
PATIENCE = 10.0  # at the most, where other programs keep the worker from running
START = 120.0  # seconds for a worker to import its scorers
STARTS = 3  # workers in a row that may die before they are ready
CHUNK = 16  # consecutive samples that a worker gets at a time
SAMPLES_A_WORKER = 32  # fewer do not pay for the start of another one


def score_in_workers(
    samples: Sequence[Sample],
    scorers: Sequence[Chosen],
    progress: Callable[[int], None] | None = None,
    workers: int | None = None,
) -> list[Scored]:
    """All metrics of all scorers for each sample, in the order of `samples`.

    A scorer that is not done SECONDS after the sample's beginning, or whose process dies, costs
    the sample its own metrics and those of the scorers after it; the notes name it, and what the
    scorers before it said is kept. One that raises costs its own metrics only. Scorers that are
    not for workers (`in_worker`) run here, after the others.

    progress: called after each sample with the number that are done.
    workers:  how many processes; None: one for each processor, as far as samples pay for them.
    Raises UsageError as a scorer raised it, HarnessError where no worker can be started.
    """
    if not samples:
        return []
    tick = progress or (lambda done: None)
    columns: dict[int, Sequence[Part]] = {}  # by the scorer's place
    inside = [place for place, one in enumerate(scorers) if one.scorer.in_worker]
    if inside:
        wanted = workers or min(processors(), -(-len(samples) // SAMPLES_A_WORKER))
        with _Pool(samples, [scorers[place] for place in inside], wanted, tick) as pool:
            rows = pool.run()
        columns = {place: [row[at] for row in rows] for at, place in enumerate(inside)}
    for place, one in enumerate(scorers):
        if place not in columns:
            columns[place] = _here(one, samples)
    if not inside:
        for number in range(len(samples)):
            tick(number + 1)
    return [
        merged(Scored(*columns[place][number]) for place in range(len(scorers)))
        for number in range(len(samples))
    ]


def _here(one: Chosen, samples: Sequence[Sample]) -> list[Part]:
    """What a scorer that is not for workers says of all samples."""
    try:
        found = one.score_many(samples)
    except UsageError:
        raise
    except Exception as error:
        return [noted(one.metrics, f"scorer failed: {type(error).__name__}") for _ in samples]
    return [(scored.scores, scored.notes, scored.details) for scored in found]


class _Pool:
    """The processes of one `score_in_workers`, none of which outlives the `with` block."""

    def __init__(
        self,
        samples: Sequence[Sample],
        scorers: Sequence[Chosen],
        workers: int,
        tick: Callable[[int], None],
    ) -> None:
        self._samples, self._scorers, self._workers = samples, scorers, workers
        self._tick = tick
        self._rows: dict[int, list[Part]] = {}
        numbers = range(len(samples))
        self._waiting = deque([*numbers[at : at + CHUNK]] for at in numbers[::CHUNK])
        self._processes: list[Process] = []
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._started = self._stillborn = 0
        self._leave = ExitStack()

    def __enter__(self) -> _Pool:
        try:
            self._folder = self._leave.enter_context(temporary_folder("harness-score-"))
        except OSError as error:
            raise _no_room(error) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.close()
        self._leave.close()

    def run(self) -> list[list[Part]]:
        """For each sample what each scorer says of it."""
        while len(self._rows) < len(self._samples):
            self._hand_out()
            try:
                event = self._events.get(timeout=self._pause())
            except Empty:
                self._end_the_late()
            else:
                self._take(event)
            check()
        return [self._rows[number] for number in range(len(self._samples))]

    def _hand_out(self) -> None:
        """Chunks to those who have none, and processes for chunks that nobody takes."""
        for process in self._processes:
            if self._waiting and process.ready and not process.outstanding:
                chunk = self._waiting.popleft()
                process.give([(number, self._samples[number]) for number in chunk])
        coming = sum(not process.ready for process in self._processes)
        while len(self._processes) < self._workers and coming < len(self._waiting):
            try:
                process = Process(self._scorers, self._folder, str(self._started), self._events)
            except OSError as error:
                raise _no_room(error) from None
            self._processes.append(process)
            self._started += 1
            coming += 1

    def _pause(self) -> float:
        """Seconds until someone may be late; GLANCE at most, for signals to be seen."""
        now = time.monotonic()
        ends = [process.since + _limit(process) - now for process in self._processes]
        return max(0.005, min([GLANCE, *ends]))

    def _end_the_late(self) -> None:
        now = time.monotonic()
        for process in self._processes:
            late = now - process.since
            if late < _limit(process) or process.condemned is not None:
                continue
            if process.ready and late < PATIENCE and process.starved(0.95 * SECONDS):
                continue
            process.condemned = process.outstanding[0] if process.ready else -1
            process.kill()

    def _take(self, event: Event) -> None:
        process = event.process
        if event.kind == "ready":
            process.ready = True
            self._stillborn = 0
        elif event.kind == "done":
            number, parts = event.value
            process.outstanding.remove(number)
            process.since = event.at
            self._finish(number, _loaded(parts, len(self._scorers)))
        elif event.kind == "failed":
            raise event.value
        else:
            self._bury(process)

    def _bury(self, process: Process) -> None:
        """A process has ended. The sample that it was at is done, the others wait again."""
        left = process.outstanding
        if not process.ready:
            self._stillborn += 1
            if self._stillborn >= STARTS:
                words = process.last_words()
                raise HarnessError(f"no scoring process can be started: {words}")
        elif left and process.condemned in (None, left[0]):
            number = left.popleft()
            self._finish(number, self._rescued(process, number))
        if left:
            self._waiting.appendleft([*left])
        process.close()
        self._processes.remove(process)

    def _rescued(self, process: Process, number: int) -> list[Part]:
        """What is known of the sample at which a process ended, and notes for the rest."""
        at = process.box.read()
        running, parts = at.running, _loaded(at.parts, at.size)
        if at.number != number:
            running, parts = 0, []
        end = (
            f"stopped after {SECONDS:g} s" if process.condemned is not None else "its process died"
        )
        culprit = self._scorers[min(running, len(self._scorers) - 1)].scorer.name
        end += f" in {culprit.rpartition('/')[2]}"  # of a script's path its name will do
        for place in range(len(parts), len(self._scorers)):
            lead = "lost: " if place < running else "" if place == running else "not reached: "
            parts.append(noted(self._scorers[place].metrics, lead + end))
        return parts

    def _finish(self, number: int, parts: list[Part]) -> None:
        self._rows[number] = parts
        self._tick(len(self._rows))


def _limit(process: Process) -> float:
    """Seconds that a process may spend on what it is at."""
    if not process.ready:
        return START
    return SECONDS if process.outstanding else float("inf")


def _loaded(parts: bytes, count: int) -> list[Part]:
    stream = io.BytesIO(parts)
    return [pickle.load(stream) for _ in range(count)]


def _no_room(error: OSError) -> StorageError:
    return StorageError(f"no scoring process can be started ({error}); free memory or disk space.")
