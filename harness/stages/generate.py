"""generate-SYSTEM: a system's answers to the held-out prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.backends import modules_of_model
from harness.backends.backend import Backend
from harness.host.progress import Tick
from harness.records import Example, Generation
from harness.runs.context import Context
from harness.runs.run import Run
from harness.runs.stage import Stage
from harness.stages.collect import Work, collect
from harness.systems import System


def stage(system: System) -> Stage:
    """The stage that writes generations/<system>.jsonl, in the order of the test part."""

    def generate(context: Context) -> None:
        decoding = context.run.task.decoding

        def ask(
            backend: Backend, examples: list[Example], done: set[str], tick: Tick
        ) -> Iterator[Generation]:
            return backend.generate(system, examples, decoding, done, tick)

        work = Work(Generation, "completion_tokens", "tokens", decoding.max_new_tokens)
        collect(context, name, work, ask, context.view.files.generations(system.name))

    name = f"generate-{system.name}"
    return Stage(name, generate, code_of, _inputs, needs=needs_of(system))


def code_of(run: Run) -> list[str]:
    """The modules that answer for a system of the run."""
    return [__name__, *modules_of_model(run.model), "harness.models.session"]


def needs_of(system: System) -> tuple[str, ...]:
    """The stages before a system can answer."""
    return ("prepare", "train") if system.adapter else ("prepare",)


def asked_of(run: Run) -> dict[str, Any]:
    """What a system answers with, and how many prompts."""
    return {"weights": dict(run.weights), "template": run.task.template, "limit": run.limit}


def _inputs(run: Run) -> dict[str, Any]:
    return {**asked_of(run), "decoding": run.task.decoding.model_dump()}
