"""score: every system's answers by the task's scorers."""

from __future__ import annotations

from typing import Any

from harness.host.files import write_jsonl
from harness.host.progress import Progress
from harness.records import Example, Generation, Sample, Scored
from harness.runs.context import Context, stopwatch
from harness.runs.run import Run
from harness.runs.stage import Stage
from harness.scorers import get, score_all
from harness.scorers.text.extract import extract
from harness.systems import AS_GIVEN, BASE, REFERENCE, SYSTEMS, generating


def score(context: Context) -> None:
    """Write scores/<system>.jsonl, one line a prompt (see `score_row`).

    And scores/reference_as_given.jsonl where that is another text for some prompt.
    """
    run, view = context.run, context.view
    scorers = get(run.task.scorers, run.task.text)
    examples = view.examples("test")
    answers: dict[str, dict[str, Generation]] = {}
    texts: dict[str, list[str]] = {}
    for system in SYSTEMS:
        if system.texts is None:
            answers[system.name] = found = view.generations(system.name)
            texts[system.name] = [found[e.id].text for e in examples]
        else:
            texts[system.name] = system.texts(view)
    as_given = [e.target for e in examples]
    unlike = sum(a != b for a, b in zip(texts[REFERENCE.name], as_given, strict=True))
    if unlike:
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
        for first, system_name in enumerate(texts):
            each = slice(first, None, len(texts))
            rows = map(score_row, samples[each], scored[each])
            files.append(write_jsonl(view.files.scores(system_name), rows))
        unscored = sum(len(one.notes) for one in scored)
        facts = {"prompts": len(examples), "unscored": unscored, "unwritable": unlike}
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


def _code(run: Run) -> list[str]:
    return [__name__, *{type(each.scorer).__module__ for each in get(run.task.scorers)}]


def _inputs(run: Run) -> dict[str, Any]:
    # What scorers find on this machine, as the Nu checker, is in their signatures.
    chosen = get(run.task.scorers, run.task.text)
    return {"metrics": [str(metric.signature) for each in chosen for metric in each.metrics]}


STAGE = Stage(
    "score",
    score,
    _code,
    _inputs,
    needs=(*(f"generate-{each.name}" for each in generating()), f"likelihood-{BASE.name}"),
)
