"""The output head: from hidden states to logits, and to the first choice among them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.load import Base

_BLOCK = 128


def plain_head(base: Base) -> bool:
    """Whether logits are hidden states times a frozen matrix, and nothing else."""
    config = base.model.config
    return (
        type(base.head) is nn.Linear
        and base.head.bias is None
        and not base.head.weight.requires_grad
        and getattr(config, "final_logit_softcapping", None) is None
        and getattr(config, "logit_scale", None) is None
        and getattr(config, "logits_scaling", None) is None
    )


def head_logits(base: Base, states: Tensor) -> Tensor:
    """Logits [N, V] of hidden states [N, D], by what the model does after its decoder."""
    config = base.model.config
    logits: Tensor = base.head(states.to(base.head_weight.dtype))
    if (scale := getattr(config, "logit_scale", None)) is not None:
        logits = logits * scale
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        logits = logits / divisor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits


def first_choice(logits: Tensor) -> Tensor:
    """argmax over the last axis of [N, V], the first of equals.

    In two steps over blocks where V allows: a CPU's argmax of bfloat16 is not vectorised, amax is.
    """
    rows, size = logits.shape
    if logits.device.type != "cpu" or size % _BLOCK:
        return logits.argmax(-1)
    blocks = logits.view(rows, size // _BLOCK, _BLOCK)
    best = blocks.amax(-1).argmax(-1)
    within = blocks[torch.arange(rows), best].argmax(-1)
    return best * _BLOCK + within
