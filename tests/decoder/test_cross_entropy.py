"""token_cross_entropy: against torch's own, by closed form, and what it must never look at."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from harness.decoder.cross_entropy import token_cross_entropy


def test_equals_torchs_on_random_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        rows, length, size = (int(n) for n in torch.randint(1, 9, (3,), generator=generator))
        logits = 5 * torch.randn(rows, length, size, generator=generator)
        targets = torch.randint(0, size, (rows, length), generator=generator)
        mask = torch.rand(rows, length, generator=generator) < 0.6
        mask[0, 0] = True
        theirs = cross_entropy(logits[mask].double(), targets[mask])
        assert token_cross_entropy(logits, targets, mask).item() == pytest.approx(
            theirs.item(), rel=1e-6, abs=1e-6
        )
        whole = token_cross_entropy(logits.double(), targets)
        assert whole.item() == pytest.approx(
            cross_entropy(logits.flatten(0, 1).double(), targets.flatten()).item(), rel=1e-12
        )


@pytest.mark.parametrize("size", [2, 7, 262_144])
def test_uniform_logits_give_log_v(size: int) -> None:
    loss = token_cross_entropy(torch.full((1, 3, size), 4.5), torch.tensor([[0, 1, size - 1]]))
    assert loss.item() == pytest.approx(math.log(size), rel=1e-6)


def test_what_the_mask_hides_is_never_looked_at() -> None:
    logits = torch.zeros(4, 5)
    logits[0], logits[1] = math.nan, math.inf
    targets = torch.tensor([-100, 99, 2, 3])
    mask = torch.tensor([0, 0, 1, 1])
    assert token_cross_entropy(logits, targets, mask).item() == pytest.approx(math.log(5))


def test_gradient_is_softmax_minus_one_hot() -> None:
    logits = torch.randn(3, 6, requires_grad=True)
    targets = torch.tensor([1, 5, 0])
    token_cross_entropy(logits, targets).backward()  # type: ignore[no-untyped-call]
    one_hot = torch.nn.functional.one_hot(targets, 6)
    expected = (torch.softmax(logits, -1) - one_hot) / 3
    assert torch.allclose(logits.grad, expected.detach(), atol=1e-6)  # type: ignore[arg-type]


def test_half_precision_is_widened() -> None:
    logits = torch.randn(50, 1000, generator=torch.Generator().manual_seed(1)).bfloat16()
    targets = torch.arange(50)
    loss = token_cross_entropy(logits, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(cross_entropy(logits.double(), targets).item(), rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "targets", "mask", "said"),
    [
        ((2, 3, 4), [[0, 1, 2]], None, "need targets"),
        ((3, 4), [0, 1, 2], [1, 1], "the mask is"),
        ((3, 4), [0, 1, 2], [0, 0, 0], "no token"),
        ((3, 4), [0, 1, 4], None, "not in 0 to 3"),
        ((3, 4), [0, 1, -100], None, "not in 0 to 3"),
    ],
)
def test_misuse(
    logits: tuple[int, ...], targets: list[int], mask: list[int] | None, said: str
) -> None:
    given = None if mask is None else torch.tensor(mask)
    with pytest.raises(ValueError, match=said):
        token_cross_entropy(torch.zeros(*logits), torch.tensor(targets), given)
