"""One training: its state, and what an optimiser step and a validation do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from harness.config.schema import RecipeConfig
from harness.data.tokens import TokenSample
from harness.errors import DivergedError, RunError
from harness.models.adapter import Adapter
from harness.models.load import Base
from harness.training.accumulate import accumulate
from harness.training.memory_plan import PlanConstraints, plan_for
from harness.training.mfu import peak_tokens_per_second
from harness.training.optimizers import make_optimizer
from harness.training.schedule import learning_rate, steps_per_epoch, total_steps
from harness.training.validation import Best, Validation, validate

T = TypeVar("T")

OVERFLOWS = 30
"""Steps in a row that may overflow in float16 while the scale is found: from 65,536 on, each halves
it."""


class DeviceEvent:
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

    def since(self, earlier: DeviceEvent) -> float:
        """Seconds from `earlier`; both are over."""
        if self._event is None or earlier._event is None:
            return self._at - earlier._at
        return float(earlier._event.elapsed_time(self._event)) / 1e3


@dataclass(slots=True)
class PendingStep:
    """An optimiser step that the device has been given.

    step: its number, from 1. result: loss and gradient norm, on their way to the host. began,
    ended: on the device. read: whether the result has been looked at.
    """

    step: int
    tokens: int
    scored: int
    learning_rate: float
    result: torch.Tensor
    began: DeviceEvent
    ended: DeviceEvent
    read: bool = False


class Trainer:
    """Trains `adapter` on `samples`, each of which has a label left, where `base` is loaded.

    An optimiser step minimises the summed nll of its examples over the count of their scored
    tokens, whatever the packed sequences and micro-batches that it takes. Randomness (order,
    dropout) is a function of (seed, step), so a resumed training takes the same steps.
    fixed: what is fixed of how a step is carried out; the rest is planned from memory.
    """

    def __init__(
        self,
        base: Base,
        adapter: Adapter,
        samples: Sequence[TokenSample],
        validation: Sequence[TokenSample],
        recipe: RecipeConfig,
        seed: int,
        say: Callable[[str], None],
        fixed: PlanConstraints = PlanConstraints(),  # noqa: B008 (frozen)
    ) -> None:
        self.base, self.adapter, self.device = base, adapter, base.device
        self.samples, self.validation = samples, validation
        self.recipe, self.seed, self.say = recipe, seed, say
        self.lengths = [len(sample.ids) for sample in samples]
        self.total_steps = total_steps(recipe, self.lengths)
        self.steps_per_epoch = steps_per_epoch(recipe, self.lengths)
        self.step = 0  # optimiser steps taken so far
        self.parameters = adapter.parameters()
        self.optimizer = make_optimizer(recipe, self.parameters)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=base.dtype == torch.float16)
        self.best = Best()
        if fixed.checkpointing == "auto":
            fixed = replace(fixed, checkpointing=recipe.gradient_checkpointing)
        self._plan_with(fixed)
        self._last: PendingStep | None = None
        self._overflows = 0

    def prepare(self) -> None:
        """Make what the plan needs, or a smaller one where memory runs out: before any step."""
        self.peak_tokens_per_second = peak_tokens_per_second(self.base)
        self._within_memory(lambda: self.plan.prepare(self.base))
        self.say(self.plan.line())

    def train_step(self, batch: Sequence[TokenSample]) -> PendingStep:
        """Hand the next optimiser step to the device, and do not wait for it.

        Raises RunError when memory runs out at the smallest plan.
        """
        last = self._last
        began = last.ended if last and not last.read else DeviceEvent(self.device)
        rate = learning_rate(self.recipe, self.step, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.adapter.train(True)
        loss = self._within_memory(lambda: self._accumulate(batch))
        # Data parallelism belongs here: one all-reduce of the flat gradients and the loss, each
        # rank having divided by the scored tokens of all ranks.
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.adapter.train(False)
        self.step += 1
        self._last = PendingStep(
            step=self.step,
            tokens=sum(len(sample.ids) for sample in batch),
            scored=sum(sample.scored_tokens for sample in batch),
            learning_rate=rate,
            result=torch.stack([loss.float(), norm.float()]).to("cpu", non_blocking=True),
            began=began,
            ended=DeviceEvent(self.device),
        )
        return self._last

    def wait_for(self, pending: PendingStep) -> tuple[float, float, float]:
        """Loss, gradient norm and seconds of a step, once it is over; in the order of the steps.

        Raises DivergedError when loss or gradient is not finite.
        """
        pending.ended.wait()
        pending.read = True
        loss, norm = pending.result.tolist()
        self._overflows = 0 if math.isfinite(norm) else self._overflows + 1
        bearable = OVERFLOWS if self.scaler.is_enabled() else 0
        if not math.isfinite(loss) or self._overflows > bearable:
            raise DivergedError(
                f"training diverged at step {pending.step} (loss {loss}, gradient norm {norm}); "
                "lower the learning rate."
            )
        return loss, norm, pending.ended.since(pending.began)

    def validate(self) -> Validation:
        """Loss and token accuracy of the adapter as it stands on the validation part."""
        return self._within_memory(lambda: validate(self.base, self.validation, self.plan))

    @property
    def stopped_early(self) -> bool:
        """Whether the recipe's patience with the validation loss is at its end."""
        return self.best.exhausted(self.recipe.early_stopping_patience)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, when no step is pending."""
        return {
            "step": self.step,
            "adapter": self.adapter.state(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best.state_dict(),
            "row_tokens": self.plan.row_tokens,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, before `prepare`."""
        if self._fixed.row_tokens is None:
            # The same packed sequences, because dropout is drawn for each.
            self._plan_with(replace(self._fixed, row_tokens=state["row_tokens"]))
        self.step = state["step"]
        self.adapter.load_state(state["adapter"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.best = Best(**state["best"])

    def _plan_with(self, fixed: PlanConstraints) -> None:
        self._fixed = fixed
        step_tokens = sum(self.lengths) / self.steps_per_epoch
        self.plan = plan_for(self.base, self.adapter, self.lengths, step_tokens, fixed)

    def _accumulate(self, batch: Sequence[TokenSample]) -> torch.Tensor:
        torch.manual_seed(self.seed * 1_000_003 + self.step)
        return accumulate(self.base, batch, self.plan, self.scaler)

    def _within_memory(self, work: Callable[[], T]) -> T:
        """The value of `work`, under a smaller plan where memory runs out."""
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                pass  # until here its traceback holds all that the work had made
            self.optimizer.zero_grad(set_to_none=True)
            if not self.plan.shrink(self.base):
                raise RunError(
                    f"training {self.base.name} runs out of memory on {self.device} even at the "
                    "smallest rows; lower max_length, or use --quantization nf4."
                )
            self.say(f"out of memory: {self.plan.line()}")
