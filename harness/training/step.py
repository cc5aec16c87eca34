"""One optimiser step's gradients, and the loss of samples, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from harness.models.load import Base
from harness.tokens import TokenSample
from harness.training.loss import scored_tokens, summed_nll
from harness.training.planning import RowPlan
from harness.training.rows import build_row, plan_rows


def accumulate(
    base: Base, batch: Sequence[TokenSample], plan: RowPlan, scaler: Any
) -> torch.Tensor:
    """Gradients of the batch's mean nll a scored token, row by row; returns that mean."""
    count = sum(sample.scored_tokens for sample in batch)
    total = torch.zeros((), dtype=torch.float32, device=base.device)
    for members in plan_rows(batch, plan.row_tokens, base.model.config):
        loss = summed_nll(base, build_row([batch[i] for i in members], base)) / count
        scaler.scale(loss).backward()
        total += loss.detach()
    return total


def mean_loss(base: Base, samples: Sequence[TokenSample], plan: RowPlan) -> float:
    """Nats a scored token over `samples`, under the arm that is switched on."""
    total, count = 0.0, 0
    for members in plan_rows(samples, plan.row_tokens, base.model.config):
        nll, _ = scored_tokens(base, build_row([samples[i] for i in members], base))
        total += float(nll.sum(dtype=torch.float64))
        count += len(nll)
    return total / max(count, 1)
