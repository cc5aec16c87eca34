"""score: every system's answers by the task's scorers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.host.files import write_jsonl
from harness.records import Example, Generation, Sample, Scored
from harness.runs.context import Context, stopwatch
from harness.runs.run import Run
from harness.runs.stage import Stage
from harness.scorers import get, metrics_of, score_systems
from harness.scorers.registry import modules_of
from harness.scorers.text.extract import extract
from harness.systems import AS_GIVEN, BASE, REFERENCE, System
from harness.systems import systems as systems_of


def score(context: Context) -> None:
    """Write scores/<system>.jsonl, one line an answer (see `score_row`).

    And scores/reference_as_given.jsonl where that is another text for some prompt.
    """
    run, view = context.run, context.view
    scorers = get(run.task.scorers, run.task.text)
    examples = view.examples("test")
    every = systems_of(view.adapters)
    texts = {each.name: each.texts(view) for each in every if each.texts is not None}
    as_given = [e.target for e in examples]
    unlike = sum(a != b for a, b in zip(texts[REFERENCE.name], as_given, strict=True))
    if unlike:
        texts[AS_GIVEN] = as_given
    systems = {
        each.name: [
            sample_of(request, answer.text, answer)
            for request, answer in zip(view.requests(), view.generations(each.name), strict=True)
        ]
        for each in every
        if each.generates
    }
    for name, of_system in texts.items():
        systems[name] = [
            sample_of(e, text, None) for e, text in zip(examples, of_system, strict=True)
        ]
    with stopwatch() as seconds:
        scored = score_systems(systems, scorers)
        files = [
            write_jsonl(view.files.scores(system), map(score_row, samples, scored[system]))
            for system, samples in systems.items()
        ]
        unscored = sum(len(one.notes) for found in scored.values() for one in found)
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
    return [__name__, *modules_of(run.task.scorers)]


def _inputs(run: Run) -> dict[str, Any]:
    # What scorers find on this machine, as the Nu checker, is in their signatures.
    chosen = get(run.task.scorers, run.task.text)
    return {"metrics": [str(metric.signature) for metric in metrics_of(chosen)]}


def stage(systems: Sequence[System]) -> Stage:
    """The stage that scores what `systems` generated, and those without a model."""
    needs = (*(f"generate-{each.name}" for each in systems), f"likelihood-{BASE.name}")
    return Stage("score", score, _code, _inputs, needs=needs)
