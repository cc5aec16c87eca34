"""The differentiable loss of transformers' layers, without keeping the logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.decoder.packed import PackedSequence
from harness.decoder.teacher_forced import CHUNK_ELEMENTS, hidden_states
from harness.models.head import head_logits, plain_head
from harness.models.load import Base


def summed_nll(base: Base, packed: PackedSequence) -> Tensor:
    """Sum over the scored tokens of -log p(token | what precedes it), in nats; float32.

    Differentiable with respect to the adapter (the head is frozen).
    """
    states = hidden_states(base, packed)
    if plain_head(base):
        weight = base.head_weight
        total: Tensor = _ChunkedCrossEntropy.apply(states.to(weight.dtype), weight, packed.labels)  # type: ignore[no-untyped-call]
        return total
    logits = head_logits(base, states)
    return nn.functional.cross_entropy(logits.float(), packed.labels, reduction="sum")


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
