"""train: the adapter, from the training part, with a checkpoint to go on from after a kill."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import Any

from harness.errors import RunError
from harness.host.files import write_jsonl
from harness.host.progress import Progress
from harness.runs.context import Context
from harness.runs.journal import Journal
from harness.runs.run import UNKEYED, Run
from harness.runs.stage import Stage
from harness.tracking import Feed


def train(context: Context) -> None:
    """Write adapter/ (PEFT's format) and log.jsonl. Raises DivergedError and other RunErrors."""
    run = context.run
    if not run.model.has_weights:
        context.publish("train", [], {"trained": False}, 0.0)
        return
    from harness.models.adapter import Adapter
    from harness.models.device import limit_memory
    from harness.models.load import describe_base
    from harness.stages.encode import encode
    from harness.stages.validation_answers import ValidationAnswers
    from harness.training.loop import train as fit
    from harness.training.memory_plan import PlanConstraints
    from harness.training.schedule import total_steps
    from harness.training.step_log import StepLog
    from harness.training.trainer import Trainer

    base = context.session.base(run)
    codec = base.codec(run.task.template)
    longest = min(run.recipe.max_length, base.context)
    recipe = run.recipe.model_copy(update={"max_length": longest})
    encoded = encode(context, base, codec, longest)
    samples = encoded.train
    held_out = context.view.examples("validation")

    if not encoded.validation and (recipe.early_stopping_patience or recipe.load_best_model_at_end):
        raise RunError(
            f"recipe {recipe.name} chooses by the validation loss, but {run.task.name} has no "
            "validation part; set split.validation in the task, or leave early_stopping_patience "
            "and load_best_model_at_end out of the recipe."
        )

    scratch = context.scratch("train")
    total = total_steps(recipe, [len(sample.ids) for sample in samples])
    journal = Journal(scratch / "log.jsonl", notice=context.say)
    entries: list[dict[str, Any]] = []
    bars: list[Progress] = []
    feeds: list[Feed] = []

    def carry() -> dict[str, Any]:
        """What a checkpoint carries: the log is whole then, whatever becomes of the journals."""
        return {"log": entries, "samples": [] if answers is None else answers.rows}

    def resumed(step: int, carried: dict[str, Any]) -> None:
        """Go on after what was logged up to the checkpoint that training goes on from."""
        if answers is not None:
            answers.resumed(carried.get("samples", ()))
        entries.extend(carried.get("log", ()))
        journal.read()  # damage is said, though nothing is lost by it
        journal.replace(entries)
        # Where there is no terminal, the lines of the steps say enough.
        bars.append(
            stack.enter_context(Progress("train", total, "steps", initial=step, interval=1e9))
        )
        if context.session.report_to:
            feeds.append(
                Feed(
                    context.session.report_to,
                    context.folder.path.name,
                    {**recipe.model_dump(), "model": run.model.name, "task": run.task.name}
                    | {"recipe": run.recipe.name, "seed": run.seed},
                    context.folder.path,
                    scratch / "sent.jsonl",
                    context.say,
                )
            )
            stack.callback(feeds[0].close)
            feeds[0].follow(entries)

    def log(entry: StepLog) -> None:
        row = entry.to_json()
        journal.append(row)
        entries.append(row)
        due = entry.step % recipe.logging_steps == 0 or entry.validation is not None
        if due or entry.step == total:
            context.say(entry.line())
        if said := entry.validation_line():
            context.say(said)
            if answers is not None and (shown := answers.line(entry.step)):
                context.say(shown)
        for feed in feeds:
            feed.follow([row])
        bars[0].advance(note=f"loss {entry.loss:.4f}")

    adapter = Adapter.attach(base, run.recipe.lora, run.seed)
    answers = None
    if recipe.eval_samples and held_out:
        answers = ValidationAnswers(
            base,
            adapter,
            codec,
            held_out[: recipe.eval_samples],
            run.task.decoding,
            scratch / "samples.jsonl",
            context.say,
        )
    try:
        limit_memory(base.device, context.session.max_memory)
        trainer = Trainer(
            base,
            adapter,
            samples,
            encoded.validation,
            recipe,
            run.seed,
            context.say,
            PlanConstraints(memory=context.session.max_memory),
        )
        with journal, ExitStack() as stack:
            if answers is not None:
                stack.callback(answers.close)
            look = None if answers is None else lambda step: answers(step, trainer.plan.decoder)
            facts = fit(trainer, scratch / "checkpoints", log, resumed, look, carry)
        live = adapter.check_live(list(samples[0].ids[: max(samples[0].prompt_tokens, 1)]))
        folder = context.view.files.adapter
        shutil.rmtree(folder, ignore_errors=True)
        files = adapter.save(folder)
    finally:
        adapter.detach()
    files.append(write_jsonl(context.view.files.log, entries))
    if answers is not None:
        files.append(write_jsonl(context.view.files.samples, answers.rows))
    stepping = sum(row["seconds"] for row in entries)
    seconds = stepping + sum(row["watching"] for row in entries)
    facts |= {
        "base": describe_base(base),
        "adapter": live,
        "cut": encoded.cut,
        "unlabelled": encoded.unlabelled,
        "bytes_per_token": encoded.bytes_per_token,
        "vocabulary": len(base.tokenizer),
        "measured": {
            "seconds": seconds,
            "tokens_per_second": facts["tokens"] / max(stepping, 1e-9),
            **context.session.memory(),
        },
    }
    context.publish("train", files, facts, seconds)


def _code(run: Run) -> list[str]:
    if not run.model.has_weights:
        return []
    return [
        __name__,
        "harness.models.session",
        *([_ANSWERS] if run.recipe.eval_samples else []),
    ]


def _inputs(run: Run) -> dict[str, Any]:
    held = {"name", "quantization", "precision"}  # these are told by the weights
    return {
        "weights": dict(run.weights),
        "recipe": run.recipe.model_dump(exclude={*UNKEYED["recipe"], *held}),
        "template": run.task.template,
        "seed": run.seed,
        "decoding": run.task.decoding.model_dump() if run.recipe.eval_samples else None,
    }


_ANSWERS = "harness.stages.validation_answers"
STAGE = Stage("train", train, _code, _inputs, apart=(_ANSWERS,), needs=("prepare",))
