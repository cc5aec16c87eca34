"""Token-level cross-entropy over the positions that are scored, without keeping their logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.models.head import first_choice, head_logits, plain_head
from harness.models.load import Base
from harness.training.cross_entropy import token_losses
from harness.training.packing import Row

CHUNK_ELEMENTS = 1 << 25
"""Logits made at a time: 33.5 M, 128 MiB in float32."""


def hidden_states(base: Base, row: Row) -> Tensor:
    """Final hidden states [N, D] of `row` at the positions that predict a scored token."""
    with base.autocast():
        states = base.decoder(
            input_ids=row.ids,
            position_ids=row.positions,
            attention_mask=row.mask,
            use_cache=False,
        ).last_hidden_state
    picked: Tensor = states[0].index_select(0, row.predict)
    return picked


def summed_nll(base: Base, row: Row) -> Tensor:
    """Sum over the scored tokens of `row` of -log p(token | what precedes it), in nats; float32.

    Differentiable with respect to the adapter (the head is frozen).
    """
    states = hidden_states(base, row)
    if plain_head(base):
        weight = base.head_weight
        total: Tensor = _ChunkedCrossEntropy.apply(states.to(weight.dtype), weight, row.labels)  # type: ignore[no-untyped-call]
        return total
    logits = head_logits(base, states)
    return nn.functional.cross_entropy(logits.float(), row.labels, reduction="sum")


@torch.inference_mode()
def scored_tokens(base: Base, row: Row) -> tuple[Tensor, Tensor]:
    """nll [N] in nats (float32) and whether the token was the model's first choice [N] (bool)."""
    states = hidden_states(base, row)
    nll, correct = [], []
    step = _chunk(base.head)
    for at in range(0, len(states), step):
        labels = row.labels[at : at + step]
        logits = head_logits(base, states[at : at + step])
        correct.append(first_choice(logits) == labels)
        nll.append(token_losses(logits, labels))
    empty = torch.empty(0, device=base.device)
    if not nll:
        return empty, empty.bool()
    return torch.cat(nll), torch.cat(correct)


def _chunk(head: nn.Module) -> int:
    vocabulary = int(getattr(head, "out_features", 1 << 15))
    return max(1, CHUNK_ELEMENTS // vocabulary)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of states @ weight.T, its gradient taken chunk by chunk on the way.

    With softmax p and one-hot y, d loss / d states = (p - y) @ weight: made in the forward pass,
    while the chunk's logits are there, so that they are computed once and never kept.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        step = max(1, CHUNK_ELEMENTS // weight.shape[0])
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        gradient = torch.empty_like(states)
        for at in range(0, len(states), step):
            picked = labels[at : at + step, None]
            logits = states[at : at + step] @ weight.T
            logp = torch.log_softmax(logits.float(), -1)
            total -= logp.gather(1, picked).sum()
            p = logp.exp_()
            p.scatter_add_(1, picked, torch.full_like(picked, -1, dtype=p.dtype))
            gradient[at : at + step] = p.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0].to(gradient.dtype), None, None
