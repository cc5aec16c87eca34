"""The loss and its gradient at the output head, without keeping the logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.decoder.packed import PackedSequence
from harness.decoder.teacher_forced import hidden_states
from harness.kernels import pointwise
from harness.models.head import head_logits, plain_head
from harness.models.load import Base

CHUNK_ELEMENTS = {"cuda": 1 << 27, "cpu": 1 << 26}
"""Logits that exist at a time, by device: 256 MiB in bfloat16 on a GPU."""


def summed_nll(base: Base, packed: PackedSequence) -> Tensor:
    """Sum over the scored tokens of -log p(token | what precedes it), in nats; float32.

    By transformers' layers, differentiable with respect to the adapter (the head is frozen).
    """
    states = hidden_states(base, packed)
    if plain_head(base):
        weight = base.head_weight
        total: Tensor = _ChunkedCrossEntropy.apply(states.to(weight.dtype), weight, packed.labels)  # type: ignore[no-untyped-call]
        return total
    logits = head_logits(base, states)
    return nn.functional.cross_entropy(logits.float(), packed.labels, reduction="sum")


def fused_cross_entropy(
    states: Tensor, weight: Tensor, labels: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """nll [N] in nats of states [N, D] under a head [V, D], and scale times its gradient [N, D].

    With softmax p and one-hot y, d nll / d states = (p - y) @ weight: made chunk by chunk, while
    the chunk's logits are there, so that they are computed once and never kept.
    """
    step = max(1, CHUNK_ELEMENTS[weight.device.type] // weight.shape[0])
    grad = torch.empty_like(states)
    nll = []
    for at in range(0, len(states), step):
        logits = states[at : at + step].to(weight.dtype) @ weight.T
        nll.append(pointwise.cross_entropy(logits, labels[at : at + step], scale))
        torch.mm(logits, weight, out=grad[at : at + step])
    return torch.cat(nll), grad


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of states @ weight.T, in autograd's graph."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        one = torch.ones((), device=states.device)
        nll, gradient = fused_cross_entropy(states, weight, labels, one)
        ctx.save_for_backward(gradient)
        return nll.sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0].to(gradient.dtype), None, None
