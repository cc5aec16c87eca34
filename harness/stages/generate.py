"""generate-SYSTEM: a system's answers to the held-out prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from harness.backends import modules_of_model
from harness.backends.backend import Backend, Together
from harness.host.progress import Tick
from harness.records import Example, Generation
from harness.runs.context import Context
from harness.runs.run import Run
from harness.runs.stage import Stage
from harness.stages.collect import Done, Work, collect
from harness.systems import System, generating

_PREFIX = "generate-"


def stage(system: System) -> Stage:
    """The stage that writes generations/<system>.jsonl, in the order of the test part, all
    answers to a prompt together."""

    def generate(context: Context) -> None:
        decoding = context.run.task.decoding

        def ask(
            backend: Backend, examples: Sequence[Example], done: Done, tick: Tick
        ) -> Iterator[tuple[str, Generation]]:
            if len(done) == 1 or not isinstance(backend, Together):
                for one in backend.generate(system, examples, decoding, done[name], tick):
                    yield name, one
                return
            systems = {stage.removeprefix(_PREFIX): ids for stage, ids in done.items()}
            for who, one in backend.generate_together(systems, examples, decoding, tick):
                yield _PREFIX + who, one

        def others(context: Context, backend: Backend) -> list[str]:
            names = [
                _PREFIX + each.name for each in generating(context.run.adapters) if each != system
            ]
            return [due for due in names if isinstance(backend, Together) and _is_due(context, due)]

        work = Work(Generation, "completion_tokens", "tokens", decoding.max_new_tokens)
        target = context.view.files.generations(system.name)
        collect(context, name, work, ask, target, context.view.requests(), beside=others)

    name = _PREFIX + system.name
    return Stage(name, generate, code_of, _inputs, needs=needs_of(system))


def _is_due(context: Context, stage: str) -> bool:
    """Whether a stage is yet to be made, here and in sibling runs."""
    key = context.run.keys[stage]
    return not (context.folder.is_done(stage, key) or context.folder.adopt(stage, key))


def code_of(run: Run) -> list[str]:
    """The modules that answer for a system of the run."""
    return [__name__, *modules_of_model(run.model), "harness.models.session"]


def needs_of(system: System) -> tuple[str, ...]:
    """The stages before a system can answer."""
    return ("prepare", "train") if system.adapter else ("prepare",)


def asked_of(run: Run) -> dict[str, Any]:
    """What a system answers with, and how many prompts."""
    asked = {"weights": dict(run.weights), "template": run.task.template, "limit": run.limit}
    # Systems are rows of one batch, and products over more adapters round otherwise.
    given = {name: each.digest for name, each in run.adapters.items()}
    return {**asked, "adapters": given} if given else asked


def _inputs(run: Run) -> dict[str, Any]:
    return {**asked_of(run), "decoding": run.task.decoding.model_dump()}
