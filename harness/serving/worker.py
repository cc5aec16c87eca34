"""The one thread that computes: requests of all clients join the running batch.

Clients wait on a `Job` of their own. Whoever goes away or comes too late has his slot taken away
between two tokens; nothing else waits for it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.errors import HarnessError
from harness.inference.engine import Engine, Say
from harness.inference.request import Completion, Request
from harness.serving.problems import Problem, full, late, not_ready

POLL = 0.25
"""Seconds between two looks of a waiting client at whether the worker is alive."""

PACE = 0.04
"""Seconds between two pieces of an answer on its way: a client that was woken for each token would
take the time of those that are computed."""

Event = list[int] | Completion | Problem
"""Tokens, the whole answer at its end, or what went wrong instead."""


@dataclass(slots=True)
class Job:
    """A request and what comes of it.

    deadline: by time.monotonic. held: tokens that wait to be sent with the next ones. sent: when
    the last were. taken: tokens so far. known: those of the next that it has already.
    """

    request: Request
    deadline: float
    seconds: float
    held: list[int] = field(default_factory=list)
    sent: float = 0.0
    taken: int = 0
    known: int = 0
    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    gone: bool = False

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        self.gone = True


class Worker:
    """Owns the engine from `start` on.

    capacity: requests that are answered or wait at most.
    """

    def __init__(self, engine: Engine, capacity: int, say: Say) -> None:
        self.engine, self.capacity, self._say = engine, capacity, say
        self._inbox: list[Job] = []
        self._jobs: dict[str, Job] = {}
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.tokens = 0
        """Tokens that were made so far."""
        self.answered = 0
        """Requests that were answered whole so far."""

    def start(self) -> None:
        """Begin to compute."""
        self._thread.start()

    @property
    def load(self) -> int:
        """Requests that are answered or wait."""
        with self._wake:
            return len(self._inbox) + len(self._jobs)

    def submit(self, request: Request, seconds: float) -> Job:
        """Have a request answered within so many seconds. Raises Problem 429 or 503."""
        job = Job(request, time.monotonic() + seconds, seconds)
        with self._wake:
            if self._closing:
                raise not_ready("the server is about to end.")
            if len(self._inbox) + len(self._jobs) >= self.capacity:
                raise full(retry_after=2)
            self._inbox.append(job)
            self._wake.notify()
        return job

    def events(self, job: Job) -> Iterator[list[int] | Completion]:
        """The tokens of a job as they come, then its completion. Raises Problem."""
        while True:
            try:
                event = job.events.get(timeout=POLL)
            except queue.Empty:
                if not self._thread.is_alive():
                    raise not_ready("the server has ended.") from None
                continue
            if isinstance(event, Problem):
                raise event
            yield event
            if isinstance(event, Completion):
                return

    def close(self, grace: float) -> None:
        """Take no more requests, finish those that are here within `grace` seconds, end."""
        until = time.monotonic() + grace
        with self._wake:
            self._closing = True
            self._wake.notify()
        while self._thread.is_alive() and self.load and time.monotonic() < until:
            time.sleep(0.02)
        with self._wake:
            for job in (*self._inbox, *self._jobs.values()):
                job.deadline = 0.0
        self._thread.join(timeout=10)

    # --- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._inbox and not self._jobs and not self._closing:
                    self._wake.wait()
                if self._closing and not self._inbox and not self._jobs:
                    return
                fresh, self._inbox = self._inbox, []
                self._jobs |= {job.request.id: job for job in fresh}
            for job in fresh:
                self._begin(job)
            self._drop()
            try:
                self._step()
            except Exception as error:  # one request's fault must not end the others' server
                self._fail(error)

    def _begin(self, job: Job) -> None:
        try:
            self.engine.submit(job.request)
        except HarnessError as error:
            self._end(job, Problem(422, "invalid_request", str(error)))

    def _drop(self) -> None:
        """Take their slots from jobs that nobody waits for, or that are late."""
        now = time.monotonic()
        for job in [*self._jobs.values()]:
            if job.gone or now > job.deadline:
                self.engine.cancel(job.request.id)
                ended = not_ready("the server has ended.") if self._closing else late(job.seconds)
                self._end(job, ended)

    def _step(self) -> None:
        if self.engine.idle:
            return
        step = self.engine.step()
        self.tokens += len(step.tokens)
        now = time.monotonic()
        for id in step.again:
            if job := self._jobs.get(id):
                job.known = job.taken
        for id, token in step.tokens:
            if job := self._jobs.get(id):
                if job.known:
                    job.known -= 1
                    continue
                job.taken += 1
                job.held.append(token)
                if now - job.sent >= PACE:
                    job.events.put(job.held)
                    job.held, job.sent = [], now
        for completion in step.finished:
            if completion.id in self._jobs:
                self.answered += 1
                self._end(self._jobs[completion.id], completion)

    def _fail(self, error: Exception) -> None:
        self._say(f"answers failed: {type(error).__name__}: {error}")
        self.engine.clear()
        for job in [*self._jobs.values()]:
            self._end(job, Problem(500, "failed", "the answer could not be computed."))

    def _end(self, job: Job, event: Completion | Problem) -> None:
        with self._wake:
            self._jobs.pop(job.request.id, None)
        job.events.put(event)
