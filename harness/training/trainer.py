"""The training loop: a flat PyTorch loop over packed rows, resumable at every optimiser step."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from harness.config.schema import RecipeConfig
from harness.data.tokens import TokenSample
from harness.errors import DivergedError, RunError
from harness.host import signals
from harness.models.adapter import Adapter
from harness.models.load import Base
from harness.training.checkpoints import (
    forget_after,
    load_best,
    newest_checkpoint,
    save_best,
    save_checkpoint,
)
from harness.training.loader import step_loader
from harness.training.memory_plan import Wanted, plan_for
from harness.training.mfu import flop_per_token, matmul_rate
from harness.training.optimizers import make_optimizer
from harness.training.schedule import (
    examples_of_step,
    learning_rate,
    saves_after,
    steps_per_epoch,
    total_steps,
)
from harness.training.step import accumulate
from harness.training.step_log import StepLog
from harness.training.validation import Best, validate

T = TypeVar("T")

AHEAD = {"cuda": 1, "cpu": 0}
"""Steps that a device is given before the result of an older one is looked at, so that a GPU need
not wait for the host between them (a scaler of float16 losses has it wait all the same). Whatever
looks at the adapter waits for the device first."""

OVERFLOWS = 30
"""Steps in a row that may overflow in float16 while the scale is found: from 65,536 on, each halves
it."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A step that the device has been given, and whose result has not been looked at.

    result: loss and gradient norm, on their way to the host. began, ended: on the device.
    """

    step: int
    tokens: int
    scored: int
    learning_rate: float
    result: torch.Tensor
    began: Moment
    ended: Moment


class Moment:
    """When a device has done what it was given so far, by its own clock: the host may be ahead."""

    def __init__(self, device: torch.device) -> None:
        self._at = time.perf_counter()
        self._event = None
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            self._event.record()

    def wait(self) -> None:
        """Wait until it is over."""
        if self._event is not None:
            self._event.synchronize()

    def since(self, earlier: Moment) -> float:
        """Seconds from `earlier`; both are over."""
        if self._event is None or earlier._event is None:
            return self._at - earlier._at
        return float(earlier._event.elapsed_time(self._event)) / 1e3


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
    resumed: Callable[[int, dict[str, Any]], None] = lambda step, carried: None,
    wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
    answer: Callable[[int], float | None] | None = None,
    carry: Callable[[], dict[str, Any]] = dict,
) -> dict[str, Any]:
    """Train `adapter` on `samples`, each of which has a label left; returns the facts.

    An optimiser step minimises the summed nll of its examples over the count of their scored
    tokens, whatever the rows and micro-batches that it takes. Randomness (order, dropout) is a
    function of (seed, step), so a resumed training takes the same steps.
    wanted: what is fixed of how a step is carried out; the rest is planned from memory.
    carry: gives plain data that goes into each checkpoint.
    `resumed(step, carried)` is called first, with the step that the training goes on from (0: from
    none) and what `carry` gave then.
    `answer(step)`, where given, is called at each validation: it has validation prompts answered
    by the adapter as it stands, and returns their mean rougeL.
    With load_best_model_at_end the adapter is left at its lowest validation loss, not its last.
    Raises DivergedError when loss or gradient is not finite, RunError when memory runs out at
    the smallest plan, Interrupted after a checkpoint when a signal came.
    """
    lengths = [len(sample.ids) for sample in samples]
    total = total_steps(recipe, lengths)
    parameters = adapter.parameters()
    optimizer = make_optimizer(recipe, parameters)
    scaler = torch.amp.GradScaler(base.device.type, enabled=base.dtype == torch.float16)
    best, start = Best(), 0
    if wanted.checkpointing == "auto":
        wanted = replace(wanted, checkpointing=recipe.gradient_checkpointing)
    step_tokens = sum(lengths) / steps_per_epoch(recipe, lengths)
    found = newest_checkpoint(checkpoints, say)
    carried: dict[str, Any] = {}
    if found and found[1]["best"]["step"] and recipe.load_best_model_at_end:
        at = found[1]["best"]["step"]
        if load_best(checkpoints, at) is None:
            say(f"the best checkpoint (of step {at}) is damaged: training begins anew")
            found = None
    if found and wanted.row_tokens is None:
        # The same rows, because dropout is drawn for each.
        wanted = replace(wanted, row_tokens=found[1]["row_tokens"])
    plan = plan_for(base, adapter, lengths, step_tokens, wanted)
    if found:
        start, state = found
        adapter.load_state(state["adapter"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        best = Best(**state["best"])
        carried = state["carried"]
        say(f"training goes on from step {start} of {total}")
        del found, state
    forget_after(checkpoints, start)
    resumed(start, carried)
    limit = matmul_rate(base.device, base.dtype) / flop_per_token(base)  # tokens a second

    def save(step: int) -> None:
        state = {
            "adapter": adapter.state(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
            "best": best.state(),
            "row_tokens": plan.row_tokens,
            "carried": carry(),
        }
        save_checkpoint(checkpoints, step, state, recipe.save_total_limit)

    def fitting(work: Callable[[], T]) -> T:
        """The value of `work`, under a smaller plan where memory runs out."""
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                pass  # until here its traceback holds all that the work had made
            optimizer.zero_grad(set_to_none=True)
            if not plan.shrink(base, adapter):
                raise RunError(
                    f"training {base.name} runs out of memory on {base.device} even at the "
                    "smallest rows; lower max_length, or use --quantization nf4."
                )
            say(f"out of memory: {plan.line()}")

    fitting(lambda: plan.prepare(base, adapter))
    say(plan.line())

    def gradients(step: int, batch: Sequence[TokenSample]) -> torch.Tensor:
        torch.manual_seed(seed * 1_000_003 + step)
        return accumulate(base, batch, plan, scaler)

    per_epoch = steps_per_epoch(recipe, lengths)
    patience = recipe.early_stopping_patience
    waiting: deque[Queued] = deque()
    overflows = 0

    def queue(step: int, batch: Sequence[TokenSample]) -> None:
        """Hand a step to the device, and do not wait for it."""
        began = waiting[-1].ended if waiting else Moment(base.device)
        rate = learning_rate(recipe, step, total)
        for group in optimizer.param_groups:
            group["lr"] = rate
        adapter.train(True)
        loss = fitting(lambda: gradients(step, batch))
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        adapter.train(False)
        waiting.append(
            Queued(
                step=step + 1,
                tokens=sum(len(sample.ids) for sample in batch),
                scored=sum(sample.scored_tokens for sample in batch),
                learning_rate=rate,
                result=torch.stack([loss.float(), norm.float()]).to("cpu", non_blocking=True),
                began=began,
                ended=Moment(base.device),
            )
        )

    def report(queued: Queued, watched: bool) -> None:
        """Wait for a step and log it; `watched`: validate after it."""
        nonlocal overflows
        queued.ended.wait()
        value, norm = queued.result.tolist()
        stepped, seconds = time.perf_counter(), queued.ended.since(queued.began)
        overflows = 0 if math.isfinite(norm) else overflows + 1
        bearable = OVERFLOWS if scaler.is_enabled() else 0
        if not math.isfinite(value) or overflows > bearable:
            raise DivergedError(
                f"training diverged at step {queued.step} (loss {value}, gradient norm {norm}); "
                "lower the learning rate."
            )
        measured, rouge = None, None
        if watched:
            measured = fitting(lambda: validate(base, validation, plan))
            if best.see(queued.step, measured.loss) and recipe.load_best_model_at_end:
                save_best(checkpoints, queued.step, adapter.state())
            rouge = None if answer is None else answer(queued.step)
        ended = time.perf_counter()
        each = (ended - begun) / (queued.step - start)
        left = 0 if best.exhausted(patience) else total - queued.step
        log(
            StepLog(
                step=queued.step,
                total=total,
                epoch=queued.step / per_epoch,
                loss=value,
                learning_rate=queued.learning_rate,
                grad_norm=norm,
                tokens=queued.tokens,
                scored=queued.scored,
                seconds=seconds,
                validation=None if measured is None else measured.loss,
                validation_accuracy=None if measured is None else measured.accuracy,
                validation_rougeL=rouge,
                watching=ended - stepped,
                of_limit=queued.tokens / max(seconds, 1e-9) / limit,
                memory_gib=peak_memory(base.device) / 2**30,
                seconds_left=each * left,
            )
        )

    ahead = AHEAD[base.device.type]
    done = saved = start
    begun = time.perf_counter()
    for step, batch in enumerate(step_loader(samples, recipe, seed, start, total), start):
        if best.exhausted(patience):
            break  # it was interrupted at its last step
        queue(step, batch)
        done = step + 1
        watched = bool(validation) and (
            done == total or (recipe.eval_steps > 0 and done % recipe.eval_steps == 0)
        )
        saves = done < total and saves_after(recipe, done, per_epoch)
        settled = watched or saves or done == total
        while waiting and (settled or signals.requested() or len(waiting) > ahead):
            queued = waiting.popleft()
            report(queued, watched and queued.step == done)
        stop = signals.requested() and not waiting
        if stop or (saves and not best.exhausted(patience)):
            save(done)
            saved = done
        if stop:
            break
    if signals.requested():
        if saved < done:
            save(done)
        signals.check()
    if best.exhausted(patience):
        say(
            f"stopped early: validation was lowest at step {best.step} ({best.loss:.4f}), and "
            f"{best.stood} measurements since brought nothing better"
        )
    published = done
    if recipe.load_best_model_at_end and best.step and best.step != done:
        state = load_best(checkpoints, best.step)  # type: ignore[assignment]
        if state is None:
            raise RunError(
                f"the best checkpoint of training {base.name} (of step {best.step}) is gone or "
                "damaged; run the same command again."
            )
        adapter.load_state(state)
        published = best.step
        say(f"the adapter of step {best.step} is published (validation {best.loss:.4f})")
    seen = [i for s in range(done) for i in examples_of_step(recipe, lengths, seed, s)]
    return {
        "steps": done,
        "epochs": done / per_epoch,
        "examples": len(seen),
        "tokens": sum(len(samples[i].ids) for i in seen),
        "scored_tokens": sum(samples[i].scored_tokens for i in seen),
        "trainable_parameters": sum(p.numel() for p in parameters),
        "plan": plan.facts(),
        "best_step": best.step or None,
        "best_validation": best.loss if best.step else None,
        "stopped_early": best.exhausted(patience),
        "published_step": published,
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
