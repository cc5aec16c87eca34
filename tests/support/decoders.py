"""Tiny decoders, and their loss and gradients by transformers, peft and autograd."""

from __future__ import annotations

import random
from typing import Any

import torch

from harness.config.schema import LoraSettings
from harness.data.tokens import TokenSample
from harness.models.adapter import Adapter
from harness.training.trainable_decoder import TrainableDecoder
from tests.support import tiny


def base_of(family: str, **settings: Any) -> Any:
    """A tiny model whose norms are not the plain ones that a new model has."""
    base = tiny.base_of(family, **settings)
    torch.manual_seed(7)
    for name, parameter in base.model.named_parameters():
        if "norm" in name or "ln_" in name:
            parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    return base


def samples(lengths: list[int], seed: int = 0) -> list[TokenSample]:
    drawn = random.Random(seed)
    return [
        TokenSample(str(n), tuple(drawn.randrange(2, 258) for _ in range(n)), n // 3, n, False)
        for n in lengths
    ]


def randomised(base: Any, settings: LoraSettings, seed: int = 0) -> Adapter:
    """An adapter whose B is not zero, so that every gradient is there."""
    adapter = Adapter.attach(base, settings, seed)
    torch.manual_seed(seed + 1)
    for parameter in adapter.parameters():
        parameter.data.normal_(0, 0.1)
    return adapter


def expected(base: Any, adapter: Adapter, batch: list[TokenSample], scale: float) -> Any:
    """Summed nll and gradients by transformers, peft and autograd, one document at a time."""
    for parameter in adapter.parameters():
        parameter.grad = None
    total = torch.zeros((), device=base.device)
    for sample in batch:
        ids = torch.tensor([sample.ids], device=base.device)
        with base.autocast():
            logits = base.model(input_ids=ids, use_cache=False).logits[0].float()
        first = max(sample.prompt_tokens, 1)
        total = total + torch.nn.functional.cross_entropy(
            logits[first - 1 : -1], ids[0, first:], reduction="sum"
        )
    (total * scale).backward()
    grads = [p.grad.clone() for p in adapter.parameters()]
    for parameter in adapter.parameters():
        parameter.grad = None
    return total.detach(), grads


def worst(grads: list[Any], wanted: list[Any]) -> float:
    """The largest relative error of a gradient."""
    return max(float((a - b).norm() / b.norm()) for a, b in zip(grads, wanted, strict=True))


def computed(
    decoder: TrainableDecoder, adapter: Adapter, batch: list[TokenSample], scale: float
) -> Any:
    """Summed nll and gradients by ours."""
    decoder.refresh()
    total = decoder.gradients(batch, torch.tensor(scale), dropout_seed=1)
    return total, [p.grad.clone() for p in adapter.parameters()]
