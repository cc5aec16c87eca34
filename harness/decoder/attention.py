"""Rotary embedding and causal attention within each document of a packed row, with gradients."""

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

from harness.kernels import pointwise


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of a row of T tokens, one after the other.

    lengths: tokens of each. window: how many tokens a query sees at most, itself included, or
    None. Where a kernel of torch's takes them, starts: [n + 1] where they begin, from 0 to T,
    int32; where ours does, tiles: as `flash.tiles` has them, int32.
    """

    lengths: tuple[int, ...]
    window: int | None
    starts: Tensor | None = None
    tiles: Tensor | None = None


def documents(
    lengths: Sequence[int],
    size: int,
    device: torch.device,
    dtype: torch.dtype,
    window: int | None = None,
) -> Documents:
    """The documents of a row, for the kernel that heads of `size` have on `device`."""
    lengths = tuple(lengths)
    if window is not None and max(lengths) <= window:
        window = None
    if device.type != "cuda" or dtype == torch.float32 or not _is_recent(device):
        return Documents(lengths, window)
    flash = _flash()
    if flash is not None and window is None and size in flash.SIZES:
        return Documents(lengths, window, tiles=_moved(flash.tiles(lengths), device))
    if not _fits(window):
        return Documents(lengths, window)
    starts = torch.tensor([0, *lengths]).cumsum(0)
    return Documents(lengths, window, starts=_moved(starts, device))


def _moved(values: Any, device: torch.device) -> Tensor:
    """int32 on the device, without the host waiting for it."""
    values = torch.as_tensor(values, dtype=torch.int32).pin_memory()
    moved: Tensor = values.to(device, non_blocking=True)
    return moved


@dataclass(frozen=True, slots=True)
class View:
    """How the layers of one kind see a packed row of T tokens.

    cos, sin: [T, K / 2] of the rotary embedding, float32.
    """

    cos: Tensor
    sin: Tensor
    documents: Documents


@dataclass(slots=True)
class Attention:
    """One call, kept for its gradient: q [T, H, K], k and v [T, G, K] with G dividing H, q and k
    turned; out [T, H, K]. lse: what our kernel's gradient needs. mixed: the result in the graph of
    another's."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    lse: Tensor | None = None
    mixed: Tensor | None = None

    def backward(self, grad: Tensor, view: View, gq: Tensor, gk: Tensor, gv: Tensor) -> None:
        """Where the gradient of the result is `grad` [T, H, K], those of what `attend` was given
        into gq, gk and gv."""
        if self.lse is not None:
            assert view.documents.tiles is not None
            _flash().backward(
                self.q, self.k, self.v, self.out, self.lse, view.documents.tiles, grad,
                view.cos, view.sin, gq, gk, gv,
            )  # fmt: skip
            return
        assert self.mixed is not None
        found = torch.autograd.grad(self.mixed, (self.q, self.k, self.v), grad)
        pointwise.rotate(found[0], gq, view.cos, view.sin, -1)
        pointwise.rotate(found[1], gk, view.cos, view.sin, -1)
        pointwise.copy(found[2].flatten(1), gv.flatten(1))


def attend(q: Tensor, k: Tensor, v: Tensor, view: View, out: Tensor) -> Attention:
    """out[:] = softmax(q k' / sqrt(K)) v within each document, causal; all [T, heads, K].

    q and k are turned in place by the rotary embedding first. Fewer key/value heads than query
    heads are shared by neighbours; one alone is never copied.
    """
    pointwise.rotate(q, q, view.cos, view.sin)
    pointwise.rotate(k, k, view.cos, view.sin)
    rows = view.documents
    if rows.tiles is not None:
        lse = _flash().forward(q, k, v, out, rows.tiles)
        return Attention(q, k, v, out, lse=lse)
    with torch.enable_grad():
        q, k, v = (each.detach().requires_grad_() for each in (q, k, v))
        mixed = _attend(q, _shared(k, q.shape[1]), _shared(v, q.shape[1]), rows)
    pointwise.copy(mixed.detach().flatten(1), out.flatten(1))
    return Attention(q, k, v, out, mixed=mixed)


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


@cache
def _is_recent(device: torch.device) -> bool:
    """Whether kernels for packed documents run there: ours and torch's need Ampere or newer."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


@cache
def _flash() -> Any:
    """Our kernels, where Triton is installed."""
    if importlib.util.find_spec("triton") is None:
        return None

    from harness.kernels import flash_attention

    return flash_attention


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
