"""score: every answer of both arms, of the references themselves and of the nearest answers."""

from __future__ import annotations

from typing import Any

from harness.progress import Progress
from harness.records import Example, Generation, Sample, Scored
from harness.scorers.extract import extract
from harness.stages.context import Context, read_jsonl, stopwatch, write_jsonl

SYSTEMS = ("base", "tuned", "reference", "nearest")


def score(context: Context) -> None:
    """Write scores/{base,tuned,reference,nearest}.jsonl, one line a prompt (see `score_row`)."""
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
        "reference": [e.target for e in examples],
        "nearest": [e.target for e in copied],
    }
    with (
        stopwatch() as seconds,
        Progress("score", len(SYSTEMS) * len(examples), "answers") as bar,
    ):
        # The answers to one reference stand together: its parse then serves them all.
        samples = [
            sample_of(example, texts[system][at], answers.get(system, {}).get(example.id))
            for at, example in enumerate(examples)
            for system in SYSTEMS
        ]
        scored = score_all(samples, scorers, lambda _: bar.advance())
        files = []
        for first, system in enumerate(SYSTEMS):
            each = slice(first, None, len(SYSTEMS))
            rows = map(score_row, samples[each], scored[each])
            files.append(write_jsonl(context.path("scores", f"{system}.jsonl"), rows))
        unscored = sum(len(one.notes) for one in scored)
        facts = {"prompts": len(examples), "unscored": unscored}
        context.publish("score", files, facts, seconds())


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
