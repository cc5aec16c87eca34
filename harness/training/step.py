"""One optimiser step's gradients, and the loss of samples, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.data.tokens import TokenSample
from harness.models.load import Base
from harness.training.loss import scored_tokens, summed_nll
from harness.training.memory_plan import RowPlan
from harness.training.packing import build_row, plan_rows

_CALLS = 1 << 20
"""More rows than a step has."""


def accumulate(
    base: Base, batch: Sequence[TokenSample], plan: RowPlan, scaler: Any
) -> torch.Tensor:
    """Gradients of the batch's mean nll a scored token, row by row; returns that mean.

    Dropout is drawn from torch's seed.
    """
    count = sum(sample.scored_tokens for sample in batch)
    total = torch.zeros((), dtype=torch.float32, device=base.device)
    rows = plan_rows(batch, plan.row_tokens, base.model.config)
    if plan.decoder is not None:
        plan.decoder.refresh()
        scale = scaler.scale(torch.full((), 1.0 / count, device=base.device))
        for at, members in enumerate(rows):
            call = torch.initial_seed() * _CALLS + at
            total += plan.decoder.gradients([batch[i] for i in members], scale, call)
        return total / count
    for members in rows:
        loss = summed_nll(base, build_row([batch[i] for i in members], base)) / count
        scaler.scale(loss).backward()
        total += loss.detach()
    return total


def token_losses(
    base: Base, samples: Sequence[TokenSample], plan: RowPlan
) -> tuple[Tensor, Tensor]:
    """nll [N] in nats of one row's scored tokens, and whether each was the first choice [N]."""
    if plan.decoder is not None:
        return plan.decoder.losses(samples)
    return scored_tokens(base, build_row(samples, base))
