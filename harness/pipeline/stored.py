"""The answers that a run's folder holds, read without its lock: published files never change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.data.nearest import nearest
from harness.errors import UsageError
from harness.host.links import refuse_links
from harness.host.paths import no_file, no_folder
from harness.host.text import quoted
from harness.pipeline.predictions import Predictions
from harness.records import Example, ReferenceLikelihood, Sample, TextChoice
from harness.reports.rows import Origin
from harness.runs.store import RunFolder
from harness.runs.view import RunView
from harness.stages.score import sample_of
from harness.systems import systems


@dataclass(frozen=True)
class StoredRun:
    """A run whose prompts and answers are to be read. scorers, text: what its task asked for."""

    folder: RunFolder
    scorers: list[str]
    text: TextChoice

    @property
    def name(self) -> str:
        return self.folder.path.name

    @cached_property
    def view(self) -> RunView:
        return RunView(self.folder)

    def answers(self, system: str) -> Predictions:
        """The answers of a system to the prompts that were asked.

        Raises UsageError where the run has not come so far.
        """
        self.need("prepare")
        examples = self.view.examples("test")
        facts: dict[str, Any] = {"name": self.folder.label, "system": system}
        (found,) = (each for each in systems(self.view.adapters) if each.name == system)
        if found.texts is None:
            self.need(f"generate-{system}")
            generations = self.view.generations(system)
            examples = self.view.requests()
            samples = [
                sample_of(request, answer.text, answer)
                for request, answer in zip(examples, generations, strict=True)
            ]
            relative = self.view.files.generations(system).relative_to(self.folder.path)
            entry = self.folder.manifest["stages"][f"generate-{system}"]
            facts["sha256"] = entry["files"][relative.as_posix()]
        else:
            texts = found.texts(self.view)
            samples = [sample_of(e, text, None) for e, text in zip(examples, texts, strict=True)]
        asked = self.view.asked
        each = len(examples) // len(asked)
        # Answers to one prompt are drawn together.
        prompts = [e.id if each > 1 else "" for e in asked for _ in range(each)]
        groups = [e.group or prompt for e, prompt in zip(examples, prompts, strict=True)]
        manifest = self.folder.manifest
        origin = Origin(
            manifest["model"], manifest["task"], manifest["recipe"], manifest["seed"], self.name
        )
        name = f"{self.name}:{system}"
        return Predictions(name, samples, groups, True, facts | {"rows": len(samples)}, origin)

    def copied(self, samples: Sequence[Sample]) -> list[Sample]:
        """The same samples, each answered by the training answer whose prompt is nearest."""
        examples = [Example(sample.id, sample.prompt, "") for sample in samples]
        return [
            replace(sample, prediction=near.target, finish_reason="stop")
            for sample, near in zip(
                samples, nearest(examples, self.view.examples("train")), strict=True
            )
        ]

    def losses(self, system: str) -> dict[str, ReferenceLikelihood] | None:
        """Each reference's loss under a system; None where that was not measured."""
        return self.view.likelihoods(system) if self._has(f"likelihood-{system}") else None

    def _has(self, stage: str) -> bool:
        entry = self.folder.stage(stage)
        return entry is not None and self.folder.is_done(stage, entry["key"])

    def need(self, stage: str) -> None:
        """Raise UsageError unless the stage is done and its files are whole."""
        if not self._has(stage):
            manifest, limit = self.folder.manifest, self.folder.identity["limit"]
            words = ["--models", manifest["model"], "--tasks", manifest["task"]]
            words += ["--recipe", manifest["recipe"], "--seeds", str(manifest["seed"])]
            words += [] if limit is None else ["--limit", str(limit)]
            raise UsageError(
                f"the run {self.folder.label} lacks its stage {stage}, or a file of it was "
                "changed: finish it with the command that began it, such as "
                f"`python -m harness run {' '.join(words)}`."
            )


def open_run(path: Path) -> StoredRun:
    """The run in the folder `path`. Raises UsageError where there is none, or a link in it."""
    if fault := no_folder(path):
        if fault != "is not a folder":
            raise UsageError(f"{quoted(path)} {fault}: give a run's folder, as `list runs` says.")
        raise UsageError(
            f"{quoted(path)} is a file: give a run's folder, or a file of predictions with "
            "--predictions."
        )
    refuse_links(path)
    if fault := no_file(path / "manifest.json"):
        has = "has no manifest.json" if fault == "does not exist" else f"manifest.json {fault}"
        where = quoted(path) if fault == "does not exist" else f"{quoted(path)}: its"
        raise UsageError(f"{where} {has}: give a run's folder, as `list runs` says.")
    try:
        # No notices: they speak of making again what is damaged.
        folder = RunFolder.open_existing(path, notice=lambda _: None)
    except UsageError:
        raise UsageError(
            f"{quoted(path)}: its manifest.json is damaged; finish the run with the command that "
            "began it, or give another."
        ) from None
    task = folder.identity["task"]
    return StoredRun(folder, task["scorers"], task.get("text", "raw"))
