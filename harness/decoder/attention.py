"""RoPE and causal attention within each document of a packed sequence, with gradients."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from harness.kernels import pointwise


@dataclass(frozen=True, slots=True)
class BlockDiagonalMask:
    """Causal attention within each document of a packed sequence of T tokens.

    seqlens: tokens of each document. window: how many tokens a query sees at most, itself
    included, or None. Where torch's varlen kernel takes them, cu_seqlens: [n + 1] where documents
    begin, from 0 to T, int32; where ours does, tiles: as `flash_attention.tiles` has them, int32.
    """

    seqlens: tuple[int, ...]
    window: int | None
    cu_seqlens: Tensor | None = None
    tiles: Tensor | None = None


def block_diagonal_mask(
    seqlens: Sequence[int],
    head_dim: int,
    device: torch.device,
    dtype: torch.dtype,
    window: int | None = None,
    flash: bool = True,
) -> BlockDiagonalMask:
    """The mask for the kernel that heads of `head_dim` have on `device`.

    That is ours where it serves them, else torch's `varlen_attn`, else SDPA a document. flash:
    False leaves ours out.
    """
    seqlens = tuple(seqlens)
    if window is not None and max(seqlens) <= window:
        window = None
    if device.type != "cuda" or dtype == torch.float32 or not _is_ampere(device):
        return BlockDiagonalMask(seqlens, window)
    ours = _flash() if flash else None
    if ours is not None and window is None and head_dim in ours.HEAD_DIMS:
        return BlockDiagonalMask(seqlens, window, tiles=_to_device(ours.tiles(seqlens), device))
    if not _has_varlen(window):
        return BlockDiagonalMask(seqlens, window)
    cu_seqlens = torch.tensor([0, *seqlens]).cumsum(0)
    return BlockDiagonalMask(seqlens, window, cu_seqlens=_to_device(cu_seqlens, device))


def _to_device(values: Any, device: torch.device) -> Tensor:
    """int32 on the device, without the host waiting for it."""
    values = torch.as_tensor(values, dtype=torch.int32).pin_memory()
    moved: Tensor = values.to(device, non_blocking=True)
    return moved


class Attends(Protocol):
    """What the attention layers of one kind read beside queries, keys and values."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> Any:
        """out[:] = softmax(q k' / sqrt(K)) v over what each token may see, all [T, heads, K].

        RoPE is applied to q and k in place first. Fewer key/value heads than query heads (GQA) are
        shared by neighbours; one alone (MQA) is never copied. Returns what a gradient needs.
        """
        ...


@dataclass(frozen=True, slots=True)
class AttentionInputs:
    """Causal attention within each document of a packed sequence of T tokens, with a gradient.

    cos, sin: [T, K / 2] of RoPE, float32.
    """

    cos: Tensor
    sin: Tensor
    mask: BlockDiagonalMask

    def attend(self, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> Attention:
        """As `Attends` has it."""
        pointwise.rope(q, q, self.cos, self.sin)
        pointwise.rope(k, k, self.cos, self.sin)
        if self.mask.tiles is not None:
            lse = _flash().forward(q, k, v, out, self.mask.tiles)
            return Attention(self, q, k, v, out, lse=lse)
        with torch.enable_grad():
            q, k, v = (each.detach().requires_grad_() for each in (q, k, v))
            heads = q.shape[1]
            graph = _attend(q, repeat_kv(k, heads), repeat_kv(v, heads), self.mask)
        pointwise.copy(graph.detach().flatten(1), out.flatten(1))
        return Attention(self, q, k, v, out, graph=graph)


@dataclass(slots=True)
class Attention:
    """One call, kept for its gradient: q [T, H, K], k and v [T, G, K] with G dividing H (GQA), q
    and k after RoPE; out [T, H, K]. lse: log-sum-exp, of our kernel. graph: the result in
    autograd's graph, of another."""

    inputs: AttentionInputs
    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    lse: Tensor | None = None
    graph: Tensor | None = None

    def backward(self, grad: Tensor, gq: Tensor, gk: Tensor, gv: Tensor) -> None:
        """Where the gradient of the result is `grad` [T, H, K], those of what `attend` was given
        into gq, gk and gv."""
        cos, sin, tiles = self.inputs.cos, self.inputs.sin, self.inputs.mask.tiles
        if self.lse is not None:
            _flash().backward(
                self.q, self.k, self.v, self.out, self.lse, tiles, grad, cos, sin, gq, gk, gv
            )
            return
        assert self.graph is not None
        found = torch.autograd.grad(self.graph, (self.q, self.k, self.v), grad)
        pointwise.rope(found[0], gq, cos, sin, -1)
        pointwise.rope(found[1], gk, cos, sin, -1)
        pointwise.copy(found[2].flatten(1), gv.flatten(1))


def repeat_kv(x: Tensor, heads: int) -> Tensor:
    """Key/value heads [T, G, K] as [T, heads, K], each shared by neighbours."""
    tokens, kv_heads, head_dim = x.shape
    if kv_heads == heads:
        return x
    if kv_heads == 1:
        return x.expand(-1, heads, -1)
    repeated = x[:, :, None].expand(-1, -1, heads // kv_heads, -1)
    return repeated.reshape(tokens, heads, head_dim)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: BlockDiagonalMask) -> Tensor:
    if mask.cu_seqlens is not None:
        varlen_attn, settings = _varlen(mask.window)
        cu, longest = mask.cu_seqlens, max(mask.seqlens)
        out: Tensor = varlen_attn(q, k, v, cu, cu, longest, longest, **settings)
        return out
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    outs, at = [], 0
    for length in mask.seqlens:
        one = slice(at, at + length)
        seen = None
        if mask.window is not None and length > mask.window:
            place = torch.arange(length, device=q.device)
            distance = place[:, None] - place[None, :]
            seen = (distance >= 0) & (distance < mask.window)
        outs.append(
            scaled_dot_product_attention(
                q[:, :, one], k[:, :, one], v[:, :, one], attn_mask=seen, is_causal=seen is None
            )
        )
        at += length
    return torch.cat(outs, 2)[0].transpose(0, 1)


@cache
def _is_ampere(device: torch.device) -> bool:
    """Whether kernels for packed sequences run there: ours and torch's need Ampere or newer."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


@cache
def _flash() -> Any:
    """Our kernels, where Triton is installed."""
    if importlib.util.find_spec("triton") is None:
        return None

    from harness.kernels import flash_attention

    return flash_attention


def _has_varlen(window: int | None) -> bool:
    """Whether torch has `varlen_attn`, and one that knows of windows if needed."""
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return False
    return window is None or "window_size" in _varlen(window)[1]


@cache
def _varlen(window: int | None) -> tuple[Any, dict[str, Any]]:
    """`varlen_attn`, and how this version of torch is told to be causal within a window."""
    from torch.nn.attention.varlen import varlen_attn

    if "window_size" in inspect.signature(varlen_attn).parameters:
        return varlen_attn, {"window_size": (-1 if window is None else window - 1, 0)}
    return varlen_attn, {"is_causal": True}
