"""`harness.load_run`: what a run's folder holds, as tables, and its model to ask."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.rows import Rows, rows_of
from harness.errors import UsageError
from harness.host.paths import expanded
from harness.host.progress import write
from harness.host.text import listed
from harness.pipeline.stored import StoredRun, open_run
from harness.reports.rows import loss_columns
from harness.runs.store import Status
from harness.systems import AS_GIVEN, generating, systems

if TYPE_CHECKING:
    from harness.data.tokens import Codec
    from harness.models.adapter import Adapter


class LoadedRun:
    """One run: a model trained on a task by a recipe from a seed. `harness.load_run` makes it.

    The tables are read when they are first asked for. Each raises UsageError where the run has not
    come so far, or a file of it was changed.
    """

    def __init__(self, stored: StoredRun) -> None:
        self._stored, self._view = stored, stored.view

    def __repr__(self) -> str:
        return f"<run {self._stored.folder.label}: {self.status}>"

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._stored.folder.path

    @property
    def manifest(self) -> dict[str, Any]:
        """What made the run, and each finished stage with its files, facts and seconds."""
        return self._stored.folder.manifest

    @property
    def status(self) -> Status:
        """ "started", "done", "diverged" or "failed"."""
        return self._stored.folder.status

    @property
    def error(self) -> str | None:
        """Why it failed, in one sentence; None where it did not."""
        error: str | None = self.manifest["facts"].get("error")
        return error

    @cached_property
    def predictions(self) -> Rows:
        """A row a held-out prompt and answer: id, kind, prompt, reference, then the answer of each
        ("base", "tuned"), then why each ended ("base_finish_reason": "stop", or "length" where it
        was cut off). Where a prompt has several answers, the second one's id is the prompt's with
        "#1" after it."""
        names = [system.name for system in generating(self._view.adapters)]
        answers = {name: self._stored.answers(name).samples for name in names}
        return rows_of(
            {
                "id": example.id,
                "kind": example.kind,
                "prompt": example.prompt,
                "reference": example.target,
                **{name: answers[name][at].prediction for name in names},
                **{f"{name}_finish_reason": answers[name][at].finish_reason for name in names},
            }
            for at, example in enumerate(self._view.requests())
        )

    @cached_property
    def scores(self) -> Rows:
        """A row a system and held-out prompt: system, id, and a column a metric, empty where a
        system has none (cross_entropy and its kin are of systems with a model). Of several answers
        it is their mean."""
        self._stored.need("score")
        ids = [example.id for example in self._view.asked]
        found = {
            system.name: self._stored.losses(system.name)
            for system in generating(self._view.adapters)
        }
        losses = {name: each for name, each in found.items() if each is not None}
        columns = loss_columns(losses, ids) if losses else []
        rows: list[dict[str, Any]] = []
        for system in (*(each.name for each in systems(self._view.adapters)), AS_GIVEN):
            scores = self._view.scores(system)
            if scores is None:
                continue
            of_losses = {c.metric.name: c.shown(system) for c in columns if system in c.values}
            for at, (name, numbers) in enumerate(zip(ids, scores, strict=True)):
                own = {metric: values[at] for metric, values in of_losses.items()}
                rows.append({"system": system, "id": name, **own, **numbers})
        return rows_of(rows)

    @cached_property
    def systems(self) -> Rows:
        """A row a system and metric: mean with interval, and its difference to base and to tuned,
        as systems.csv has it."""
        self._stored.need("compare")
        return rows_of(self._view.systems())

    @cached_property
    def comparison(self) -> Rows:
        """A row a metric, tuned against base, as comparison.csv has it."""
        self._stored.need("compare")
        return rows_of(self._view.comparison())

    def answer(
        self,
        prompt: str,
        max_input_tokens: int = 1000,
        max_output_tokens: int = 100,
        *,
        system: str = "tuned",
    ) -> str:
        """The greedy answer of the run's model to one instruction, in the task's template.

        The base, held as it was in the run, and the adapter are loaded at the first call, and stay
        as long as this object. system: "tuned", or "base" for the model without the adapter.
        The token limits are those of `harness.inference`.
        Raises UsageError where nothing was trained, MissingError where the base is not on this
        machine or not what the run began with, RunError, AdapterError.
        """
        from harness.inference.one_prompt import check_request, greedy, room_of

        check_request(prompt, max_input_tokens, max_output_tokens)
        known = {each.name: each for each in generating()}
        if system not in known:
            raise UsageError(f"no model answers as {system!r}: known are {listed(known)}.")
        adapter, codec = self._model
        base = adapter.base
        adapter.switch(known[system].adapter)
        room = room_of(base.model, max_input_tokens, max_output_tokens)
        ids, _ = codec.prompt_within(prompt, room)
        with base.autocast():
            return codec.decode(greedy(base.model, ids, codec.ends, max_output_tokens))

    @cached_property
    def _model(self) -> tuple[Adapter, Codec]:
        """The base with the adapter on it, and the tokenizer in the task's template."""
        from harness.pipeline.stored_model import base_of

        base = base_of(self._stored, write)
        from harness.models.adapter import Adapter

        template = self._stored.folder.identity["task"]["template"]
        return Adapter.load(base, self._view.files.adapter), base.codec(template)


def load_run(path: str | Path) -> LoadedRun:
    """The run in a folder, `runs/MODEL/TASK/RECIPE-seedK-KEY`, finished or not.

    Nothing is written, and no lock is needed. Raises UsageError where there is no run.
    """
    return LoadedRun(open_run(expanded(str(path))))
