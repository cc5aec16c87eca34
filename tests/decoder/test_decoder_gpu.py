"""On a CUDA device only: Triton kernels against plain torch, and the half-precision step against
peft's. CI has no such device; run it where there is one."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config.schema import LoraSettings
from harness.decoder.attention import (
    AttentionInputs,
    BlockDiagonalMask,
    block_diagonal_mask,
)
from harness.decoder.decoder import Decoder
from harness.decoder.lora_linear import LoraGradients
from harness.errors import Interrupted
from harness.host import signals
from harness.kernels import pointwise
from harness.kernels.pointwise import Norm
from harness.models.adapter import Adapter
from harness.training.step_log import StepLog
from harness.training.trainable_decoder import TrainableDecoder
from tests.support.decoders import expected, randomised, samples, worst
from tests.support.tiny import base_of
from tests.support.training import tiny_recipe
from tests.support.training import trained as fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

TYPES = (torch.bfloat16, torch.float16, torch.float32)


def both(work: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels' results and plain torch's agree to the last bits of the type."""
    fast = work()
    with monkeypatch.context() as patch:
        patch.setattr(pointwise, "kernels_for", lambda x: None)
        plain = work()
    for a, b in zip(fast, plain, strict=True):
        assert float((a.float() - b.float()).norm() / b.float().norm()) < 1e-4


def drawn(*shape: int, dtype: torch.dtype) -> Any:
    return torch.randn(*shape, device="cuda", dtype=dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("width", [64, 96, 4096, 4544])
def test_norms(width: int, bias: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = drawn(width, dtype=dtype)
    norm = Norm(weight, drawn(width, dtype=dtype) if bias else None, 1e-5)
    h, d, gx = (drawn(300, width, dtype=dtype) for _ in range(3))
    before = drawn(300, width + 16, dtype=dtype)

    def work() -> list[Any]:
        x, gh = torch.zeros_like(before), before.clone()
        total = pointwise.norm(h, d, norm, x[:, :width])
        pointwise.norm_backward(gx, total, norm, gh[:, :width])
        return [x, total, gh]

    both(work, monkeypatch)


@pytest.mark.parametrize("dtype", TYPES)
def test_rotation_activations_and_copies(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = drawn(300, 73, 64, dtype=dtype)
    cos, sin = (drawn(300, 32, dtype=torch.float32) for _ in range(2))
    wide, grad = drawn(300, 2200, dtype=dtype), drawn(300, 1100, dtype=dtype)

    def work() -> list[Any]:
        rotated, back = heads.clone(), torch.zeros_like(heads)
        pointwise.rope(rotated[:, :72], rotated[:, :72], cos, sin)
        pointwise.rope(heads, back, cos, sin, -1)
        out, both_grads = torch.zeros_like(wide), torch.zeros_like(wide)
        gate, up = wide.chunk(2, -1)
        pointwise.glu(gate, up, out[:, :1100])
        pointwise.glu_backward(grad, gate, up, both_grads[:, :1100], both_grads[:, 1100:])
        tanh, tanh_grads = torch.zeros_like(wide), torch.zeros_like(wide)
        pointwise.glu(gate, up, tanh[:, :1100], tanh=True)
        halves = tanh_grads[:, :1100], tanh_grads[:, 1100:]
        pointwise.glu_backward(grad, gate, up, *halves, tanh=True)
        curved, slope = torch.zeros_like(wide), torch.zeros_like(grad)
        pointwise.gelu(gate, curved[:, :1100])
        pointwise.gelu_backward(grad, up, slope)
        copied = torch.zeros_like(wide)
        pointwise.copy(grad, copied[:, 1100:])
        return [rotated, back, out, both_grads, tanh, tanh_grads, curved, slope, copied]

    both(work, monkeypatch)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("vocabulary", [258, 32000, 65024])
def test_cross_entropy(
    vocabulary: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = 3 * drawn(200, vocabulary, dtype=dtype)
    labels = torch.randint(0, vocabulary, (200,), device="cuda")

    def work() -> list[Any]:
        given = logits.clone()
        nll = pointwise.cross_entropy(given, labels, torch.tensor(0.5, device="cuda"))
        return [nll, given]

    both(work, monkeypatch)


def attention(
    mask: BlockDiagonalMask, dtype: torch.dtype, heads: int, groups: int, size: int
) -> list[torch.Tensor]:
    """Result and gradients of the same values, rounded to bfloat16, computed in `dtype`."""
    draw = torch.Generator("cuda").manual_seed(0)
    tokens, split = sum(mask.seqlens), [heads, groups, groups]

    def values(count: int) -> torch.Tensor:
        room = torch.randn(tokens, (count + 1) * size, device="cuda", generator=draw)
        return room.bfloat16().to(dtype)[:, : count * size].unflatten(1, (count, size))

    given, grad = values(sum(split)), values(heads)
    angles = 6 * torch.rand(tokens, size // 2, device="cuda", generator=draw)
    inputs = AttentionInputs(angles.cos(), angles.sin(), mask)
    out, back = torch.full_like(grad, torch.nan), torch.full_like(given, torch.nan)
    inputs.attend(*given.split(split, 1), out).backward(grad, *back.split(split, 1))
    return [out, *back.split(split, 1)]


@pytest.mark.parametrize("lengths", [[5, 300, 64, 1, 30], [1], [65] * 9, [1024, 24]])
@pytest.mark.parametrize(("heads", "groups", "size"), [(71, 1, 64), (32, 32, 128), (8, 2, 64)])
def test_attention_is_block_diagonal(
    heads: int, groups: int, size: int, lengths: list[int]
) -> None:
    device = torch.device("cuda")
    ours = block_diagonal_mask(lengths, size, device, torch.bfloat16)
    assert ours.tiles is not None
    varlen = block_diagonal_mask(lengths, size, device, torch.bfloat16, flash=False)
    assert varlen.tiles is None
    assert varlen.cu_seqlens is not None
    shape = (heads, groups, size)
    exact = attention(
        block_diagonal_mask(lengths, size, device, torch.float32), torch.float32, *shape
    )
    for mask in (ours, varlen):
        for a, b in zip(attention(mask, torch.bfloat16, *shape), exact, strict=True):
            # What is exactly zero (the scores of a document of one token) is so to rounding.
            assert float((a.float() - b).norm()) < 8e-3 * float(b.norm()) + 1e-4
    again = attention(ours, torch.bfloat16, *shape)
    for a, b in zip(again, attention(ours, torch.bfloat16, *shape), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("family", ["llama", "falcon"])
def test_the_half_precision_step_is_pefts(family: str, quantized: bool, dtype: torch.dtype) -> None:
    """Against peft and autograd in float32 on the same (rounded, dequantised) weights: about as
    far from that as peft's own layers in half precision are."""
    base = base_of(family, hidden=256)
    base.model.to(dtype)
    base.model.to("cuda")
    base = dataclasses.replace(base, device=torch.device("cuda:0"), dtype=dtype)
    if quantized:
        _quantize(base)
    adapter = randomised(base, LoraSettings(r=8, lora_alpha=16.0))
    batch = samples([17, 40, 9, 126])
    exact_total, exact = _in_float32(base, adapter, batch)
    theirs = worst(expected(base, adapter, batch, 0.01)[1], exact)
    for dense in (True, False) if quantized else (True,):
        decoder = TrainableDecoder(base, dense, lambda tokens: 1)
        decoder.refresh()
        total = decoder.gradients(batch, torch.tensor(0.01, device="cuda"), dropout_seed=1)
        found = [p.grad.clone() for p in adapter.parameters()]
        for p in adapter.parameters():
            p.grad = None
        assert float(total) == pytest.approx(float(exact_total), rel=2e-3)
        assert worst(found, exact) < 2 * theirs


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("nested", [False, True])
def test_nf4_is_unpacked_as_bitsandbytes_does(nested: bool, dtype: torch.dtype) -> None:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weight = drawn(4672, 4544, dtype=dtype) * 0.02
    packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=nested)
    wanted = dequantize_4bit(packed, state)
    found = torch.empty_like(wanted)
    pointwise.kernels_for(weight).unpack_nf4(packed, state, found)
    # A scale may be rounded once instead of twice, which rarely shows in 16 bits.
    assert (found != wanted).float().mean() < 1e-3
    assert torch.allclose(found, wanted, rtol=1e-2, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_one_group_has_the_outputs_and_gradients_of_pefts_layer(dtype: torch.dtype) -> None:
    base = base_of("llama", hidden=256)
    base.model.to(dtype).to("cuda")
    base = dataclasses.replace(base, device=torch.device("cuda:0"), dtype=dtype)
    adapter = randomised(base, LoraSettings(r=16, lora_alpha=64.0))
    group = Decoder(base, True).layers[0].linears[3]
    layer = base.model.model.layers[0].mlp.down_proj
    for parameter, place, factor in group.views():
        place.copy_(parameter.data * factor)
    x = drawn(512, group.inputs, dtype=dtype)
    grad = drawn(512, group.outputs, dtype=dtype)
    given = x.clone().requires_grad_()
    with torch.autocast("cuda", dtype):
        wanted = layer(given)
    wanted.backward(grad)
    room, into = group.input(512), group.grad(512)
    room[:, : group.inputs], into[:, : group.outputs] = x, grad
    grads = LoraGradients()
    found = group.forward(room, 0)
    (back,) = group.backward(into, room, 0, grads)
    pairs = [(found, wanted.detach()), (back, given.grad)]
    ((_, term),) = group.terms()
    theirs = [term.a.grad.clone(), term.b.grad.clone()]
    for p in adapter.parameters():
        p.grad = None
    grads.flush()
    pairs += list(zip([term.a.grad, term.b.grad], theirs, strict=True))
    for a, b in pairs:
        assert float((a.float() - b.float()).norm() / b.float().norm()) < 1e-2


def trained(
    device: str, dtype: torch.dtype, folder: Path, interrupt_at: int = 0
) -> tuple[list[StepLog], dict[str, torch.Tensor]]:
    """A short training of a tiny llama; what was logged and the adapter's weights."""
    base = base_of("llama", hidden=256)
    base.model.to(dtype).to(device)
    base = dataclasses.replace(base, device=torch.device(device), dtype=dtype)
    settings = tiny_recipe(save_steps=0)
    adapter = Adapter.attach(base, settings.lora, seed=0)
    entries: list[StepLog] = []

    def log(entry: StepLog) -> None:
        entries.append(entry)
        if entry.step == interrupt_at:
            os.kill(os.getpid(), signal.SIGTERM)

    fit(base, adapter, settings, folder, log)
    return entries, adapter.state()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_training_goes_on_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    began = time.perf_counter()
    whole, weights = trained("cuda:0", dtype, tmp_path / "whole")
    assert 0 < sum(entry.seconds for entry in whole) < time.perf_counter() - began
    with pytest.raises(Interrupted), signals.handling():
        trained("cuda:0", dtype, tmp_path / "cut", interrupt_at=2)
    rest, resumed = trained("cuda:0", dtype, tmp_path / "cut")
    assert rest[0].step in (3, 4)  # the next one may have been begun
    assert [(e.step, e.loss, e.grad_norm) for e in rest] == [
        (e.step, e.loss, e.grad_norm) for e in whole[rest[0].step - 1 :]
    ]
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def _quantize(base: Any) -> None:
    import bitsandbytes as bnb

    from harness.models.families import linear_names

    for name in linear_names(base.model):
        linear = base.model.get_submodule(name)
        packed = bnb.nn.Linear4bit(
            linear.in_features, linear.out_features, bias=False, compute_dtype=base.dtype,
            quant_type="nf4", compress_statistics=True,
        )  # fmt: skip
        packed.weight = bnb.nn.Params4bit(
            linear.weight.data.cpu(), requires_grad=False, quant_type="nf4",
            compress_statistics=True,
        )  # fmt: skip
        base.model.set_submodule(name, packed.to("cuda"))
    base.quantization = "nf4"


def _in_float32(base: Any, adapter: Any, batch: Any) -> Any:
    from harness.decoder.lora_linear import dense_weight
    from harness.models.families import linear_names

    family = base.model.config.model_type
    twin = base_of(family, hidden=256)
    names = [n for n in linear_names(base.model) if ".lora_" not in n]
    state = {k: v.float().cpu() for k, v in base.model.state_dict().items() if "lora" not in k}
    for name in names:
        weight = dense_weight(base.model.get_submodule(name)).float().cpu()
        state[f"{name.removesuffix('.base_layer')}.weight"] = weight
    wanted = twin.model.state_dict()
    twin.model.load_state_dict({k: state[k] for k in wanted if k in state}, strict=False)
    other = randomised(twin, LoraSettings(r=8, lora_alpha=16.0))
    for a, b in zip(other.parameters(), adapter.parameters(), strict=True):
        a.data.copy_(b.data.cpu().to(base.dtype))
    total, grads = expected(twin, other, batch, 0.01)
    return total, [g.cuda() for g in grads]
