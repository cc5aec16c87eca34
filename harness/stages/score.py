"""score: every answer of both arms, of the references themselves and of the nearest answers."""

from __future__ import annotations

from typing import Any

from harness.progress import Progress
from harness.records import Example, Generation, Sample
from harness.stages.context import Context, read_jsonl, stopwatch, write_jsonl

SYSTEMS = ("base", "tuned", "reference", "nearest")


def score(context: Context) -> None:
    """Write scores/{base,tuned,reference,nearest}.jsonl: one line a prompt, {"id", "scores"}."""
    from harness.data.nearest import nearest
    from harness.scorers import get, score_all

    scorers = get(context.run.task.scorers)
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
    files = []
    with (
        stopwatch() as seconds,
        Progress("score", len(SYSTEMS) * len(examples), "answers") as bar,
    ):
        for system in SYSTEMS:
            samples = [
                _sample(example, text, answers.get(system, {}).get(example.id))
                for example, text in zip(examples, texts[system], strict=True)
            ]
            scores = score_all(samples, scorers, lambda _: bar.advance())
            rows = (
                {"id": e.id, "scores": found} for e, found in zip(examples, scores, strict=True)
            )
            files.append(write_jsonl(context.path("scores", f"{system}.jsonl"), rows))
        context.publish("score", files, {"prompts": len(examples)}, seconds())


def _sample(example: Example, text: str, generation: Generation | None) -> Sample:
    return Sample(
        id=example.id,
        prompt=example.prompt,
        reference=example.target,
        prediction=text,
        assertions=example.assertions,
        finish_reason=generation.finish_reason if generation else "stop",
    )
