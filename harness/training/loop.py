"""The training loop: a flat PyTorch loop over packed rows, resumable at every optimiser step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from harness import interrupts
from harness.config.schema import RecipeConfig
from harness.errors import DivergedError, RunError
from harness.models.adapter import Adapter
from harness.models.load import Base
from harness.tokens import TokenSample
from harness.training.checkpoints import newest_checkpoint, save_checkpoint
from harness.training.loader import step_loader
from harness.training.optimizers import make_optimizer
from harness.training.planning import Wanted, plan_for
from harness.training.schedule import (
    examples_of_step,
    learning_rate,
    saves_after,
    steps_per_epoch,
    total_steps,
)
from harness.training.step import accumulate, mean_loss


@dataclass(frozen=True, slots=True)
class StepLog:
    """What one optimiser step did. loss: nats a scored token; validation: the same, held back."""

    step: int
    total: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    scored: int
    seconds: float
    validation: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data; what overflowed (a gradient norm in float16, at first) is null."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    def line(self) -> str:
        """One line for people."""
        text = (
            f"step {self.step}/{self.total}  loss {self.loss:.4f}  rate {self.learning_rate:.2e}  "
            f"grad {self.grad_norm:.3f}  {self.tokens / max(self.seconds, 1e-9):.0f} tok/s"
        )
        return text if self.validation is None else f"{text}  validation {self.validation:.4f}"


def train(
    base: Base,
    adapter: Adapter,
    samples: Sequence[TokenSample],
    validation: Sequence[TokenSample],
    recipe: RecipeConfig,
    seed: int,
    checkpoints: Path,
    log: Callable[[StepLog], None],
    say: Callable[[str], None],
    resumed: Callable[[int], None] = lambda step: None,
    wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """Train `adapter` on `samples`, each of which has a label left; returns the facts.

    An optimiser step minimises the summed nll of its examples over the count of their scored
    tokens, whatever the rows and micro-batches that it takes. Randomness (order, dropout) is a
    function of (seed, step), so a resumed training takes the same steps.
    wanted: what is fixed of how a step is carried out; the rest is planned from memory.
    `resumed(step)` is called first, with the step that the training goes on from (0: from none).
    Raises DivergedError when loss or gradient is not finite, RunError when memory runs out at
    the smallest plan, Interrupted after a checkpoint when a signal came.
    """
    lengths = [len(sample.ids) for sample in samples]
    total = total_steps(recipe, lengths)
    parameters = adapter.parameters()
    optimizer = make_optimizer(recipe, parameters)
    scaler = torch.amp.GradScaler(base.device.type, enabled=base.dtype == torch.float16)
    start = 0
    if found := newest_checkpoint(checkpoints):
        start, state = found
        adapter.load_state(state["adapter"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        say(f"training goes on from step {start} of {total}")
    resumed(start)
    if wanted.checkpointing == "auto":
        wanted = replace(wanted, checkpointing=recipe.gradient_checkpointing)
    step_tokens = sum(lengths) / steps_per_epoch(recipe, lengths)
    plan = plan_for(base, adapter, lengths, step_tokens, wanted)
    say(plan.line())

    def save(step: int) -> None:
        state = {
            "adapter": adapter.state(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
        }
        save_checkpoint(checkpoints, step, state, recipe.save_total_limit)

    per_epoch = steps_per_epoch(recipe, lengths)
    for step, batch in enumerate(step_loader(samples, recipe, seed, start, total), start):
        began = time.perf_counter()
        rate = learning_rate(recipe, step, total)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with interrupts.deferred():
            adapter.train(True)
            while True:
                try:
                    torch.manual_seed(seed * 1_000_003 + step)
                    loss = accumulate(base, batch, plan, scaler)
                    break
                except torch.OutOfMemoryError as error:
                    optimizer.zero_grad(set_to_none=True)
                    torch.cuda.empty_cache()
                    if not plan.shrink(base, adapter):
                        raise RunError(
                            f"training {base.name} runs out of memory on {base.device} even at the "
                            "smallest rows; lower max_length, or use --quantization nf4."
                        ) from error
                    say(f"out of memory: {plan.line()}")
            scaler.unscale_(optimizer)
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm))
            value = float(loss)
            if not math.isfinite(value) or (not math.isfinite(norm) and not scaler.is_enabled()):
                raise DivergedError(
                    f"training diverged at step {step + 1} (loss {value}, gradient norm {norm}); "
                    "lower the learning rate."
                )
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            adapter.train(False)
            done = step + 1
            measured = None
            if validation and (
                done == total or (recipe.eval_steps and done % recipe.eval_steps == 0)
            ):
                measured = mean_loss(base, validation, plan)
            entry = StepLog(
                step=done,
                total=total,
                epoch=done / per_epoch,
                loss=value,
                learning_rate=rate,
                grad_norm=norm,
                tokens=sum(len(sample.ids) for sample in batch),
                scored=sum(sample.scored_tokens for sample in batch),
                seconds=time.perf_counter() - began,
                validation=measured,
            )
            log(entry)
            due = done < total and saves_after(recipe, done, per_epoch)
            if due or interrupts.requested():
                save(done)
        # Leaving the deferred block raises Interrupted where a signal came.
    seen = [i for s in range(total) for i in examples_of_step(recipe, lengths, seed, s)]
    return {
        "steps": total,
        "epochs": total / per_epoch,
        "examples": len(seen),
        "tokens": sum(len(samples[i].ids) for i in seen),
        "scored_tokens": sum(samples[i].scored_tokens for i in seen),
        "trainable_parameters": sum(p.numel() for p in parameters),
        "plan": plan.facts(),
    }


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that the device (on a CPU: this process) has held so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
