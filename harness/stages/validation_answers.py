"""Validation prompts answered while a training runs, and scored with ROUGE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.schema import DecodingConfig
from harness.data.tokens import Codec
from harness.host.text import clip, single_line
from harness.models.adapter import Adapter
from harness.models.load import Base
from harness.records import Example
from harness.runs.journal import Journal
from harness.scorers.text.rouge import rouge

if TYPE_CHECKING:
    from harness.decoder.decoder import Decoder

MAX_NEW_TOKENS = 256
"""Of one answer at most: it is a look, not a measurement."""

_SYSTEM = "trained"


class ValidationAnswers:
    """Has the first `count` of `examples` answered greedily and keeps the answers in a journal.

    A row of it: step, id, prompt, text, rouge1, rougeL.
    """

    def __init__(
        self,
        base: Base,
        adapter: Adapter,
        codec: Codec,
        examples: Sequence[Example],
        decoding: DecodingConfig,
        journal: Path,
        say: Callable[[str], None],
    ) -> None:
        self._base, self._adapter, self._say = base, adapter, say
        self._codec = codec
        self._examples = list(examples)
        shortest = min(decoding.max_new_tokens, MAX_NEW_TOKENS)
        self._decoding = DecodingConfig(max_new_tokens=shortest)
        self._journal = Journal(journal, notice=say)
        self.rows: list[dict[str, Any]] = []

    def resumed(self, rows: Sequence[dict[str, Any]]) -> None:
        """Go on after `rows`, those of the checkpoint that training goes on from."""
        self.rows = [*rows]
        self._journal.read()  # damage is said, though nothing is lost by it
        self._journal.replace(self.rows)

    def __call__(self, step: int, decoder: Decoder | None) -> float | None:
        """Answer with the adapter as it stands after `step`; the mean rougeL.

        decoder: the fused layers that train it, refreshed, or None.
        """
        from harness.inference.answering import answers
        from harness.inference.local import engine_of

        # Made for each look, so that training has the memory of its slots in between.
        engine = engine_of(self._base, {_SYSTEM: self._adapter}, self._say, decoder)
        found = {
            one.id: one.text
            for _, one in answers(
                engine,
                self._codec,
                {_SYSTEM: ()},
                self._examples,
                self._decoding,
                lambda tokens: None,
            )
        }
        values = []
        for example in self._examples:
            scores = rouge(example.target, found[example.id])
            rouge1, rouge_l = (_number(scores[name]) for name in ("rouge1", "rougeL"))
            row = {
                "step": step,
                "id": example.id,
                "prompt": example.prompt,
                "text": found[example.id],
                "rouge1": rouge1,
                "rougeL": rouge_l,
            }
            self._journal.append(row)
            self.rows.append(row)
            values += [rouge_l] if rouge_l is not None else []
        return fsum(values) / len(values) if values else None

    def line(self, step: int) -> str | None:
        """One line for people: the beginning of the first answer after `step`, if there is one."""
        row = next((row for row in self.rows if row["step"] == step), None)
        if row is None:
            return None
        prompt, text = (clip(single_line(row[key]), n) for key, n in (("prompt", 30), ("text", 54)))
        return f"step {step}  {prompt} → {text or '(nothing)'}"

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def _number(value: object) -> float | None:
    """A score, or None where the scorer gave none."""
    return value if isinstance(value, float) else None
