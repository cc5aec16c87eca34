"""Prompts into answers: what every route of the API goes through."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.errors import HarnessError
from harness.host.text import listed
from harness.inference.request import Completion, Request, Sampling
from harness.records import Sample
from harness.scorers.html.validity import Validity
from harness.scorers.text.extract import extract
from harness.serving.loading import Answerer, Loaded
from harness.serving.problems import Problem, not_ready
from harness.serving.streamed import StreamedText
from harness.serving.worker import Job, Worker

VALIDITY = Validity()


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for; None leaves it to the task.

    template: whether the prompt is put into the task's template.
    """

    prompt: str
    system: str | None = None
    max_input_tokens: int | None = None
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    template: bool = True


@dataclass(slots=True)
class Going:
    """An answer on its way. cut: the prompt lost its beginning."""

    answerer: Answerer
    job: Job
    prompt_tokens: int
    cut: bool
    began: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Service:
    """The loaded models behind the API. deadline: seconds that an answer may take."""

    deadline: float
    loaded: Loaded | None = None
    worker: Worker | None = None
    failed: str | None = None

    def ready(self) -> tuple[Loaded, Worker]:
        """What answers. Raises Problem 503 before it is loaded."""
        if self.failed is not None:
            raise not_ready(f"the model cannot be loaded: {self.failed}")
        if self.loaded is None or self.worker is None:
            raise not_ready("the model is being loaded.")
        return self.loaded, self.worker

    def answerer(self, name: str | None) -> Answerer:
        """What answers under a name; the first run's adapter, or the base, where none is given."""
        loaded, _ = self.ready()
        if name is None:
            name = "tuned" if "tuned" in loaded.answerers else "base"
        found = loaded.answerers.get(name)
        if found is None:
            known = listed(loaded.answerers)
            raise Problem(404, "unknown_model", f"no model is called {name!r:.80}: {known}.")
        return found

    def begin(self, ask: Ask) -> Going:
        """Have a prompt answered. Raises Problem."""
        loaded, worker = self.ready()
        answerer = self.answerer(ask.system)
        new = ask.max_new_tokens or min(answerer.decoding.max_new_tokens, loaded.length // 2)
        if new >= loaded.length:
            raise Problem(
                422,
                "invalid_request",
                f"max_new_tokens is {new}: at most {loaded.length - 1} are answered here.",
                "max_new_tokens",
            )
        room = min(ask.max_input_tokens or loaded.length, loaded.length - new)
        codec = answerer.codec
        if not ask.template:
            codec = loaded.engine.base.codec("{}")
        try:
            ids, cut = codec.prompt_within(ask.prompt, room)
        except HarnessError as error:
            raise Problem(422, "invalid_request", str(error), "prompt") from error
        decoding = answerer.decoding
        sampling = Sampling(
            max_new_tokens=new,
            temperature=decoding.temperature if ask.temperature is None else ask.temperature,
            top_p=decoding.top_p if ask.top_p is None else ask.top_p,
            top_k=decoding.top_k,
            min_p=decoding.min_p,
            repetition_penalty=decoding.repetition_penalty,
            seed=decoding.seed if ask.seed is None else ask.seed,
            stop_token_ids=codec.ends,
            stop=(*decoding.stop, *ask.stop),
        )
        # One seed is to give one answer, whatever the request is called.
        request = Request(uuid.uuid4().hex, tuple(ids), sampling, answerer.system, "served")
        job = worker.submit(request, self.deadline)
        return Going(answerer, job, len(ids), cut)

    def texts(self, going: Going) -> Iterator[str | dict[str, Any]]:
        """The answer piece by piece as it comes, then all that is known of it. Raises Problem.

        Closing the iterator takes the request's slot away.
        """
        _, worker = self.ready()
        codec = going.answerer.codec
        text = StreamedText(codec.decode)
        try:
            for event in worker.events(going.job):
                if isinstance(event, Completion):
                    whole = codec.decode(event.token_ids)
                    if rest := whole[len(text.said) :]:
                        yield rest
                    yield self._whole(going, event, whole)
                    return
                if piece := text.add(event):
                    yield piece
        finally:
            going.job.cancel()

    def answer(self, ask: Ask) -> dict[str, Any]:
        """The whole answer. Raises Problem."""
        return self.finish(self.begin(ask))

    def finish(self, going: Going) -> dict[str, Any]:
        """All that is known of an answer, at its end. Raises Problem."""
        _, worker = self.ready()
        try:
            *_, completion = worker.events(going.job)
        finally:
            going.job.cancel()
        assert isinstance(completion, Completion)
        return self._whole(going, completion, going.answerer.codec.decode(completion.token_ids))

    def _whole(self, going: Going, completion: Completion, text: str) -> dict[str, Any]:
        loaded, _ = self.ready()
        page = extract(text)
        return {
            "html": page,
            "raw": text,
            "model": loaded.model,
            "system": going.answerer.name,
            "adapter": going.answerer.adapter,
            "finish_reason": completion.finish_reason,
            "prompt_tokens": going.prompt_tokens,
            "prompt_cut": going.cut,
            "new_tokens": len(completion.token_ids),
            "seconds": round(time.monotonic() - going.began, 3),
            "validity": validity(page),
            "request_id": going.job.request.id,
        }


def validity(page: str) -> dict[str, Any]:
    """What the scorer `validity` says of a page: its numbers, and its errors with their places."""
    sample = Sample("", "", "", page)
    scores = {
        name: value if isinstance(value, float) else None
        for name, value in VALIDITY.score(sample).items()
    }
    details = VALIDITY.details(sample)
    return {**scores, "errors": details.get("parse_errors", [])}
