"""One optimiser step's gradients, accumulated over its packed sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from harness.data.tokens import TokenSample
from harness.decoder.packed import pack_samples, plan_packing
from harness.models.load import Base
from harness.training.loss import summed_nll
from harness.training.memory_plan import MemoryPlan

_SEQUENCES = 1 << 20
"""More packed sequences than a step has."""


def accumulate(
    base: Base, batch: Sequence[TokenSample], plan: MemoryPlan, scaler: Any
) -> torch.Tensor:
    """Gradients of the batch's mean nll a scored token, sequence by sequence; returns that mean.

    Dropout is drawn from torch's seed.
    """
    count = sum(sample.scored_tokens for sample in batch)
    total = torch.zeros((), dtype=torch.float32, device=base.device)
    rows = plan_packing(batch, plan.row_tokens, base.model.config)
    if plan.decoder is not None:
        plan.decoder.refresh()
        scale = scaler.scale(torch.full((), 1.0 / count, device=base.device))
        for at, members in enumerate(rows):
            dropout_seed = torch.initial_seed() * _SEQUENCES + at
            total += plan.decoder.gradients([batch[i] for i in members], scale, dropout_seed)
        return total / count
    for members in rows:
        packed = pack_samples([batch[i] for i in members], base.device)
        loss = summed_nll(base, packed) / count
        scaler.scale(loss).backward()
        total += loss.detach()
    return total
