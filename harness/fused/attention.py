"""Causal attention within each document of a packed row, forward and backward."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of a row of T tokens, one after the other.

    lengths: tokens of each. window: how many tokens a query sees at most, itself included, or
    None. starts: [n + 1] where they begin, from 0 to T, int32, where a kernel takes that.
    """

    lengths: tuple[int, ...]
    window: int | None
    starts: Tensor | None


def documents(
    lengths: Sequence[int], device: torch.device, dtype: torch.dtype, window: int | None = None
) -> Documents:
    """The documents of a row, for the kernel that `device` and `dtype` have."""
    if window is not None and max(lengths) <= window:
        window = None
    starts = None
    if device.type == "cuda" and dtype != torch.float32 and _fits(window):
        starts = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).pin_memory()
        starts = starts.to(device, non_blocking=True)
    return Documents(tuple(lengths), window, starts)


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
    if rows.starts is not None:
        kernel, settings = _kernel(rows.window)
        longest = max(rows.lengths)
        out: Tensor = kernel(q, k, v, rows.starts, rows.starts, longest, longest, **settings)
        return out
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    mixed, at = [], 0
    for length in rows.lengths:
        one = slice(at, at + length)
        mask = None
        if rows.window is not None and length > rows.window:
            place = torch.arange(length, device=q.device)
            distance = place[:, None] - place[None, :]
            mask = (distance >= 0) & (distance < rows.window)
        mixed.append(
            scaled_dot_product_attention(
                q[:, :, one], k[:, :, one], v[:, :, one], attn_mask=mask, is_causal=mask is None
            )
        )
        at += length
    return torch.cat(mixed, 2)[0].transpose(0, 1)


def _fits(window: int | None) -> bool:
    """Whether torch has a kernel for packed documents, and one that knows of windows if needed."""
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return False
    return window is None or "window_size" in _kernel(window)[1]


@cache
def _kernel(window: int | None) -> tuple[Any, dict[str, Any]]:
    """The kernel, and how this version of torch is told to be causal within a window."""
    from torch.nn.attention.varlen import varlen_attn

    if "window_size" in inspect.signature(varlen_attn).parameters:
        return varlen_attn, {"window_size": (-1 if window is None else window - 1, 0)}
    return varlen_attn, {"is_causal": True}
