"""likelihood-SYSTEM: the log-likelihood of each reference under a system, teacher-forced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.backends.backend import Backend
from harness.host.files import write_jsonl
from harness.host.progress import Tick
from harness.records import Example, ReferenceLikelihood
from harness.runs.context import Context
from harness.runs.run import Run
from harness.runs.stage import Stage
from harness.stages.collect import Done, Work, collect
from harness.stages.generate import asked_of, code_of, needs_of
from harness.systems import BASE, System


def stage(system: System) -> Stage:
    """The stage that writes likelihoods/<system>.jsonl, in the order of the test part.

    With the base's, what the tokenizer makes of the references that it cannot write:
    likelihoods/written.jsonl.
    """

    def likelihood(context: Context) -> None:
        def ask(
            backend: Backend, examples: Sequence[Example], done: Done, tick: Tick
        ) -> Iterator[tuple[str, ReferenceLikelihood]]:
            if "log_likelihood" not in backend.capabilities:
                return
            for record in backend.log_likelihoods(system, examples, done[name]):
                tick(1)
                yield name, record

        work = Work(ReferenceLikelihood, "tokens", "references", 1)
        target = context.view.files.likelihoods(system.name)
        more = _written if system == BASE else None
        collect(context, name, work, ask, target, context.view.asked, more)

    name = f"likelihood-{system.name}"
    return Stage(
        name, likelihood, lambda run: [__name__, *code_of(run)], _inputs, needs=needs_of(system)
    )


def _inputs(run: Run) -> dict[str, Any]:
    return {**asked_of(run), "max_length": run.recipe.max_length}


def _written(context: Context, backend: Backend) -> Path:
    """The file of the references that come back from the tokenizer as other texts."""
    asked = context.view.examples("test")
    texts = ((e.id, e.target, backend.written(e.target)) for e in asked)
    rows = [{"id": name, "text": back} for name, target, back in texts if back != target]
    return write_jsonl(context.view.files.written, rows)
