"""The records that stages hand to one another. Plain data: no torch, no files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

TextChoice = Literal["raw", "extracted"]
FinishReason = Literal["stop", "length"]
Direction = Literal["higher", "lower"]

UNCHOSEN: Literal["{text}"] = "{text}"
EXTRACTED = "extracted-2"
"""How signatures name the extracted text: with the version of harness.scorers.text.extract, which
is raised whenever another text may be taken out of an answer."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """A check on the parsed page: what `selector` matches must hold for all the fields given.

    selector: a CSS selector (soupsieve's dialect).
    count:    exactly so many elements match; None means at least one.
    text:     some matched element's text, white space folded, equals this.
    attribute, value: some matched element has the attribute, and where `value` is given,
              with exactly that value (a class attribute: its words joined by one space).
    """

    selector: str
    count: int | None = None
    text: str | None = None
    attribute: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a task: what is asked, and the reference answer.

    prompt: the instruction (with its context, if any) before the task's template is applied.
    target: the reference answer, as the data gives it.
    kind:   which sort of held-out prompt it is ("" where a task has only one).
    group:  examples of one group are near-duplicates and never stand on both sides of a split.
    """

    id: str
    prompt: str
    target: str
    kind: str = ""
    group: str = ""
    assertions: tuple[Assertion, ...] = ()

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        row["assertions"] = [
            {key: value for key, value in asdict(a).items() if value is not None}
            for a in self.assertions
        ]
        return row

    @staticmethod
    def from_json(row: dict[str, Any]) -> Example:
        assertions = tuple(Assertion(**a) for a in row.get("assertions", ()))
        return Example(**{**row, "assertions": assertions})


@dataclass(frozen=True, slots=True)
class Generation:
    """One system's answer to one prompt. Tokens are the model's own, end-of-text not counted.

    id: of the answer, as `answer_id` makes it.

    cut: the prompt was longer than the context allows and lost its beginning.
    seconds: that it took, beside what was answered at the same time.
    """

    id: str
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cut: bool = False
    seconds: float = field(default=0.0, compare=False)


def answer_id(example: str, number: int) -> str:
    """The id of a prompt's answer, `number` from 0 on; the first one has the prompt's own."""
    return f"{example}#{number}" if number else example


@dataclass(frozen=True, slots=True)
class ReferenceLikelihood:
    """Log-likelihood of one reference under one system, teacher-forced.

    nll:     sum over the scored tokens of -log p, in nats.
    correct: how many scored tokens were the model's first choice.
    tokens:  how many were scored (the completion and its end-of-text).
    bytes:   UTF-8 bytes of the reference text that those tokens stand for.
    cut:     the reference was longer than the context, only its beginning was scored.
    """

    id: str
    nll: float
    correct: int
    tokens: int
    bytes: int
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """What a scorer sees: the prompt, the reference, and an answer to judge.

    finish_reason: None where it is not known why the answer ended.
    """

    id: str
    prompt: str
    reference: str
    prediction: str
    assertions: tuple[Assertion, ...] = ()
    finish_reason: FinishReason | None = "stop"


@dataclass(frozen=True, slots=True)
class Signature:
    """What exactly a number is: every setting that changes it, as sacrebleu does it.

    `str` writes it for tables and keys: rougeL|tok:rouge-score|stem:no|text:raw|v1.

    text:    which text of an answer is scored, "raw" or EXTRACTED; UNCHOSEN where the task is yet
             to say, None for a metric that is of no answer.
    version: raised whenever a number may change.
    """

    name: str
    settings: tuple[tuple[str, str], ...]
    text: str | None
    version: int

    def __str__(self) -> str:
        parts = [self.name, *(f"{key}:{value}" for key, value in self.settings)]
        if self.text is not None:
            parts.append(f"text:{self.text}")
        return "|".join([*parts, f"v{self.version}"])

    def of_text(self, text: TextChoice) -> Signature:
        """The same where the text to score is chosen; a metric of one text alone keeps its own."""
        written = EXTRACTED if text == "extracted" else text
        return replace(self, text=written) if self.text == UNCHOSEN else self

    @staticmethod
    def parse(written: str) -> Signature:
        """The signature that `str` wrote. Raises ValueError."""
        name, *parts = written.split("|")
        version = int(parts.pop().removeprefix("v")) if parts else 0
        text = None
        if parts and parts[-1].startswith("text:"):
            text = parts.pop().removeprefix("text:")
        pairs = (part.partition(":") for part in parts)
        return Signature(name, tuple((key, value) for key, _, value in pairs), text, version)


@dataclass(frozen=True, slots=True)
class Metric:
    """A named number of one sample: which direction is better, and what exactly was computed.

    binary: yes/no, 0.0 or 1.0 a sample (compared by McNemar's test).
    """

    name: str
    direction: Direction
    signature: Signature
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """What the scorers say of one sample.

    scores:  number by metric, in the order of the scorers; None: it could not be told.
    notes:   for each None, why, in a few words.
    details: what stands behind some numbers (the codes and places of parse errors), plain data.
    """

    scores: dict[str, float | None]
    notes: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"scores": self.scores, "notes": self.notes}
        return {**row, "details": self.details} if self.details else row

    @staticmethod
    def from_json(row: dict[str, Any]) -> Scored:
        return Scored(row["scores"], row.get("notes", {}), row.get("details", {}))
