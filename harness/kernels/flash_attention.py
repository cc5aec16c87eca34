"""Flash attention over packed sequences (causal, block-diagonal, GQA), as Triton kernels.

What they do that torch's `varlen_attn` does not: they write where the next product reads, apply
RoPE's gradient to those of queries and keys on their way out, share key/value heads without copying
them, and add nothing atomically, so that a step can be repeated to the last bit. Tiles are small,
since documents are short.

The algorithm is that of Dao, FlashAttention-2 (2023): scores are never held, and the backward pass
makes them again from the logarithm of each query's denominator.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 64
"""Queries or keys of a tile."""

HEAD_DIMS = (64, 128)
"""Sizes of a head that the kernels are made for."""

_LAUNCH = {"num_warps": 4, "num_stages": 2}

_LOG2_E = 1.4426950408889634

_PROGRAMS = 2048
"""So many programs fill a device: heads that share a key are divided among up to that many."""


@triton.jit
def _forward(q, k, v, out, lse, tiles, tokens, factor, q_row, k_row, v_row, out_row, group_size,
             HEAD_DIM: tl.constexpr, TILE: tl.constexpr):  # fmt: skip
    head = tl.program_id(0)
    tile = tiles + 3 * tl.program_id(1)
    at, begin, end = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    rows = at + tl.arange(0, TILE)
    columns = tl.arange(0, HEAD_DIM)[None, :]
    mine = (rows < end)[:, None]
    place = rows.to(tl.int64)[:, None]
    query = tl.load(q + place * q_row + head * HEAD_DIM + columns, mask=mine, other=0.0)
    k += (head // group_size) * HEAD_DIM
    v += (head // group_size) * HEAD_DIM
    most = tl.full([TILE], float("-inf"), tl.float32)
    total = tl.zeros([TILE], tl.float32)
    mixed = tl.zeros([TILE, HEAD_DIM], tl.float32)
    for first in range(begin, at + TILE, TILE):
        keys = first + tl.arange(0, TILE)
        there = (keys < end)[:, None]
        source = keys.to(tl.int64)[:, None]
        key = tl.load(k + source * k_row + columns, mask=there, other=0.0)
        value = tl.load(v + source * v_row + columns, mask=there, other=0.0)
        s = tl.dot(query, tl.trans(key)) * factor
        s = tl.where(rows[:, None] >= keys[None, :], s, float("-inf"))
        higher = tl.maximum(most, tl.max(s, 1))
        p = tl.exp2(s - higher[:, None])
        shrink = tl.exp2(most - higher)
        total = total * shrink + tl.sum(p, 1)
        mixed = tl.dot(p.to(value.dtype), value, mixed * shrink[:, None])
        most = higher
    mixed /= total[:, None]
    out += head * HEAD_DIM
    tl.store(out + place * out_row + columns, mixed.to(out.dtype.element_ty), mask=mine)
    tl.store(lse + head * tokens + rows, most + tl.log2(total), mask=rows < end)


@triton.jit
def _rope_backward(first, second, cos, sin, place, mask, HALF: tl.constexpr):
    at = place * HALF + tl.arange(0, HALF)[None, :]
    c = tl.load(cos + at, mask=mask, other=0.0)
    s = tl.load(sin + at, mask=mask, other=0.0)
    return first * c + second * s, second * c - first * s


@triton.jit
def _backward_queries(q, k, v, out, grad, lse, delta, gq, cos, sin, tiles, tokens, factor, scale,
                      q_row, k_row, v_row, out_row, grad_row, gq_row, group_size,
                      HEAD_DIM: tl.constexpr, TILE: tl.constexpr):  # fmt: skip
    HALF: tl.constexpr = HEAD_DIM // 2
    head = tl.program_id(0)
    tile = tiles + 3 * tl.program_id(1)
    at, begin, end = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    rows = at + tl.arange(0, TILE)
    columns = tl.arange(0, HEAD_DIM)[None, :]
    half = tl.arange(0, HALF)[None, :]
    mine = (rows < end)[:, None]
    place = rows.to(tl.int64)[:, None]
    g = tl.load(grad + place * grad_row + head * HEAD_DIM + columns, mask=mine, other=0.0)
    o = tl.load(out + place * out_row + head * HEAD_DIM + columns, mask=mine, other=0.0)
    d = tl.sum(o.to(tl.float32) * g.to(tl.float32), 1)
    tl.store(delta + head * tokens + rows, d, mask=rows < end)
    whole = tl.load(lse + head * tokens + rows, mask=rows < end, other=0.0)
    q += head * HEAD_DIM
    q1 = tl.load(q + place * q_row + half, mask=mine, other=0.0)
    q2 = tl.load(q + place * q_row + HALF + half, mask=mine, other=0.0)
    k += (head // group_size) * HEAD_DIM
    v += (head // group_size) * HEAD_DIM
    g1 = tl.zeros([TILE, HALF], tl.float32)
    g2 = tl.zeros([TILE, HALF], tl.float32)
    for first in range(begin, at + TILE, TILE):
        keys = first + tl.arange(0, TILE)
        there = (keys < end)[:, None]
        source = keys.to(tl.int64)[:, None]
        k1 = tl.load(k + source * k_row + half, mask=there, other=0.0)
        k2 = tl.load(k + source * k_row + HALF + half, mask=there, other=0.0)
        value = tl.load(v + source * v_row + columns, mask=there, other=0.0)
        s = tl.dot(q2, tl.trans(k2), tl.dot(q1, tl.trans(k1)))
        p = tl.exp2(s * factor - whole[:, None])
        p = tl.where(rows[:, None] >= keys[None, :], p, 0.0)
        gs = (p * (tl.dot(g, tl.trans(value)) - d[:, None])).to(k1.dtype)
        g1 = tl.dot(gs, k1, g1)
        g2 = tl.dot(gs, k2, g2)
    g1, g2 = _rope_backward(g1 * scale, g2 * scale, cos, sin, place, mine, HALF)
    gq += head * HEAD_DIM
    tl.store(gq + place * gq_row + half, g1.to(gq.dtype.element_ty), mask=mine)
    tl.store(gq + place * gq_row + HALF + half, g2.to(gq.dtype.element_ty), mask=mine)


@triton.jit
def _backward_keys(q, k, v, grad, lse, delta, gk, gv, cos, sin, tiles, tokens, factor, scale,
                   q_row, k_row, v_row, grad_row, gk_row, gk_share, gv_row, gv_share,
                   group_size, shares, per_share,
                   HEAD_DIM: tl.constexpr, TILE: tl.constexpr):  # fmt: skip
    HALF: tl.constexpr = HEAD_DIM // 2
    group = tl.program_id(0) // shares
    share = tl.program_id(0) % shares
    tile = tiles + 3 * tl.program_id(1)
    at, end = tl.load(tile), tl.load(tile + 2)
    keys = at + tl.arange(0, TILE)
    columns = tl.arange(0, HEAD_DIM)[None, :]
    half = tl.arange(0, HALF)[None, :]
    mine = (keys < end)[:, None]
    place = keys.to(tl.int64)[:, None]
    k += group * HEAD_DIM
    k1 = tl.load(k + place * k_row + half, mask=mine, other=0.0)
    k2 = tl.load(k + place * k_row + HALF + half, mask=mine, other=0.0)
    value = tl.load(v + place * v_row + group * HEAD_DIM + columns, mask=mine, other=0.0)
    g1 = tl.zeros([TILE, HALF], tl.float32)
    g2 = tl.zeros([TILE, HALF], tl.float32)
    gvalue = tl.zeros([TILE, HEAD_DIM], tl.float32)
    head0 = share * per_share
    heads = tl.minimum(per_share, group_size - head0)
    many = tl.cdiv(end - at, TILE)
    for step in range(heads * many):
        head = group * group_size + head0 + step // many
        rows = at + (step % many) * TILE + tl.arange(0, TILE)
        there = (rows < end)[:, None]
        source = rows.to(tl.int64)[:, None]
        q1 = tl.load(q + source * q_row + head * HEAD_DIM + half, mask=there, other=0.0)
        q2 = tl.load(q + source * q_row + head * HEAD_DIM + HALF + half, mask=there, other=0.0)
        g = tl.load(grad + source * grad_row + head * HEAD_DIM + columns, mask=there, other=0.0)
        whole = tl.load(lse + head * tokens + rows, mask=rows < end, other=0.0)
        d = tl.load(delta + head * tokens + rows, mask=rows < end, other=0.0)
        s = tl.dot(k2, tl.trans(q2), tl.dot(k1, tl.trans(q1)))
        p = tl.exp2(s * factor - whole[None, :])
        p = tl.where((rows[None, :] >= keys[:, None]) & (rows < end)[None, :], p, 0.0)
        gvalue = tl.dot(p.to(g.dtype), g, gvalue)
        gs = (p * (tl.dot(value, tl.trans(g)) - d[None, :])).to(q1.dtype)
        g1 = tl.dot(gs, q1, g1)
        g2 = tl.dot(gs, q2, g2)
    g1, g2 = _rope_backward(g1 * scale, g2 * scale, cos, sin, place, mine, HALF)
    gk += group * HEAD_DIM + share * gk_share
    gv += group * HEAD_DIM + share * gv_share
    tl.store(gk + place * gk_row + half, g1.to(gk.dtype.element_ty), mask=mine)
    tl.store(gk + place * gk_row + HALF + half, g2.to(gk.dtype.element_ty), mask=mine)
    tl.store(gv + place * gv_row + columns, gvalue.to(gv.dtype.element_ty), mask=mine)


def tiles(lengths: tuple[int, ...]) -> list[list[list[int]]]:
    """Tiles [2][n][3] of the documents: first token, and where its document begins and ends; as
    queries see them and as keys do, those first that have the most to look at."""
    found, begin = [], 0
    for length in lengths:
        end = begin + length
        found += [[at, begin, end] for at in range(begin, end, TILE)]
        begin = end
    return [
        sorted(found, key=lambda tile: tile[1] - tile[0]),
        sorted(found, key=lambda tile: tile[0] - tile[2]),
    ]


def forward(q: Tensor, k: Tensor, v: Tensor, out: Tensor, tiles: Tensor) -> Tensor:
    """out[:] [T, H, K] of q [T, H, K], k and v [T, G, K] in `tiles`; returns the
    log-sum-exp of each query's scores [H, T], to base 2."""
    tokens, heads, head_dim = q.shape
    lse = torch.empty(heads, tokens, dtype=torch.float32, device=q.device)
    _forward[(heads, tiles.shape[1])](
        q, k, v, out, lse, tiles[0], tokens, _LOG2_E * head_dim**-0.5,
        q.stride(0), k.stride(0), v.stride(0), out.stride(0), heads // k.shape[1],
        HEAD_DIM=head_dim, TILE=TILE, **_LAUNCH,
    )  # fmt: skip
    return lse


def backward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, tiles: Tensor, grad: Tensor,
    cos: Tensor, sin: Tensor, gq: Tensor, gk: Tensor, gv: Tensor,
) -> None:  # fmt: skip
    """The gradients where that of `out` is `grad` [T, H, K]: of q and k before RoPE (cos and sin
    [T, K / 2]) and of v, into gq [T, H, K], gk and gv [T, G, K]."""
    tokens, heads, head_dim = q.shape
    group_size = heads // k.shape[1]
    delta = torch.empty_like(lse)
    factor, scale = _LOG2_E * head_dim**-0.5, head_dim**-0.5
    launch: dict[str, Any] = {"HEAD_DIM": head_dim, "TILE": TILE, **_LAUNCH}
    _backward_queries[(heads, tiles.shape[1])](
        q, k, v, out, grad, lse, delta, gq, cos, sin, tiles[0], tokens, factor, scale,
        q.stride(0), k.stride(0), v.stride(0), out.stride(0), grad.stride(0), gq.stride(0),
        group_size, **launch,
    )  # fmt: skip
    shares = min(group_size, max(1, _PROGRAMS // (tiles.shape[1] * k.shape[1])))
    per_share = -(-group_size // shares)
    shares = -(-group_size // per_share)
    parts = (gk, gv)
    if shares > 1:
        room = torch.empty(2, shares, *k.shape, dtype=torch.float32, device=k.device)
        parts = (room[0], room[1])
    _backward_keys[(k.shape[1] * shares, tiles.shape[1])](
        q, k, v, grad, lse, delta, *parts, cos, sin, tiles[1], tokens, factor, scale,
        q.stride(0), k.stride(0), v.stride(0), grad.stride(0),
        parts[0].stride(-3), parts[0].stride(0), parts[1].stride(-3), parts[1].stride(0),
        group_size, shares, per_share, **launch,
    )  # fmt: skip
    if shares > 1:
        gk.copy_(room[0].sum(0))
        gv.copy_(room[1].sum(0))
