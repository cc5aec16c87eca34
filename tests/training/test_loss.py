"""The loss of transformers' layers: its scale, its chunks, heads that are not plain."""

from __future__ import annotations

import math

import pytest
import torch

from harness.decoder.packed import pack_samples
from harness.decoder.teacher_forced import token_scores
from harness.training import loss as loss_module
from harness.training.loss import summed_nll
from tests.support.tiny import base_of
from tests.support.training import SAMPLES


def test_uniform_logits_cost_log_v() -> None:
    base = base_of("llama")
    with torch.no_grad():
        base.head.weight.zero_()
    nll, _ = token_scores(base, SAMPLES)
    torch.testing.assert_close(nll, torch.full_like(nll, math.log(258)))
    total = summed_nll(base, pack_samples(SAMPLES, base.device))
    assert float(total) == pytest.approx(len(nll) * math.log(258), rel=1e-6)


def test_chunks_change_neither_loss_nor_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    states, weight = torch.randn(37, 16, requires_grad=True), torch.randn(50, 16)
    labels = torch.randint(0, 50, (37,))
    wanted = torch.nn.functional.cross_entropy(states @ weight.T, labels, reduction="sum")
    (gradient,) = torch.autograd.grad(wanted, states)
    for elements in (1, 50 * 8, 1 << 20):
        monkeypatch.setitem(loss_module.CHUNK_ELEMENTS, "cpu", elements)
        total = loss_module._ChunkedCrossEntropy.apply(states, weight, labels)
        torch.testing.assert_close(total, wanted.detach())
        torch.testing.assert_close(torch.autograd.grad(total, states)[0], gradient)


def test_softcapped_heads_are_scored_as_the_model_does() -> None:
    base = base_of("gemma3")
    base.model.config.final_logit_softcapping = 2.0
    row = pack_samples(SAMPLES[:1], base.device)
    nll, _ = token_scores(base, SAMPLES[:1])
    with torch.inference_mode():
        logits = base.model(input_ids=row.ids[None], use_cache=False).logits[0]
    logp = torch.log_softmax(logits[row.predict], -1)
    torch.testing.assert_close(nll, -logp.gather(1, row.labels[:, None])[:, 0])
    assert float(summed_nll(base, row)) == pytest.approx(float(nll.sum()), rel=1e-5)
