"""The output head: from hidden states to logits, and to the first choice among them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.load import Base

_BLOCK = 128

_WORDS = 1024
"""Words of a plain head that a CPU computes at a time."""


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


class Head:
    """The output head of a loaded base, for hidden states [N, D].

    On a CPU a plain head is computed a few thousand words at a time: a block's logits are looked
    at while they are in the cache, and the weights are not copied.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.blocked = base.device.type == "cpu" and plain_head(base)

    def logits(self, states: Tensor) -> Tensor:
        """Logits [N, V]."""
        if not self.blocked:
            return head_logits(self.base, states)
        # Row by row: what is summed over words must not depend on how many rows there are.
        return self._transposed(states).T.contiguous()

    def first(self, states: Tensor) -> Tensor:
        """The likeliest token [N], the first of equals."""
        if not self.blocked:
            return head_logits(self.base, states).argmax(-1)
        size = self.base.head_weight.shape[0]
        if size % _BLOCK:
            return self._transposed(states).argmax(0)
        tops = states.new_empty(size // _BLOCK, len(states), dtype=self.base.head_weight.dtype)
        logits = self._transposed(states, tops)
        best = tops.argmax(0)
        rows = torch.arange(len(states))
        within = logits.view(-1, _BLOCK, len(states))[best, :, rows].argmax(-1)
        return best * _BLOCK + within

    def scores(self, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """-log p(label) [N] in nats (float32), and whether the label comes first [N], the first of
        equals. Where `blocked`: the softmax's denominator is summed block by block."""
        weight, rows = self.base.head_weight, torch.arange(len(states))
        columns = states.to(weight.dtype).T
        most = torch.full((len(states),), -torch.inf)
        total, picked = torch.zeros(len(states)), torch.zeros(len(states))
        first = torch.zeros(len(states), dtype=torch.long)
        for at in range(0, len(weight), _WORDS):
            part = torch.mm(weight[at : at + _WORDS], columns).float()
            within = labels - at
            inside = (within >= 0) & (within < len(part))
            own = part[within.clamp(0, len(part) - 1), rows]
            picked = torch.where(inside, own, picked)
            top, place = part.max(0)
            first = torch.where(top > most, place + at, first)
            higher = torch.maximum(most, top)
            total = total * (most - higher).exp() + part.sub_(higher).exp_().sum(0)
            most = higher
        return most + total.log() - picked, first == labels

    def _transposed(self, states: Tensor, tops: Tensor | None = None) -> Tensor:
        """Logits [V, N]. tops: takes the largest of each _BLOCK of them [V / _BLOCK, N]."""
        weight = self.base.head_weight
        columns = states.to(weight.dtype).T
        logits = weight.new_empty(len(weight), len(states))
        for at in range(0, len(weight), _WORDS):
            part = logits[at : at + _WORDS]
            torch.mm(weight[at : at + _WORDS], columns, out=part)
            if tops is not None:
                of = slice(at // _BLOCK, at // _BLOCK + len(part) // _BLOCK)
                torch.amax(part.view(-1, _BLOCK, len(states)), 1, out=tops[of])
        return logits
