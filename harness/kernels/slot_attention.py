"""Attention over a static key/value cache of slots, as Triton kernels.

A token's result is a function of its own queries, of its place, and of its slot: keys are read in
tiles that begin at multiples of TILE, one after the other, and never divided among programs. So it
is the same to the last bit whatever stands in other slots, and however long they are.

The algorithm is that of Dao, FlashAttention-2 (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

HEAD_DIMS = (64, 128, 256)
"""Sizes of a head that the kernels are made for."""

QUERIES = 64
"""Tokens of a prompt that a program of `prefill` takes."""

_HEADS = 32
"""Query heads of one key/value head that a program of `decode` takes at most."""

_LOG2_E = 1.4426950408889634


@triton.jit
def _decode(q, k, v, cos, sin, keys, values, place, out, length, window, heads, factor,
            q_row, k_row, v_row, out_row, slot_stride, group_stride,
            ONE: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
            TILE: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1)
    SIZE: tl.constexpr = 2 * HALF
    pos = tl.load(place + row).to(tl.int32)
    half = tl.arange(0, HALF)
    c = tl.load(cos + row * HALF + half)
    s = tl.load(sin + row * HALF + half)
    k += row * k_row + group * SIZE
    first = tl.load(k + half).to(tl.float32)
    second = tl.load(k + HALF + half).to(tl.float32)
    kind = keys.dtype.element_ty
    new1 = (first * c - second * s).to(kind)
    new2 = (second * c + first * s).to(kind)
    whole = tl.arange(0, SIZE)
    new = tl.load(v + row * v_row + group * SIZE + whole)
    keys += row * slot_stride + group * group_stride
    values += row * slot_stride + group * group_stride
    if tl.program_id(2) == 0:
        here = pos.to(tl.int64) * SIZE
        tl.store(keys + here + half, new1)
        tl.store(keys + here + HALF + half, new2)
        tl.store(values + here + whole, new)
    # A row without a request stands at `length` and sees itself alone.
    low = tl.where(pos < length, tl.maximum(0, pos - window + 1), pos)
    if ONE:
        q += row * q_row + group * SIZE
        first = tl.load(q + half).to(tl.float32)
        second = tl.load(q + HALF + half).to(tl.float32)
        q1 = (first * c - second * s).to(kind).to(tl.float32)
        q2 = (second * c + first * s).to(kind).to(tl.float32)
        most = tl.sum(q1 * new1.to(tl.float32) + q2 * new2.to(tl.float32), 0) * factor
        total = most * 0.0 + 1.0
        mixed = new.to(tl.float32)
        for start in range(low // TILE * TILE, pos, TILE):
            at = start + tl.arange(0, TILE)
            there = (at >= low) & (at < pos)
            source = at.to(tl.int64)[:, None] * SIZE
            k1 = tl.load(keys + source + half[None, :], mask=there[:, None], other=0.0)
            k2 = tl.load(keys + source + HALF + half[None, :], mask=there[:, None], other=0.0)
            value = tl.load(values + source + whole[None, :], mask=there[:, None], other=0.0)
            score = tl.sum(k1.to(tl.float32) * q1[None, :] + k2.to(tl.float32) * q2[None, :], 1)
            score = tl.where(there, score * factor, float("-inf"))
            higher = tl.maximum(most, tl.max(score, 0))
            p = tl.exp2(score - higher)
            shrink = tl.exp2(most - higher)
            total = total * shrink + tl.sum(p, 0)
            mixed = mixed * shrink + tl.sum(p[:, None] * value.to(tl.float32), 0)
            most = higher
        place_out = out + row * out_row + group * SIZE + whole
        tl.store(place_out, (mixed / total).to(out.dtype.element_ty))
    else:
        head = tl.program_id(2) * HEADS + tl.arange(0, HEADS)
        mine = (head < heads)[:, None]
        q += row * q_row + (group * heads + head[:, None]) * SIZE
        first = tl.load(q + half[None, :], mask=mine, other=0.0).to(tl.float32)
        second = tl.load(q + HALF + half[None, :], mask=mine, other=0.0).to(tl.float32)
        q1 = (first * c[None, :] - second * s[None, :]).to(kind)
        q2 = (second * c[None, :] + first * s[None, :]).to(kind)
        along = q1.to(tl.float32) * new1.to(tl.float32)[None, :]
        along += q2.to(tl.float32) * new2.to(tl.float32)[None, :]
        most = tl.sum(along, 1) * factor
        total = tl.full([HEADS], 1.0, tl.float32)
        mixed = tl.zeros([HEADS, SIZE], tl.float32) + new.to(tl.float32)[None, :]
        for start in range(low // TILE * TILE, pos, TILE):
            at = start + tl.arange(0, TILE)
            there = (at >= low) & (at < pos)
            source = at.to(tl.int64)[:, None] * SIZE
            k1 = tl.load(keys + source + half[None, :], mask=there[:, None], other=0.0)
            k2 = tl.load(keys + source + HALF + half[None, :], mask=there[:, None], other=0.0)
            value = tl.load(values + source + whole[None, :], mask=there[:, None], other=0.0)
            score = tl.dot(q2, tl.trans(k2), tl.dot(q1, tl.trans(k1))) * factor
            score = tl.where(there[None, :], score, float("-inf"))
            higher = tl.maximum(most, tl.max(score, 1))
            p = tl.exp2(score - higher[:, None])
            shrink = tl.exp2(most - higher)
            total = total * shrink + tl.sum(p, 1)
            mixed = tl.dot(p.to(kind), value, mixed * shrink[:, None])
            most = higher
        mixed /= total[:, None]
        target = out + row * out_row + (group * heads + head[:, None]) * SIZE + whole[None, :]
        tl.store(target, mixed.to(out.dtype.element_ty), mask=mine)


@triton.jit
def _prefill(q, keys, values, tiles, out, window, group_size, factor, q_row, out_row, slot_stride,
             group_stride, SIZE: tl.constexpr, QUERIES: tl.constexpr,
             TILE: tl.constexpr):  # fmt: skip
    head = tl.program_id(0)
    tile = tiles + 4 * tl.program_id(1)
    begin, end = tl.load(tile), tl.load(tile + 1)
    slot, first = tl.load(tile + 2).to(tl.int64), tl.load(tile + 3)
    if begin < end:
        rows = begin + tl.arange(0, QUERIES)
        places = first + tl.arange(0, QUERIES)
        columns = tl.arange(0, SIZE)[None, :]
        mine = (rows < end)[:, None]
        source = rows.to(tl.int64)[:, None]
        query = tl.load(q + source * q_row + head * SIZE + columns, mask=mine, other=0.0)
        keys += slot * slot_stride + (head // group_size) * group_stride
        values += slot * slot_stride + (head // group_size) * group_stride
        most = tl.full([QUERIES], float("-inf"), tl.float32)
        total = tl.zeros([QUERIES], tl.float32)
        mixed = tl.zeros([QUERIES, SIZE], tl.float32)
        last = first + end - begin
        low = tl.maximum(0, first - window + 1) // TILE * TILE
        for start in range(low, last, TILE):
            at = start + tl.arange(0, TILE)
            there = (at < last)[:, None]
            here = at.to(tl.int64)[:, None] * SIZE + columns
            key = tl.load(keys + here, mask=there, other=0.0)
            value = tl.load(values + here, mask=there, other=0.0)
            score = tl.dot(query, tl.trans(key)) * factor
            seen = (at[None, :] <= places[:, None]) & (at[None, :] > places[:, None] - window)
            score = tl.where(seen, score, float("-inf"))
            higher = tl.maximum(most, tl.max(score, 1))
            # Within a window the first tiles may hold nothing for a token.
            safe = tl.where(higher == float("-inf"), 0.0, higher)
            p = tl.exp2(score - safe[:, None])
            shrink = tl.exp2(most - safe)
            total = total * shrink + tl.sum(p, 1)
            mixed = tl.dot(p.to(value.dtype), value, mixed * shrink[:, None])
            most = higher
        mixed /= tl.where(total == 0.0, 1.0, total)[:, None]
        target = out + source * out_row + head * SIZE + columns
        tl.store(target, mixed.to(out.dtype.element_ty), mask=mine)


def decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cos: Tensor,
    sin: Tensor,
    keys: Tensor,
    values: Tensor,
    place: Tensor,
    window: int | None,
    out: Tensor,
) -> None:
    """RoPE of queries and keys, the new key and value into the cache, and attention: as
    `harness.decoder.slots.DecodeAttention` has it. Heads lie side by side in rows of q, k, v."""
    rows, heads, size = q.shape
    groups, share = k.shape[1], heads // k.shape[1]
    many = min(_HEADS, max(16, triton.next_power_of_2(share)))
    length = keys.shape[2] - 1
    _decode[(rows, groups, triton.cdiv(share, many))](
        q, k, v, cos, sin, keys, values, place, out, length, window or length + 1, share,
        size**-0.5 * _LOG2_E, q.stride(0), k.stride(0), v.stride(0), out.stride(0),
        keys.stride(0), keys.stride(1),
        ONE=share == 1, HEADS=many, HALF=size // 2, TILE=64 if size < 256 else 32, num_warps=4,
    )  # fmt: skip


def prefill(
    q: Tensor, keys: Tensor, values: Tensor, tiles: Tensor, window: int | None, out: Tensor
) -> None:
    """Attention of parts of prompts whose keys and values are in the cache already; see
    `harness.decoder.slots.PrefillAttention`. q: after RoPE."""
    _, heads, size = q.shape
    _prefill[(heads, len(tiles))](
        q, keys, values, tiles, out, window or keys.shape[2], heads // keys.shape[1],
        size**-0.5 * _LOG2_E, q.stride(0), out.stride(0), keys.stride(0), keys.stride(1),
        SIZE=size, QUERIES=QUERIES, TILE=64 if size < 256 else 32,
        num_warps=4 if size < 256 else 8,
    )  # fmt: skip


def tiles(pieces: Sequence[Any], count: int) -> Tensor:
    """[count, 4], int32: first row, end, slot and first position of each program of `prefill` for
    `harness.decoder.slots.Piece`s; those beyond the last are empty."""
    found = [
        (at, min(at + QUERIES, p.end), p.slot, p.first + at - p.begin)
        for p in pieces
        for at in range(p.begin, p.end, QUERIES)
    ]
    return torch.tensor([*found, *[(0, 0, 0, 0)] * (count - len(found))], dtype=torch.int32)
