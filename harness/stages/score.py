"""score: every answer of both arms, of the references themselves and of the nearest answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.host.progress import Progress
from harness.records import Example, Generation, Sample, Scored
from harness.scorers.text.extract import extract
from harness.stages.context import Context, read_jsonl, stopwatch, write_jsonl

SYSTEMS = ("base", "tuned", "reference", "nearest")
AS_GIVEN = "reference_as_given"
"""The references as the data has them, where the tokenizer cannot write some of them: "reference"
is then what it can write."""


def score(context: Context) -> None:
    """Write scores/{base,tuned,reference,nearest}.jsonl, one line a prompt (see `score_row`).

    And scores/reference_as_given.jsonl where that is another text for some prompt.
    """
    from harness.data.nearest import nearest
    from harness.scorers import get, score_all

    scorers = get(context.run.task.scorers, context.run.task.text)
    examples = context.examples("test")
    answers: dict[str, dict[str, Any]] = {
        arm: {
            row["id"]: Generation(**row)
            for row in read_jsonl(context.path("generations", f"{arm}.jsonl"))
        }
        for arm in ("base", "tuned")
    }
    copied = nearest(examples, context.examples("train"))
    texts = {
        "base": [answers["base"][e.id].text for e in examples],
        "tuned": [answers["tuned"][e.id].text for e in examples],
        "reference": written_references(context.folder.path, examples),
        "nearest": [e.target for e in copied],
    }
    as_given = [e.target for e in examples]
    if texts["reference"] != as_given:
        texts[AS_GIVEN] = as_given
    with (
        stopwatch() as seconds,
        Progress("score", len(texts) * len(examples), "answers") as bar,
    ):
        # The answers to one reference stand together: its parse then serves them all.
        samples = [
            sample_of(example, texts[system][at], answers.get(system, {}).get(example.id))
            for at, example in enumerate(examples)
            for system in texts
        ]
        scored = score_all(samples, scorers, lambda _: bar.advance())
        files = []
        for first, system in enumerate(texts):
            each = slice(first, None, len(texts))
            rows = map(score_row, samples[each], scored[each])
            files.append(write_jsonl(context.path("scores", f"{system}.jsonl"), rows))
        unscored = sum(len(one.notes) for one in scored)
        unlike = sum(a != b for a, b in zip(texts["reference"], as_given, strict=True))
        facts = {"prompts": len(examples), "unscored": unscored, "unwritable": unlike}
        context.publish("score", files, facts, seconds())


def written_references(folder: Path, examples: Sequence[Example]) -> list[str]:
    """The references, each as the run's tokenizer can write it."""
    path = folder / "losses" / "written.jsonl"
    written = {row["id"]: row["text"] for row in read_jsonl(path)} if path.exists() else {}
    return [written.get(example.id, example.target) for example in examples]


def score_row(sample: Sample, scored: Scored) -> dict[str, Any]:
    """A line of a scores file; with the extracted answer where it is not the raw one."""
    extracted = extract(sample.prediction)
    row = {"id": sample.id, **scored.to_json()}
    return row if extracted == sample.prediction else {**row, "extracted": extracted}


def sample_of(example: Example, text: str, generation: Generation | None) -> Sample:
    """What scorers see of an example's answer; one without a generation counts as ended."""
    return Sample(
        id=example.id,
        prompt=example.prompt,
        reference=example.target,
        prediction=text,
        assertions=example.assertions,
        finish_reason=generation.finish_reason if generation else "stop",
    )
