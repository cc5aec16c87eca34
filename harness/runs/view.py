"""The typed reader of a run's folder: where each file stands, and what it holds.

No other module spells the path of a published file; what is not yet published, the store and the
stages keep in `tmp/` under names of their own. Published files never change, so that reading
needs no lock; whether a stage is whole is the store's to say (`harness.runs.store`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from math import fsum
from pathlib import Path
from typing import Any

from harness.host.files import each_jsonl, read_jsonl
from harness.host.paths import read_bytes
from harness.records import Example, Generation, ReferenceLikelihood, answer_id
from harness.runs.store import RunFolder


@dataclass(frozen=True, slots=True)
class Files:
    """Where the files of the run in the folder `root` stand."""

    root: Path

    def examples(self, part: str) -> Path:
        """The examples of "train", "validation" or "test"."""
        return self.root / "data" / f"{part}.jsonl"

    @property
    def adapter(self) -> Path:
        """A folder in PEFT's format."""
        return self.root / "adapter"

    @property
    def log(self) -> Path:
        """A line for each optimiser step."""
        return self.root / "log.jsonl"

    @property
    def samples(self) -> Path:
        """Validation prompts answered while the training ran."""
        return self.root / "samples.jsonl"

    def generations(self, system: str) -> Path:
        return self.root / "generations" / f"{system}.jsonl"

    def likelihoods(self, system: str) -> Path:
        """The log-likelihood of each reference."""
        return self.root / "likelihoods" / f"{system}.jsonl"

    @property
    def written(self) -> Path:
        """The references that the tokenizer gives back as other texts: `id` and `text`."""
        return self.root / "likelihoods" / "written.jsonl"

    def scores(self, system: str) -> Path:
        return self.root / "scores" / f"{system}.jsonl"

    @property
    def comparison(self) -> Path:
        """The rows of comparison.csv."""
        return self.root / "comparison.jsonl"

    @property
    def kinds(self) -> Path:
        """The same by kind of prompt."""
        return self.root / "kinds.jsonl"

    @property
    def systems(self) -> Path:
        """The rows of systems.csv."""
        return self.root / "systems.jsonl"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions.csv"

    @property
    def error(self) -> Path:
        """The trace of an error that was not foreseen."""
        return self.root / "error.txt"


class RunView:
    """What the run in `folder` holds, as records. Raises OSError for a file that is not there."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.files = Files(folder.path)

    def facts(self, stage: str) -> dict[str, Any]:
        """What a finished stage noted, {} of another."""
        entry = self.folder.stage(stage)
        facts: dict[str, Any] = entry["facts"] if entry else {}
        return facts

    def examples(self, part: str) -> list[Example]:
        """The examples of "train" or "validation"; of "test" those that are asked."""
        return self.asked if part == "test" else self._examples(part, None)

    @cached_property
    def asked(self) -> list[Example]:
        """The held-out examples, as many as --limit says."""
        return self._examples("test", self.folder.identity["limit"])

    def _examples(self, part: str, limit: int | None) -> list[Example]:
        rows = islice(each_jsonl(self.files.examples(part)), limit)
        return [Example.from_json(row) for row in rows]

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the adapters that the run was given beside its own."""
        return tuple(self.folder.identity.get("adapters", ()))

    @property
    def answers_each(self) -> int:
        """How many answers a system gives to each prompt."""
        count: int = self.folder.identity["task"]["decoding"].get("num_return_sequences", 1)
        return count

    def requests(self) -> list[Example]:
        """What is asked, once for each answer, under the answer's id: all of the first prompt, then
        all of the next."""
        count = range(self.answers_each)
        return [replace(e, id=answer_id(e.id, n)) for e in self.asked for n in count]

    def generations(self, system: str) -> list[Generation]:
        """A system's answers, in the order of `requests`."""
        rows = {row["id"]: row for row in read_jsonl(self.files.generations(system))}
        return [Generation(**rows[each.id]) for each in self.requests()]

    def likelihoods(self, system: str) -> dict[str, ReferenceLikelihood]:
        """The loss of each reference under a system, by the prompt's id."""
        rows = read_jsonl(self.files.likelihoods(system))
        return {row["id"]: ReferenceLikelihood(**row) for row in rows}

    def written_references(self) -> list[str]:
        """The references of what is asked, each as the run's tokenizer can write it."""
        path = self.files.written
        written = {row["id"]: row["text"] for row in read_jsonl(path)} if path.exists() else {}
        return [written.get(example.id, example.target) for example in self.asked]

    def scores(self, system: str) -> list[dict[str, float | None]] | None:
        """A system's number by metric, in the order of what is asked; None where it has none.

        Of several answers to a prompt, the mean of those that have a number.
        """
        found = self.answer_scores(system)
        return None if found is None else [_mean_scores(each) for each in found]

    def answer_scores(self, system: str) -> list[list[dict[str, float | None]]] | None:
        """The same of each answer to each prompt."""
        path = self.files.scores(system)
        if not path.exists():
            return None
        found = {row["id"]: row["scores"] for row in read_jsonl(path)}
        each = (
            [found.get(answer_id(e.id, n)) for n in range(self.answers_each)] for e in self.asked
        )
        return [[scores for scores in own if scores is not None] for own in each]

    def log(self) -> list[dict[str, Any]]:
        """A row for each optimiser step, [] where nothing was trained."""
        return read_jsonl(self.files.log) if self.files.log.exists() else []

    def comparison(self) -> list[dict[str, Any]]:
        return read_jsonl(self.files.comparison)

    def kinds(self) -> list[dict[str, Any]]:
        return read_jsonl(self.files.kinds)

    def systems(self) -> list[dict[str, Any]]:
        return read_jsonl(self.files.systems)

    def predictions(self) -> str:
        """The run's part of predictions.csv."""
        return read_bytes(self.files.predictions).decode()


def _mean_scores(answers: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of each metric over those answers that have a number."""
    if len(answers) == 1:
        return dict(answers[0])
    means: dict[str, float | None] = {}
    for metric in answers[0]:
        values = [value for each in answers if (value := each[metric]) is not None]
        means[metric] = fsum(values) / len(values) if values else None
    return means
