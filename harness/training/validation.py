"""Validation while a training runs: its loss and accuracy, the best so far, when to stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from harness.data.tokens import TokenSample
from harness.decoder.packed import plan_packing
from harness.decoder.teacher_forced import token_scores
from harness.models.load import Base
from harness.training.memory_plan import MemoryPlan


@dataclass(frozen=True, slots=True)
class Validation:
    """loss: nats a scored token. accuracy: share of them that were the model's first choice."""

    loss: float
    accuracy: float


def validate(base: Base, samples: Sequence[TokenSample], plan: MemoryPlan) -> Validation:
    """Loss and token accuracy over `samples`, under the system that is switched on."""
    if plan.decoder is not None:
        plan.decoder.refresh()
    # On the device until the end: one wait in all, not one a sequence.
    total = torch.zeros((), dtype=torch.float64, device=base.device)
    hits = torch.zeros((), dtype=torch.long, device=base.device)
    count = 0
    for members in plan_packing(samples, plan.row_tokens, base.model.config):
        nll, correct = token_scores(base, [samples[i] for i in members], plan.decoder)
        total += nll.sum(dtype=torch.float64)
        hits += correct.sum()
        count += len(nll)
    return Validation(float(total) / max(count, 1), int(hits) / max(count, 1))


@dataclass(slots=True)
class Best:
    """The lowest validation loss so far. A loss that is not finite is never the best.

    step: the optimiser step it was measured after, 0 before any. stale: measurements since.
    """

    step: int = 0
    loss: float = math.inf
    stale: int = 0

    def update(self, step: int, loss: float) -> bool:
        """Take note of a measurement; whether it is the new best."""
        if loss < self.loss:
            self.step, self.loss, self.stale = step, loss, 0
            return True
        self.stale += 1
        return False

    def exhausted(self, patience: int) -> bool:
        """Whether `patience` measurements in a row brought nothing better (0: never)."""
        return 0 < patience <= self.stale

    def state_dict(self) -> dict[str, Any]:
        """Plain data, for a checkpoint; `Best(**state)` is this one again."""
        return asdict(self)
