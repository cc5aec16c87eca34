"""Token-level cross-entropy of a language model's logits. The one scorer that needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def token_cross_entropy(logits: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of -log p(target) over the positions of the mask, in nats a token.

    logits:  [..., V], at each position the scores of the token that comes *next*.
    targets: [...], the id of that next token: shift by one before calling.
    mask:    [...], true (or not 0) where the target counts: not on the prompt, not on padding.
             None: everywhere. What stands outside of it is never looked at, so that padding ids
             such as -100 and logits that are no numbers do no harm there.

    Returns a float32 scalar (float64 for float64 logits), differentiable in the logits; exp of it
    is the perplexity, and over log(2) times bytes a token it is bits a byte. Uniform logits give
    log V. Softmax is taken in float32 whatever the logits' type.
    Raises ValueError where shapes do not fit, nothing is left by the mask, or a target that
    counts is not in 0..V-1.
    """
    if logits.ndim < 1 or logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"logits {list(logits.shape)} need targets {list(logits.shape[:-1])}, "
            f"not {list(targets.shape)}"
        )
    if mask is not None and mask.shape != targets.shape:
        raise ValueError(f"the mask is {list(mask.shape)}, the targets are {list(targets.shape)}")
    counted = torch.ones_like(targets, dtype=torch.bool) if mask is None else mask.bool()
    picked = targets[counted]
    if not len(picked):
        raise ValueError("the mask leaves no token to score")
    if int(picked.min()) < 0 or int(picked.max()) >= logits.shape[-1]:
        raise ValueError(f"a target is not in 0 to {logits.shape[-1] - 1}")
    return token_nll(logits[counted], picked).mean()


def token_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """-log p(target) [N] in nats of logits [N, V] and targets [N]; float32 (float64 of float64)."""
    # Widened first: on a CPU log_softmax from bfloat16 to float32 is four times as slow.
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return -torch.log_softmax(wide, -1).gather(-1, targets[:, None])[:, 0]
