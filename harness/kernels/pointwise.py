"""What a layer does between its products: norms, RoPE, SwiGLU and GELU, cross-entropy.

Each function writes into a tensor that it is given, whose rows may lie apart (stride(1) is 1),
and has its gradient beside it. On a CUDA device Triton kernels do the same (`kernels`).
Arithmetic is in float32, results are rounded to the type of the tensor that takes them.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

TANH = 2 * math.sqrt(2 / math.pi)


@dataclass(frozen=True, slots=True)
class Norm:
    """A frozen norm: RMS where bias is None, else layer norm. weight, bias: [D]."""

    weight: Tensor
    bias: Tensor | None
    eps: float


@cache
def _triton() -> Any:
    if importlib.util.find_spec("triton") is None:
        return None

    from harness.kernels import triton_pointwise

    return triton_pointwise


def kernels_for(x: Tensor) -> Any:
    """The Triton kernels, where `x` is on a device that runs them; else None."""
    return _triton() if x.device.type == "cuda" else None


def norm(residual: Tensor, delta: Tensor | None, norm: Norm, out: Tensor) -> Tensor:
    """out[:] = norm(residual + delta); returns that sum (`residual` itself where delta is None).

    All [T, D], or [T, H, D] where delta is None: each of H heads apart.
    """
    if triton := kernels_for(residual):
        total: Tensor = triton.norm(residual, delta, norm, out)
        return total
    total = residual if delta is None else residual + delta
    unit, _ = _unit(total, norm)
    scaled = unit * norm.weight.float()
    out.copy_(scaled if norm.bias is None else scaled + norm.bias.float())
    return total


def norm_backward(grad: Tensor, x: Tensor, norm: Norm, into: Tensor) -> None:
    """into += the gradient of norm(x) where its result's is grad. All [T, D] or [T, H, D]."""
    if triton := kernels_for(x):
        triton.norm_backward(grad, x, norm, into)
        return
    unit, scale = _unit(x, norm)
    g = grad.float() * norm.weight.float()
    out = g - unit * (g * unit).mean(-1, keepdim=True)
    if norm.bias is not None:
        out = out - g.mean(-1, keepdim=True)
    into.copy_(into.float() + out * scale)


def _unit(x: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """The normalised rows of x in float32, and what they were multiplied by [T, 1].

    Row by row, also where x is a transposed view: torch would sum several rows side by side, and
    in another order for another number of them.
    """
    value = x.float().contiguous()
    if norm.bias is not None:
        value = value - value.mean(-1, keepdim=True)
    scale = torch.rsqrt(value.square().mean(-1, keepdim=True) + norm.eps)
    return value * scale, scale


def rope(source: Tensor, target: Tensor, cos: Tensor, sin: Tensor, sign: int = 1) -> None:
    """Rotary position embedding (RoPE) of heads [T, H, 2 K] into `target` (which may be `source`).

    cos, sin: [T, K], float32. sign -1 rotates back, which is also the gradient.
    """
    if triton := kernels_for(source):
        triton.rope(source, target, cos, sin, sign)
        return
    first, second = source.float().chunk(2, -1)
    c, s = cos[:, None], sin[:, None] * sign
    target.copy_(torch.cat([first * c - second * s, second * c + first * s], -1))


def copy(source: Tensor, target: Tensor) -> None:
    """target[:] = source; both [T, W] with rows that may lie apart."""
    if triton := kernels_for(source):
        triton.copy(source, target)
        return
    target.copy_(source)


def glu(gate: Tensor, up: Tensor, out: Tensor, tanh: bool = False) -> None:
    """SwiGLU: out[:] = silu(gate) * up, or with `tanh` GeGLU by gelu's tanh form; all [T, F]."""
    if triton := kernels_for(gate):
        triton.glu(gate, up, out, tanh)
        return
    for at in _blocks(gate):
        g = gate[at].float()
        s, _ = _gate(g, tanh)
        out[at].copy_(s.mul_(g).mul_(up[at]))


def glu_backward(
    grad: Tensor, gate: Tensor, up: Tensor, g_gate: Tensor, g_up: Tensor, tanh: bool = False
) -> None:
    """The gradients of `glu` into g_gate and g_up, all [T, F]."""
    if triton := kernels_for(gate):
        triton.glu_backward(grad, gate, up, g_gate, g_up, tanh)
        return
    for at in _blocks(gate):
        d, g = grad[at].float(), gate[at].float()
        s, slope = _gate(g, tanh)
        g_up[at].copy_(s * g * d)
        g_gate[at].copy_(slope.mul_(1 - s).mul_(g).add_(1).mul_(s).mul_(d).mul_(up[at]))


def _blocks(x: Tensor, elements: int = 1 << 16) -> Iterator[slice]:
    """Rows of x a few at a time, so that what is made of them on the way stays in a cache."""
    rows = max(1, elements // x.shape[1])
    return (slice(at, at + rows) for at in range(0, len(x), rows))


def _gate(g: Tensor, tanh: bool) -> tuple[Tensor, Tensor]:
    """sigmoid(z) and dz/dg, where g sigmoid(z) is the activation: z = g for silu, and
    z = 2 sqrt(2 / pi) (g + 0.044715 g^3) for gelu's tanh form."""
    if not tanh:
        return torch.sigmoid(g), torch.ones_like(g)
    square = g * g
    z = (square * (TANH * 0.044715)).add_(TANH).mul_(g)
    return torch.sigmoid(z), square.mul_(TANH * 0.134145).add_(TANH)


def gelu(x: Tensor, out: Tensor) -> None:
    """out[:] = x * Phi(x), the exact GELU; both [T, F]."""
    if triton := kernels_for(x):
        triton.gelu(x, out)
        return
    for at in _blocks(x):
        out[at].copy_(torch.nn.functional.gelu(x[at].float()))


def gelu_backward(grad: Tensor, x: Tensor, out: Tensor) -> None:
    """out[:] = grad * d gelu(x) / dx; all [T, F]."""
    if triton := kernels_for(x):
        triton.gelu_backward(grad, x, out)
        return
    for at in _blocks(x):
        out[at].copy_(torch.ops.aten.gelu_backward(grad[at].float(), x[at].float()))


def cross_entropy(logits: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """-log softmax(logits)[label] as float32 [N]; logits [N, V] become scale times its gradient."""
    if triton := kernels_for(logits):
        nll: Tensor = triton.cross_entropy(logits, labels, scale)
        return nll
    nll = torch.empty(len(labels), dtype=torch.float32, device=logits.device)
    for at in _blocks(logits, 1 << 21):
        picked = labels[at, None]
        logp = torch.log_softmax(logits[at].float(), -1)
        nll[at] = -logp.gather(1, picked)[:, 0]
        p = logp.exp_()
        p.scatter_add_(1, picked, torch.full_like(picked, -1, dtype=p.dtype))
        logits[at].copy_(p.mul_(scale))
    return nll
