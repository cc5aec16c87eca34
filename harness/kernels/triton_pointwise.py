"""The elementwise work of a layer as Triton kernels: each reads and writes its operands once.

`pointwise` holds the same functions in plain torch, which say what is computed.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _norm_forward(h, d, s, w, b, x, width, eps, h_row, d_row, s_row, x_row,
                  ADD: tl.constexpr, CENTRE: tl.constexpr,
                  MAIN: tl.constexpr, TAIL: tl.constexpr):  # fmt: skip
    # A row is MAIN columns, all there, and up to TAIL more: one power of two would waste half.
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, MAIN)
    rest = MAIN + tl.arange(0, TAIL)
    inside = rest < width
    v = tl.load(h + row * h_row + at).to(tl.float32)
    v2 = tl.load(h + row * h_row + rest, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        kind = s.dtype.element_ty
        v = (v + tl.load(d + row * d_row + at).to(tl.float32)).to(kind)
        v2 = (v2 + tl.load(d + row * d_row + rest, mask=inside, other=0.0).to(tl.float32)).to(kind)
        tl.store(s + row * s_row + at, v)
        tl.store(s + row * s_row + rest, v2, mask=inside)
        v = v.to(tl.float32)
        v2 = v2.to(tl.float32)
    if CENTRE:
        mean = (tl.sum(v, 0) + tl.sum(v2, 0)) / width
        v -= mean
        v2 = tl.where(inside, v2 - mean, 0.0)
    scale = tl.rsqrt((tl.sum(v * v, 0) + tl.sum(v2 * v2, 0)) / width + eps)
    out = v * scale * tl.load(w + at).to(tl.float32)
    out2 = v2 * scale * tl.load(w + rest, mask=inside, other=0.0).to(tl.float32)
    if CENTRE:
        out += tl.load(b + at).to(tl.float32)
        out2 += tl.load(b + rest, mask=inside, other=0.0).to(tl.float32)
    tl.store(x + row * x_row + at, out.to(x.dtype.element_ty))
    tl.store(x + row * x_row + rest, out2.to(x.dtype.element_ty), mask=inside)


@triton.jit
def _norm_backward(gx, h, w, gh, width, eps, gx_row, h_row, gh_row,
                   CENTRE: tl.constexpr, MAIN: tl.constexpr, TAIL: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, MAIN)
    rest = MAIN + tl.arange(0, TAIL)
    inside = rest < width
    v = tl.load(h + row * h_row + at).to(tl.float32)
    v2 = tl.load(h + row * h_row + rest, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(gx + row * gx_row + at).to(tl.float32) * tl.load(w + at).to(tl.float32)
    g2 = tl.load(gx + row * gx_row + rest, mask=inside, other=0.0).to(tl.float32)
    g2 *= tl.load(w + rest, mask=inside, other=0.0).to(tl.float32)
    if CENTRE:
        mean = (tl.sum(v, 0) + tl.sum(v2, 0)) / width
        v -= mean
        v2 = tl.where(inside, v2 - mean, 0.0)
    scale = tl.rsqrt((tl.sum(v * v, 0) + tl.sum(v2 * v2, 0)) / width + eps)
    v *= scale
    v2 *= scale
    along = (tl.sum(g * v, 0) + tl.sum(g2 * v2, 0)) / width
    out = g - v * along
    out2 = g2 - v2 * along
    if CENTRE:
        level = (tl.sum(g, 0) + tl.sum(g2, 0)) / width
        out -= level
        out2 -= level
    kind = gh.dtype.element_ty
    place = gh + row * gh_row + at
    tl.store(place, (tl.load(place).to(tl.float32) + out * scale).to(kind))
    place = gh + row * gh_row + rest
    before = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    tl.store(place, (before + out2 * scale).to(kind), mask=inside)


@triton.jit
def _copy(source, target, width, source_row, target_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    value = tl.load(source + row * source_row + at, mask=inside)
    tl.store(target + row * target_row + at, value, mask=inside)


@triton.jit
def _rope(source, target, cos, sin, heads, source_row, source_head, target_row, target_head,
            SIGN: tl.constexpr, HALF: tl.constexpr, HEADS: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    at = tl.arange(0, HALF)
    c = tl.load(cos + row * HALF + at)[None, :]
    s = tl.load(sin + row * HALF + at)[None, :] * SIGN
    inside = (head < heads)[:, None]
    place = source + row * source_row + head[:, None] * source_head + at[None, :]
    first = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(place + HALF, mask=inside, other=0.0).to(tl.float32)
    place = target + row * target_row + head[:, None] * target_head + at[None, :]
    kind = target.dtype.element_ty
    tl.store(place, (first * c - second * s).to(kind), mask=inside)
    tl.store(place + HALF, (second * c + first * s).to(kind), mask=inside)


@triton.jit
def _gate(g, TANH: tl.constexpr):
    # sigmoid(z) and dz/dg, as in pointwise._gate.
    if TANH:
        scale = 1.5957691216057308
        square = g * g
        s = tl.sigmoid(scale * g * (1 + 0.044715 * square))
        slope = scale * (1 + 0.134145 * square)
    else:
        s = tl.sigmoid(g)
        slope = 1.0
    return s, slope


@triton.jit
def _glu_forward(gate, up, out, width, row_in, row_out,
                   TANH: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    g = tl.load(gate + row * row_in + at, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + row * row_in + at, mask=inside, other=0.0).to(tl.float32)
    s, _ = _gate(g, TANH)
    tl.store(out + row * row_out + at, (g * s * u).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _glu_backward(grad, gate, up, out_gate, out_up, width, row_grad, row_in, row_out,
                    TANH: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    d = tl.load(grad + row * row_grad + at, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(gate + row * row_in + at, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + row * row_in + at, mask=inside, other=0.0).to(tl.float32)
    s, slope = _gate(g, TANH)
    kind = out_gate.dtype.element_ty
    rise = s * (1 + g * (1 - s) * slope)
    tl.store(out_gate + row * row_out + at, (d * u * rise).to(kind), mask=inside)
    tl.store(out_up + row * row_out + at, (d * g * s).to(kind), mask=inside)


@triton.jit
def _normal(v):
    # Phi(v) and exp(-v^2 / 2). erf by Abramowitz and Stegun, Handbook of Mathematical Functions
    # (1964), 7.1.26: off by at most 1.5e-7, and it shares its exponential with the density.
    e = tl.exp(-0.5 * v * v)
    t = 1.0 / (1.0 + 0.3275911 * 0.7071067811865476 * tl.abs(v))
    series = 1.421413741 + t * (-1.453152027 + t * 1.061405429)
    above = 0.5 * e * t * (0.254829592 + t * (-0.284496736 + t * series))
    return tl.where(v >= 0, 1.0 - above, above), e


@triton.jit
def _gelu_forward(x, out, width, row_in, row_out, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    v = tl.load(x + row * row_in + at, mask=inside, other=0.0).to(tl.float32)
    below, _ = _normal(v)
    tl.store(out + row * row_out + at, (v * below).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gelu_backward(grad, x, out, width, row_grad, row_in, row_out, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    d = tl.load(grad + row * row_grad + at, mask=inside, other=0.0).to(tl.float32)
    v = tl.load(x + row * row_in + at, mask=inside, other=0.0).to(tl.float32)
    below, e = _normal(v)
    slope = below + v * 0.3989422804014327 * e
    tl.store(out + row * row_out + at, (d * slope).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _cross_entropy(logits, labels, nll, scale, width, logits_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    place = logits + row * logits_row
    label = tl.load(labels + row)
    picked = tl.load(place + label).to(tl.float32)  # before its place is written over
    at = tl.arange(0, BLOCK)
    top = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, width, BLOCK):
        inside = start + at < width
        v = tl.load(place + start + at, mask=inside, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(top, v)
        total = total * tl.exp(top - higher) + tl.exp(v - higher)
        total = tl.where(higher == float("-inf"), 0.0, total)
        top = higher
    most = tl.max(top, 0)
    whole = most + tl.log(tl.sum(total * tl.exp(top - most), 0))
    tl.store(nll + row, whole - picked)
    factor = tl.load(scale)
    for start in range(0, width, BLOCK):
        inside = start + at < width
        v = tl.load(place + start + at, mask=inside, other=float("-inf")).to(tl.float32)
        p = tl.exp(v - whole) - tl.where(start + at == label, 1.0, 0.0)
        tl.store(place + start + at, (p * factor).to(logits.dtype.element_ty), mask=inside)


@triton.jit
def _unpack_nf4(packed, scales, values, scale_values, scale_scales, offset, out, count,
                NESTED: tl.constexpr, SIZE: tl.constexpr, SIZE2: tl.constexpr,
                BLOCK: tl.constexpr):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    byte = tl.load(packed + at, mask=inside, other=0).to(tl.int32)
    group = at // (SIZE // 2)
    scale = tl.load(scales + group, mask=inside, other=0)
    if NESTED:
        # The scales are held in 8 bits themselves.
        value = tl.load(scale_values + scale.to(tl.int32), mask=inside, other=0.0)
        value *= tl.load(scale_scales + group // SIZE2, mask=inside, other=0.0)
        scale = value + tl.load(offset)
    first = tl.load(values + (byte >> 4)) * scale
    second = tl.load(values + (byte & 15)) * scale
    both = tl.interleave(first, second).to(out.dtype.element_ty)
    start = tl.program_id(0).to(tl.int64) * (2 * BLOCK)
    place = start + tl.arange(0, 2 * BLOCK)
    tl.store(out + place, both, mask=place < 2 * count)


def unpack_nf4(packed: Tensor, state: Any, out: Tensor) -> None:
    nested = state.nested
    inner = state.state2 if nested else state
    count = packed.numel()
    _unpack_nf4[(triton.cdiv(count, 1024),)](
        packed, state.absmax, state.code, inner.code, inner.absmax,
        state.offset if nested else state.code, out, count,
        NESTED=nested, SIZE=state.blocksize, SIZE2=inner.blocksize, BLOCK=1024,
    )  # fmt: skip


def _blocks(width: int) -> dict[str, int]:
    """A row of `width` columns as the largest power of two in it and one that holds the rest."""
    main = 1 << (width.bit_length() - 1)
    tail = triton.next_power_of_2(max(width - main, 1))
    return {"MAIN": main, "TAIL": tail, "num_warps": 8 if main >= 2048 else 4}


def norm(residual: Tensor, delta: Tensor | None, norm: Any, out: Tensor) -> Tensor:
    if residual.dim() == 3:
        for one, into in zip(residual.unbind(1), out.unbind(1), strict=True):
            _one_norm(one, None, norm, into)
        return residual
    return _one_norm(residual, delta, norm, out)


def _one_norm(residual: Tensor, delta: Tensor | None, norm: Any, out: Tensor) -> Tensor:
    rows, width = residual.shape
    total = residual if delta is None else torch.empty_like(residual)
    other = residual if delta is None else delta
    bias = norm.weight if norm.bias is None else norm.bias
    _norm_forward[(rows,)](
        residual, other, total, norm.weight, bias, out, width, norm.eps,
        residual.stride(0), other.stride(0), total.stride(0), out.stride(0),
        ADD=delta is not None, CENTRE=norm.bias is not None, **_blocks(width),
    )  # fmt: skip
    return total


def norm_backward(grad: Tensor, x: Tensor, norm: Any, into: Tensor) -> None:
    if grad.dim() == 3:
        for each in zip(grad.unbind(1), x.unbind(1), into.unbind(1), strict=True):
            norm_backward(each[0], each[1], norm, each[2])
        return
    rows, width = grad.shape
    _norm_backward[(rows,)](
        grad, x, norm.weight, into, width, norm.eps, grad.stride(0), x.stride(0), into.stride(0),
        CENTRE=norm.bias is not None, **_blocks(width),
    )  # fmt: skip


def copy(source: Tensor, target: Tensor) -> None:
    _copy[_grid(source, 2048)](
        source, target, source.shape[1], source.stride(0), target.stride(0), BLOCK=2048
    )


def rope(source: Tensor, target: Tensor, cos: Tensor, sin: Tensor, sign: int) -> None:
    rows, heads, size = source.shape
    many = min(16, triton.next_power_of_2(heads))
    _rope[(rows, triton.cdiv(heads, many))](
        source, target, cos, sin, heads,
        source.stride(0), source.stride(1), target.stride(0), target.stride(1),
        SIGN=sign, HALF=size // 2, HEADS=many,
    )  # fmt: skip


def _grid(x: Tensor, block: int) -> tuple[int, int]:
    return len(x), triton.cdiv(x.shape[1], block)


def glu(gate: Tensor, up: Tensor, out: Tensor, tanh: bool) -> None:
    _glu_forward[_grid(gate, 1024)](
        gate, up, out, gate.shape[1], gate.stride(0), out.stride(0), TANH=tanh, BLOCK=1024
    )


def glu_backward(
    grad: Tensor, gate: Tensor, up: Tensor, g_gate: Tensor, g_up: Tensor, tanh: bool
) -> None:
    _glu_backward[_grid(gate, 1024)](
        grad, gate, up, g_gate, g_up, gate.shape[1],
        grad.stride(0), gate.stride(0), g_gate.stride(0), TANH=tanh, BLOCK=1024,
    )  # fmt: skip


def gelu(x: Tensor, out: Tensor) -> None:
    _gelu_forward[_grid(x, 1024)](x, out, x.shape[1], x.stride(0), out.stride(0), BLOCK=1024)


def gelu_backward(grad: Tensor, x: Tensor, out: Tensor) -> None:
    _gelu_backward[_grid(x, 1024)](
        grad, x, out, x.shape[1], grad.stride(0), x.stride(0), out.stride(0), BLOCK=1024
    )


def cross_entropy(logits: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    nll = torch.empty(len(labels), dtype=torch.float32, device=logits.device)
    _cross_entropy[(len(labels),)](
        logits, labels, nll, scale, logits.shape[1], logits.stride(0), BLOCK=4096, num_warps=16
    )
    return nll
