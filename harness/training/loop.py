"""The training loop: steps, validations and checkpoints, resumable at every optimiser step."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import RunError
from harness.host import signals
from harness.models.device import peak_memory
from harness.training.checkpoints import (
    forget_after,
    load_best,
    newest_checkpoint,
    save_best,
    save_checkpoint,
)
from harness.training.loader import step_loader
from harness.training.schedule import examples_of_step, saves_after
from harness.training.step_log import StepLog
from harness.training.trainer import PendingStep, Trainer

LOOKAHEAD = {"cuda": 1, "cpu": 0}
"""Steps that a device is given before the result of an older one is looked at, so that a GPU need
not wait for the host between them (a scaler of float16 losses has it wait all the same). Whatever
looks at the adapter waits for the device first."""


def train(
    trainer: Trainer,
    checkpoints: Path,
    log: Callable[[StepLog], None],
    resumed: Callable[[int, dict[str, Any]], None] = lambda step, carried: None,
    answer: Callable[[int], float | None] | None = None,
    carry: Callable[[], dict[str, Any]] = dict,
) -> dict[str, Any]:
    """Take the recipe's steps, from the newest checkpoint on if there is one; returns the facts.

    carry: gives plain data that goes into each checkpoint.
    `resumed(step, carried)` is called first, with the step that the training goes on from (0: from
    none) and what `carry` gave then.
    `answer(step)`, where given, is called at each validation: it has validation prompts answered
    by the adapter as it stands, and returns their mean rougeL.
    With load_best_model_at_end the adapter is left at its lowest validation loss, not its last.
    Raises what the trainer raises, and Interrupted after a checkpoint when a signal came.
    """
    recipe, total = trainer.recipe, trainer.total_steps
    resumed(*_resume(trainer, checkpoints))
    trainer.prepare()

    def save() -> None:
        state = {**trainer.state_dict(), "carried": carry()}
        save_checkpoint(checkpoints, trainer.step, state, recipe.save_total_limit)

    waiting: deque[PendingStep] = deque()
    start = saved = trainer.step
    begun = time.perf_counter()
    for batch in step_loader(trainer.samples, recipe, trainer.seed, start, total):
        if trainer.stopped_early:
            break  # it was interrupted at its last step
        waiting.append(trainer.train_step(batch))
        done = trainer.step
        validates = bool(trainer.validation) and (
            done == total or (recipe.eval_steps > 0 and done % recipe.eval_steps == 0)
        )
        saves = done < total and saves_after(recipe, done, trainer.steps_per_epoch)
        settled = validates or saves or done == total
        while waiting and (
            settled or signals.requested() or len(waiting) > LOOKAHEAD[trainer.device.type]
        ):
            pending = waiting.popleft()
            entry = _finish(trainer, pending)
            if validates and pending.step == done:
                entry = _validated(trainer, entry, checkpoints, answer)
            each = (time.perf_counter() - begun) / (entry.step - start)
            left = 0 if trainer.stopped_early else total - entry.step
            memory = peak_memory(trainer.device) / 2**30
            log(replace(entry, memory_gib=memory, seconds_left=each * left))
        stop = signals.requested() and not waiting
        if stop or (saves and not trainer.stopped_early):
            save()
            saved = done
        if stop:
            break
    if signals.requested():
        if saved < trainer.step:
            save()
        signals.check()
    if trainer.stopped_early:
        trainer.say(
            f"stopped early: validation was lowest at step {trainer.best.step} "
            f"({trainer.best.loss:.4f}), and {trainer.best.stale} measurements since brought "
            "nothing better"
        )
    return _facts(trainer, _publish_best(trainer, checkpoints))


def _resume(trainer: Trainer, checkpoints: Path) -> tuple[int, dict[str, Any]]:
    """Go on from the newest whole checkpoint; its step (0: none), and what it carried."""
    found = newest_checkpoint(checkpoints, trainer.say)
    carried: dict[str, Any] = {}
    if found and found[1]["best"]["step"] and trainer.recipe.load_best_model_at_end:
        best = found[1]["best"]["step"]
        if load_best(checkpoints, best) is None:
            trainer.say(f"the best checkpoint (of step {best}) is damaged: training begins anew")
            found = None
    if found:
        carried = found[1].pop("carried")
        trainer.load_state_dict(found[1])
        trainer.say(f"training goes on from step {trainer.step} of {trainer.total_steps}")
    forget_after(checkpoints, trainer.step)
    return trainer.step, carried


def _finish(trainer: Trainer, pending: PendingStep) -> StepLog:
    """Wait for a step; what it did."""
    loss, norm, seconds = trainer.wait_for(pending)
    return StepLog(
        step=pending.step,
        total=trainer.total_steps,
        epoch=pending.step / trainer.steps_per_epoch,
        loss=loss,
        learning_rate=pending.learning_rate,
        grad_norm=norm,
        tokens=pending.tokens,
        scored=pending.scored,
        seconds=seconds,
        mfu=pending.tokens / max(seconds, 1e-9) / trainer.peak_tokens_per_second,
    )


def _validated(
    trainer: Trainer,
    entry: StepLog,
    checkpoints: Path,
    answer: Callable[[int], float | None] | None,
) -> StepLog:
    """Validate after the step; keep the adapter where it is the best so far."""
    began = time.perf_counter()
    found = trainer.validate()
    is_best = trainer.best.update(entry.step, found.loss)
    if is_best and trainer.recipe.load_best_model_at_end:
        save_best(checkpoints, entry.step, trainer.adapter.state())
    return replace(
        entry,
        validation=found.loss,
        validation_accuracy=found.accuracy,
        validation_rougeL=None if answer is None else answer(entry.step),
        watching=time.perf_counter() - began,
    )


def _publish_best(trainer: Trainer, checkpoints: Path) -> int:
    """Leave the adapter at its best where the recipe asks for that; the step that it is of."""
    best = trainer.best
    if not trainer.recipe.load_best_model_at_end or best.step in (0, trainer.step):
        return trainer.step
    state = load_best(checkpoints, best.step)
    if state is None:
        raise RunError(
            f"the best checkpoint of training {trainer.base.name} (of step {best.step}) is gone or "
            "damaged; run the same command again."
        )
    trainer.adapter.load_state(state)
    trainer.say(f"the adapter of step {best.step} is published (validation {best.loss:.4f})")
    return best.step


def _facts(trainer: Trainer, published: int) -> dict[str, Any]:
    """Plain data for the manifest."""
    recipe, lengths = trainer.recipe, trainer.lengths
    steps = range(trainer.step)
    seen = [i for s in steps for i in examples_of_step(recipe, lengths, trainer.seed, s)]
    return {
        "steps": trainer.step,
        "epochs": trainer.step / trainer.steps_per_epoch,
        "examples": len(seen),
        "tokens": sum(lengths[i] for i in seen),
        "scored_tokens": sum(trainer.samples[i].scored_tokens for i in seen),
        "trainable_parameters": sum(p.numel() for p in trainer.parameters),
        "plan": trainer.plan.facts(),
        "best_step": trainer.best.step or None,
        "best_validation": trainer.best.loss if trainer.best.step else None,
        "stopped_early": trainer.stopped_early,
        "published_step": published,
    }
