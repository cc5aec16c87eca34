"""Fused forward/backward against transformers' classes with peft's layers and autograd."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from harness.config.schema import LoraSettings
from harness.data.tokens import TokenSample
from harness.decoder import attention
from harness.decoder.decoder import Decoder, supports
from harness.decoder.teacher_forced import token_scores
from harness.models.adapter import Adapter
from harness.training.trainable_decoder import TrainableDecoder
from tests.support.decoders import base_of, computed, expected, randomised, samples, worst
from tests.support.tiny import FAMILIES


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("checkpointed", [0, 1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_step_has_the_loss_and_gradients_of_its_documents(
    family: str, checkpointed: int, dense: bool
) -> None:
    base = base_of(family)
    adapter = randomised(base, LoraSettings(r=4, lora_alpha=16.0))
    batch = samples([17, 40, 9, 26])
    total, grads = expected(base, adapter, batch, 0.01)
    got, mine = computed(
        TrainableDecoder(base, dense, lambda tokens: checkpointed), adapter, batch, 0.01
    )
    assert got == pytest.approx(float(total), rel=1e-5)
    assert worst(mine, grads) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_is_unharmed_by_sharing_its_weights(family: str) -> None:
    base = base_of(family)
    ids = torch.tensor([list(range(2, 40))])
    with torch.no_grad():
        before = base.model(input_ids=ids).logits
        adapter = randomised(base, LoraSettings(r=4))
        tuned = base.model(input_ids=ids).logits
        decoder = Decoder(base, True)
        decoder.refresh()
        assert torch.equal(base.model(input_ids=ids).logits, tuned)
        adapter.detach()
        assert torch.equal(base.model(input_ids=ids).logits, before)


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
        {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
        {"rope_type": "default", "rope_theta": 500.0},
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_follow_the_rotary_scaling(family: str, scaling: dict[str, Any]) -> None:
    base = base_of(family)
    config = base.model.config
    kinds = getattr(config, "layer_types", None)
    config.rope_parameters = dict.fromkeys(kinds, scaling) if kinds else scaling
    fresh = type(base.model)(config).eval().requires_grad_(False)
    fresh.load_state_dict(base.model.state_dict())
    base.model = fresh
    randomised(base, LoraSettings(r=4))
    batch = samples([33, 12, 60])
    decoder = Decoder(base, True)
    decoder.refresh()
    nll, correct = token_scores(base, batch, decoder)
    with torch.no_grad():
        wanted, _ = expected_losses(base, batch)
    assert torch.allclose(nll, wanted, rtol=1e-5, atol=1e-5)
    assert correct.dtype == torch.bool
    assert len(correct) == len(nll)


def expected_losses(base: Any, batch: list[TokenSample]) -> tuple[Any, Any]:
    found = []
    for sample in batch:
        ids = torch.tensor([sample.ids])
        logits = base.model(input_ids=ids, use_cache=False).logits[0]
        first = max(sample.prompt_tokens, 1)
        found.append(
            torch.nn.functional.cross_entropy(
                logits[first - 1 : -1], ids[0, first:], reduction="none"
            )
        )
    return torch.cat(found), None


@pytest.mark.parametrize("family", FAMILIES)
def test_a_subset_of_modules_and_rslora(family: str) -> None:
    base = base_of(family)
    falcon = ["query_key_value", "dense_4h_to_h"]
    targets = falcon if family == "falcon" else ["q_proj", "up_proj"]
    settings = LoraSettings(r=3, lora_alpha=8.0, target_modules=targets, use_rslora=True)
    adapter = randomised(base, settings)
    batch = samples([11, 30])
    total, grads = expected(base, adapter, batch, 1.0)
    got, mine = computed(TrainableDecoder(base, True, lambda tokens: 0), adapter, batch, 1.0)
    assert got == pytest.approx(float(total), rel=1e-5)
    assert worst(mine, grads) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_two_rows_add_up(family: str) -> None:
    base = base_of(family)
    adapter = randomised(base, LoraSettings(r=4))
    batch = samples([17, 40, 9])
    _, grads = expected(base, adapter, batch, 1.0)
    decoder = TrainableDecoder(base, True, lambda tokens: 0)
    decoder.refresh()
    decoder.gradients(batch[:1], torch.tensor(1.0), dropout_seed=1)
    decoder.gradients(batch[1:], torch.tensor(1.0), dropout_seed=2)
    assert worst([p.grad for p in adapter.parameters()], grads) < 1e-5


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_the_gradient_of_the_loss_it_gives(family: str, dense: bool) -> None:
    """With its randomness fixed the loss is a smooth function: its slope is the gradient."""
    base = base_of(family)
    adapter = randomised(base, LoraSettings(r=4, lora_dropout=0.3))
    batch = samples([17, 21])
    decoder = TrainableDecoder(base, dense, lambda tokens: 1)

    def loss(seed: int = 1) -> float:
        decoder.refresh()
        return float(decoder.gradients(batch, torch.tensor(1.0), dropout_seed=seed))

    base_loss = loss()
    grads = [p.grad.clone() for p in adapter.parameters()]
    assert loss() == base_loss
    assert loss(seed=2) != base_loss
    torch.manual_seed(5)
    directions = [torch.randn_like(p) for p in adapter.parameters()]
    slope = sum(float((g * v).sum()) for g, v in zip(grads, directions, strict=True))
    ends = []
    for step in (1e-4, -1e-4):
        for p, v in zip(adapter.parameters(), directions, strict=True):
            p.data.add_(v, alpha=step)
        ends.append(loss())
        for p, v in zip(adapter.parameters(), directions, strict=True):
            p.data.sub_(v, alpha=step)
    assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(slope, rel=5e-2)


def test_a_share_of_the_inputs_is_dropped() -> None:
    base = base_of("llama")
    randomised(base, LoraSettings(r=4, lora_dropout=0.25))
    group = Decoder(base, True).layers[0].linears[0]
    ((p, term), *_) = group.terms()
    masks = torch.stack([group._mask(p, term, seed, 64) for seed in range(20)])
    assert (masks == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert masks.mean().item() == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(masks[0], masks[1])


def test_what_the_fused_layers_do_not_compute_is_left_to_transformers() -> None:
    assert supports(*_with("llama", LoraSettings()))
    assert supports(*_with("falcon", LoraSettings(lora_dropout=0.1, use_rslora=True)))
    assert not supports(*_with("llama", LoraSettings(use_dora=True)))
    assert not supports(*_with("llama", LoraSettings(bias="all")))
    assert supports(*_with("gemma3", LoraSettings()))
    capped = _with("gemma3", LoraSettings())
    capped[0].model.config.final_logit_softcapping = 30.0
    assert not supports(*capped)


def test_a_gpu_takes_what_its_kernels_can() -> None:
    gpu = torch.device("cuda")
    for hidden, taken in ((64, True), (96, False)):  # heads of 16 and 24
        base = base_of("llama", hidden=hidden)
        adapter = Adapter.attach(base, LoraSettings(), seed=0)
        assert supports(base, adapter)
        assert supports(dataclasses.replace(base, device=gpu), adapter) == taken


def test_cards_before_ampere_have_no_kernel_for_packed_documents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "_is_ampere", lambda device: False)
    mask = attention.block_diagonal_mask([3, 4], 64, torch.device("cuda"), torch.float16)
    assert (mask.cu_seqlens, mask.tiles, mask.seqlens) == (None, None, (3, 4))


def _with(family: str, settings: LoraSettings) -> tuple[Any, Adapter]:
    base = base_of(family)
    return base, Adapter.attach(base, settings, 0)
