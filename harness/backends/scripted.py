"""The shipped fake: answers read from a file, so that the whole pipeline runs without weights.

Each line of the file is {"arm": "base" or "tuned", "text": ...} with, optionally, the "id" of the
example it answers and a "finish_reason". A line without an id answers every prompt that no other
line of its system does; in its text {reference} and {prompt} stand for those of the example.
Its losses are those of a uniform choice among the 256 bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from harness.backends.backend import Capability
from harness.config.schema import DecodingConfig
from harness.errors import DataError
from harness.host.paths import no_file
from harness.host.progress import Tick
from harness.host.text import one_line, quoted
from harness.records import Example, FinishReason, Generation, ReferenceLikelihood
from harness.runs.context import Context
from harness.systems import System, generating

_SYSTEMS = frozenset(system.name for system in generating())
_WANTED = (
    'a line is {"arm": "base" or "tuned", "text": "…"}, with "id" (a string or a whole number) '
    'where it is for one example, and "finish_reason", "stop" or "length".'
)


class ScriptedBackend:
    """Reads what it says. Tokens are the bytes of the text."""

    capabilities: frozenset[Capability] = frozenset(["log_likelihood"])

    def __init__(self, path: Path) -> None:
        """Raises DataError, one sentence, for a file that is not such a script."""
        self._answers: dict[tuple[str, str | None], dict[str, Any]] = {}
        lines: dict[tuple[str, str | None], int] = {}
        for number, line in enumerate(_lines(path), 1):
            if not line.strip():
                continue
            row = _answer(line, f"{quoted(path)} line {number}")
            key = row["arm"], row["id"]
            if key in lines:
                whose = "for any example" if row["id"] is None else f"with the id of {row['id']!r}"
                raise DataError(
                    f"{quoted(path)} line {number} is a second answer of the {row['arm']} system "
                    f"{one_line(whose)}, as line {lines[key]}: leave one of them."
                )
            lines[key] = number
            self._answers[key] = row
        if not lines:
            raise DataError(f"{quoted(path)} holds no answer: {_WANTED}")

    def _row(self, system: System, example: Example) -> dict[str, Any]:
        name = system.name
        row = self._answers.get((name, example.id)) or self._answers.get((name, None))
        return row or {"text": ""}

    def generate(
        self,
        system: System,
        examples: Sequence[Example],
        decoding: DecodingConfig,
        done: Collection[str],
        tick: Tick,
    ) -> Iterator[Generation]:
        """The script's answers, cut to max_new_tokens bytes' worth of characters."""
        for example in examples:
            if example.id in done:
                continue
            row = self._row(system, example)
            text = row["text"].replace("{reference}", example.target)
            text = text.replace("{prompt}", example.prompt)
            limit = decoding.max_new_tokens * 4
            tick(decoding.max_new_tokens)
            yield Generation(
                id=example.id,
                text=text[:limit],
                finish_reason="length" if len(text) > limit else row.get("finish_reason") or "stop",
                prompt_tokens=len(example.prompt.encode("utf-8", "replace")),
                completion_tokens=len(text[:limit].encode("utf-8", "replace")),
            )

    def log_likelihoods(
        self, system: System, examples: Sequence[Example], done: Collection[str]
    ) -> Iterator[ReferenceLikelihood]:
        """log 256 nats for each byte and for the end of the text."""
        for example in examples:
            if example.id not in done:
                size = len(example.target.encode("utf-8", "replace"))
                yield ReferenceLikelihood(example.id, (size + 1) * math.log(256), 0, size + 1, size)

    def written(self, text: str) -> str:
        """`text`: a script can say anything."""
        return text


def make(context: Context) -> ScriptedBackend:
    """The backend of a scripted model. Raises DataError."""
    return ScriptedBackend(Path(context.run.located.path))


def _lines(path: Path) -> list[str]:
    """The lines of the file; text within a line may hold what else Unicode calls a line's end."""
    if fault := no_file(path):
        raise DataError(f"{quoted(path)} {fault}: give a JSONL file of answers.")
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{quoted(path)} cannot be read as a file of answers ({type(error).__name__}): "
            "give a JSONL file."
        ) from error


def _answer(line: str, where: str) -> dict[str, Any]:
    """The answer in a line, its id as a string or None. Raises DataError."""
    try:
        row = json.loads(line)
        if row["arm"] not in _SYSTEMS or not isinstance(row["text"], str):
            raise ValueError
        name, reason = row.get("id"), row.get("finish_reason")
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        if not (name is None or isinstance(name, str)):
            raise ValueError
        if reason is not None and reason not in get_args(FinishReason):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{where} is no answer: {_WANTED}") from error
    return {**row, "id": name}
