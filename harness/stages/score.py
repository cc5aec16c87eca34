"""score: every answer of both arms, of the references themselves and of the nearest answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    from harness.scorers import get, score_systems

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
    systems = {
        system: [
            sample_of(example, text, answers.get(system, {}).get(example.id))
            for example, text in zip(examples, of_system, strict=True)
        ]
        for system, of_system in texts.items()
    }
    with stopwatch() as seconds:
        scored = score_systems(systems, scorers)
        files = [
            write_jsonl(
                context.path("scores", f"{system}.jsonl"),
                map(score_row, samples, scored[system]),
            )
            for system, samples in systems.items()
        ]
        unscored = sum(len(one.notes) for found in scored.values() for one in found)
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
