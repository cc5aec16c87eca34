"""Causal attention within each document of a packed row, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True, slots=True)
class Documents:
    """Where the documents of a row of T tokens begin: starts [n + 1], from 0 to T, int32.

    longest: tokens of the longest. mask: [T, T] true where a query (row) sees a key, or None
    where a kernel takes the starts.
    """

    starts: Tensor
    longest: int
    mask: Tensor | None


def documents(lengths: list[int], device: torch.device, dtype: torch.dtype) -> Documents:
    """The documents of a row, for the kernel that `device` and `dtype` have."""
    starts = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    if device.type == "cuda":
        starts = starts.pin_memory()
    mask = None
    if not _has_varlen() or device.type != "cuda" or dtype == torch.float32:
        owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        at = torch.arange(len(owner))
        mask = (owner[:, None] == owner[None, :]) & (at[:, None] >= at[None, :])
        mask = mask.to(device)
    return Documents(starts.to(device, non_blocking=True), max(lengths), mask)


@dataclass(slots=True)
class Attention:
    """One call, kept for its gradient: q [T, H, K], k and v [T, G, K] with G dividing H."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor

    def backward(self, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of q, k and v where that of the result is `grad` [T, H, K]."""
        gq, gk, gv = torch.autograd.grad(self.out, (self.q, self.k, self.v), grad)
        return gq, gk, gv


def attend(q: Tensor, k: Tensor, v: Tensor, rows: Documents) -> Attention:
    """softmax(q k' / sqrt(K)) v within each document, causal; the result is `.out` [T, H, K].

    Fewer key/value heads than query heads are shared by neighbours; one alone is never copied.
    """
    with torch.enable_grad():
        q, k, v = (each.detach().requires_grad_() for each in (q, k, v))
        return Attention(q, k, v, _attend(q, _shared(k, q.shape[1]), _shared(v, q.shape[1]), rows))


def _shared(x: Tensor, heads: int) -> Tensor:
    tokens, groups, size = x.shape
    if groups == heads:
        return x
    if groups == 1:
        return x.expand(-1, heads, -1)
    return x[:, :, None].expand(-1, -1, heads // groups, -1).reshape(tokens, heads, size)


def _attend(q: Tensor, k: Tensor, v: Tensor, rows: Documents) -> Tensor:
    if rows.mask is None:
        varlen, causal = _varlen()
        out: Tensor = varlen(
            q, k, v, rows.starts, rows.starts, rows.longest, rows.longest, **causal
        )
        return out
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    mixed = scaled_dot_product_attention(q, k, v, attn_mask=rows.mask)
    return mixed[0].transpose(0, 1)


@cache
def _has_varlen() -> bool:
    try:
        import torch.nn.attention.varlen
    except ImportError:
        return False
    return hasattr(torch.nn.attention.varlen, "varlen_attn")


@cache
def _varlen() -> tuple[Any, dict[str, Any]]:
    """The kernel, and how this version of torch is told to be causal."""
    import inspect

    from torch.nn.attention.varlen import varlen_attn

    named = inspect.signature(varlen_attn).parameters
    return varlen_attn, {"window_size": (-1, 0)} if "window_size" in named else {"is_causal": True}
