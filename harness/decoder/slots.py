"""A static key/value cache of slots, one a request, and attention over it.

Every slot has room for `length` positions and one more, which nobody reads: there a row without a
request writes. What a token attends to is found by its slot and its position alone, so that its
result does not depend on what stands in other slots, nor on how long they are.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from harness.decoder.attention import repeat_kv
from harness.kernels import pointwise

EXTENT = 128
"""On a CPU attention is over a multiple of so many positions; those beyond a row's own weigh 0."""


class SlotCache:
    """Keys and values [layers, 2, slots, G, length + 1, K] of a decoder."""

    def __init__(
        self,
        layers: int,
        slots: int,
        heads: int,
        length: int,
        head_dim: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.slots, self.length = slots, length
        shape = (layers, 2, slots, heads, length + 1, head_dim)
        self.data = torch.zeros(shape, device=device, dtype=dtype)

    def copy(self, source: int, target: int, count: int) -> None:
        """The first `count` positions of a slot, into another."""
        self.data[:, :, target, :, :count] = self.data[:, :, source, :, :count]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prompt in a chunk: rows `begin` to `end` are the tokens of `slot` from position
    `first` on."""

    begin: int
    end: int
    slot: int
    first: int


@dataclass(frozen=True, slots=True)
class DecodeAttention:
    """One token a slot: row i is the token of slot i at position place[i].

    cos, sin: [T, K / 2] of RoPE, float32. keys, values: [slots, G, length + 1, K], a layer's.
    place: [T], int64. window: positions that a token sees at most, itself included, or None.
    extent: the number of positions that hold all of place; of no use on a GPU.
    """

    cos: Tensor
    sin: Tensor
    keys: Tensor
    values: Tensor
    place: Tensor
    window: int | None
    extent: int

    def attend(self, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
        """As `harness.decoder.attention.Attends` has it."""
        if kernels := _kernels(q):
            kernels.decode(
                q, k, v, self.cos, self.sin, self.keys, self.values, self.place, self.window, out
            )
            return
        pointwise.rope(q, q, self.cos, self.sin)
        pointwise.rope(k, k, self.cos, self.sin)
        rows, heads, size = q.shape
        groups, end = k.shape[1], self.extent
        at = torch.arange(rows, device=q.device)
        self.keys[at, :, self.place] = k
        self.values[at, :, self.place] = v
        seen = _seen(self.place, end, self.window)
        mixed = scaled_dot_product_attention(
            q.reshape(rows, groups, heads // groups, size),
            self.keys[:rows, :, :end],
            self.values[:rows, :, :end],
            attn_mask=seen[:, None, None],
        )
        out.copy_(mixed.reshape(rows, heads, size))


@dataclass(frozen=True, slots=True)
class PrefillAttention:
    """Parts of prompts, one after the other; each token sees what its slot holds before it.

    cos, sin, keys, values, window: as in `DecodeAttention`. slot, place: [T], of each token.
    pieces: on a CPU. tiles: on a GPU, as `slot_attention.tiles` has them, int32.
    """

    cos: Tensor
    sin: Tensor
    keys: Tensor
    values: Tensor
    slot: Tensor
    place: Tensor
    window: int | None
    pieces: Sequence[Piece] = ()
    tiles: Tensor | None = None

    def attend(self, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
        """As `harness.decoder.attention.Attends` has it."""
        pointwise.rope(q, q, self.cos, self.sin)
        pointwise.rope(k, k, self.cos, self.sin)
        self.keys[self.slot, :, self.place] = k
        self.values[self.slot, :, self.place] = v
        if self.tiles is not None:
            _kernels(q).prefill(q, self.keys, self.values, self.tiles, self.window, out)
            return
        heads = q.shape[1]
        for piece in self.pieces:
            rows, end = slice(piece.begin, piece.end), piece.first + piece.end - piece.begin
            keys = repeat_kv(self.keys[piece.slot, :, :end].transpose(0, 1), heads)
            values = repeat_kv(self.values[piece.slot, :, :end].transpose(0, 1), heads)
            whole = piece.first == 0 and (self.window is None or end <= self.window)
            mixed = scaled_dot_product_attention(
                q[rows].transpose(0, 1)[None],
                keys.transpose(0, 1)[None],
                values.transpose(0, 1)[None],
                attn_mask=None if whole else _seen(self.place[rows], end, self.window),
                is_causal=whole,
            )
            out[rows].copy_(mixed[0].transpose(0, 1))


def _seen(place: Tensor, end: int, window: int | None) -> Tensor:
    """[T, end]: whether a token at `place` sees a position."""
    at = torch.arange(end, device=place.device)[None]
    seen = at <= place[:, None]
    return seen if window is None else seen & (at > place[:, None] - window)


def serves(head_dim: int, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether attention over slots is computed there: on a GPU by kernels of ours."""
    if device.type != "cuda":
        return True
    triton = _triton()
    return (
        triton is not None
        and head_dim in triton.HEAD_DIMS
        and dtype != torch.float32
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def tiles_of(pieces: Sequence[Piece], count: int) -> Tensor:
    """A chunk's pieces as a GPU's kernel takes them: `count` programs' worth."""
    tiles: Tensor = _triton().tiles(pieces, count)
    return tiles


@cache
def _triton() -> Any:
    if importlib.util.find_spec("triton") is None:
        return None

    from harness.kernels import slot_attention

    return slot_attention


def _kernels(x: Tensor) -> Any:
    return _triton() if x.device.type == "cuda" else None
