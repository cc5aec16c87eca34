"""The Triton kernels without a GPU, by Triton's interpreter; `make slow` installs it.

It computes in float32 what a GPU would, one program after the other; what only a compiler or a
device can get wrong is left to tests/decoder/test_decoder_gpu.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from harness.config.schema import LoraSettings
from harness.decoder import attention, decoder, slots
from harness.decoder.attention import AttentionInputs, BlockDiagonalMask
from harness.decoder.slots import DecodeAttention, Piece, PrefillAttention
from harness.kernels import pointwise
from harness.training.trainable_decoder import TrainableDecoder
from tests.support.decoders import base_of, computed, expected, randomised, samples, worst
from tests.support.tiny import FAMILIES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("triton") is None, reason="needs the package triton"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: test_decoder_gpu"),
    pytest.mark.filterwarnings("ignore:invalid value encountered"),  # -inf - -inf, masked
]

KERNELS = (
    "harness.kernels.triton_pointwise",
    "harness.kernels.flash_attention",
    "harness.kernels.slot_attention",
)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """Our two modules of kernels, interpreted, and used for everything on the CPU."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for name in KERNELS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    plain, flash, slot = (import_module(name) for name in KERNELS)
    slot.QUERIES = 16
    flash.HEAD_DIMS, flash.TILE = (16, 32, 64), 16
    masked = attention.block_diagonal_mask

    def tiled(seqlens: Any, head_dim: int, *where: Any) -> BlockDiagonalMask:
        mask = masked(seqlens, head_dim, *where)
        return mask if mask.window else tiles_of(flash, mask.seqlens)

    monkeypatch.setattr(pointwise, "kernels_for", lambda x: plain)
    monkeypatch.setattr(attention, "_flash", lambda: flash)
    monkeypatch.setattr(slots, "_triton", lambda: slot)
    monkeypatch.setattr(decoder, "block_diagonal_mask", tiled)
    yield plain, flash
    for name in KERNELS:
        sys.modules.pop(name, None)


def tiles_of(flash: Any, seqlens: tuple[int, ...]) -> BlockDiagonalMask:
    tiles = torch.tensor(flash.tiles(seqlens), dtype=torch.int32)
    return BlockDiagonalMask(seqlens, None, tiles=tiles)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_by_kernels_has_the_loss_and_gradients_of_transformers_and_peft(
    family: str, kernels: Any
) -> None:
    base = base_of(family)
    adapter = randomised(base, LoraSettings(r=4, lora_alpha=16.0))
    batch = samples([17, 40, 9, 26])
    total, grads = expected(base, adapter, batch, 0.01)
    decoder = TrainableDecoder(base, True, lambda tokens: 1)
    got, mine = computed(decoder, adapter, batch, 0.01)
    assert got == pytest.approx(float(total), rel=1e-5)
    assert worst(mine, grads) < 1e-5


@pytest.mark.parametrize(
    ("heads", "groups", "size", "lengths"),
    [(2, 2, 64, (5, 40, 16, 1)), (6, 2, 32, (50, 3)), (7, 1, 16, (40, 9)), (1, 1, 64, (33,))],
)
@pytest.mark.parametrize("programs", [1, 8, 4096])
def test_attention_by_tiles(
    heads: int, groups: int, size: int, lengths: tuple[int, ...], programs: int, kernels: Any
) -> None:
    flash = kernels[1]
    flash._PROGRAMS = programs  # heads that share a key: all in one program, a few, each its own
    torch.manual_seed(0)
    tokens, split = sum(lengths), [heads, groups, groups]
    given = torch.randn(tokens, sum(split) + 1, size)[:, :-1]
    grad = torch.randn(tokens, heads + 1, size)[:, :-1]
    angles = 6 * torch.rand(tokens, size // 2)
    found = []
    for mask in (BlockDiagonalMask(lengths, None), tiles_of(flash, lengths)):
        inputs = AttentionInputs(angles.cos(), angles.sin(), mask)
        out, back = torch.full_like(grad, torch.nan), torch.full_like(given, torch.nan)
        attended = inputs.attend(*given.clone().split(split, 1), out)
        assert (attended.lse is not None) == (mask.tiles is not None)
        attended.backward(grad, *back.split(split, 1))
        found.append((out, back))
    for plain, ours in zip(*found, strict=True):
        assert float((plain - ours).norm() / plain.norm()) < 1e-6


@pytest.mark.parametrize("nested", [False, True])
def test_nf4_is_unpacked_as_bitsandbytes_does(nested: bool, kernels: Any) -> None:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weight = 0.02 * torch.randn(96, 128)
    packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=nested)
    wanted = dequantize_4bit(packed, state)
    found = torch.full_like(wanted, torch.nan)
    kernels[0].unpack_nf4(packed, state, found)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize(("heads", "groups", "size"), [(4, 4, 64), (8, 2, 64), (5, 1, 256)])
def test_attention_over_slots(
    heads: int,
    groups: int,
    size: int,
    window: int | None,
    kernels: tuple[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Decode and prefill against plain torch: results, and what is written to the cache."""
    torch.manual_seed(0)
    length = 140
    places = torch.tensor([0, 1, 63, 64, 100, length])  # the last one has no request
    pieces = [Piece(0, 30, 2, 0), Piece(30, 31, 0, 0), Piece(31, 60, 1, 90)]
    at = [(p.slot, p.first + n) for p in pieces for n in range(p.end - p.begin)]
    slot, place = torch.tensor(at).unbind(1)
    for rows, here in ((len(places), places), (len(at), place)):
        given = [torch.randn(rows, n, size) for n in (heads, groups, groups)]
        given += [torch.randn(len(places), groups, length + 1, size) for _ in range(2)]
        angle = here[:, None] * torch.linspace(1, 0.01, size // 2)[None]
        results = []
        for ours in (True, False):
            q, k, v, keys, values = (each.clone() for each in given)
            out = torch.zeros_like(q)
            with monkeypatch.context() as patch:
                patch.setattr(slots, "_kernels", lambda x, on=ours: slots._triton() if on else None)
                ropes = angle.cos(), angle.sin(), keys, values
                attends: Any = DecodeAttention(*ropes, places, window, length)
                if here is place:
                    tiles = slots.tiles_of(pieces, 9) if ours else None
                    attends = PrefillAttention(*ropes, slot, place, window, pieces, tiles)
                attends.attend(q, k, v, out)
            real = slice(None) if here is place else slice(0, -1)
            results.append((out[real], keys, values))
        for fast, plain in zip(*results, strict=True):
            torch.testing.assert_close(fast, plain, atol=2e-5, rtol=1e-4)
