"""Draws: their distribution, what they are restricted to, and that each is its request's own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from harness.inference.request import Request, Sampling
from harness.inference.sampler import Choice, Rows, key

LOGITS = torch.tensor([2.0, 1.5, 1.0, 0.0, -1.0, -3.0, 2.0, -0.5])


def draws(count: int, **settings: Any) -> Counter[int]:
    """What `count` requests draw from the same logits."""
    rows = Rows(count, len(LOGITS), torch.device("cpu"))
    for at in range(count):
        rows.set(at, Request(f"{at}", (3,), Sampling(4, **settings), "base"))
    place = torch.zeros(count, dtype=torch.long)
    choice = Choice(draws=True, penalised=settings.get("repetition_penalty", 1.0) != 1.0)
    tokens, _ = rows.choose(LOGITS.repeat(count, 1), place, choice)
    return Counter(tokens.tolist())


def agrees(found: Counter[int], p: torch.Tensor) -> None:
    """Chi-squared of counts against probabilities, at most its 99.99th percentile."""
    total = sum(found.values())
    assert all(p[token] > 0 for token in found)
    kept = p > 0
    wanted = p[kept] * total
    seen = torch.tensor([float(found[i]) for i in range(len(p))])[kept]
    freedom = int(kept.sum()) - 1
    statistic = float(((seen - wanted) ** 2 / wanted).sum())
    assert statistic < freedom + 3.9 * (2 * freedom) ** 0.5 + 8


def test_draws_have_the_models_distribution() -> None:
    agrees(draws(20_000, temperature=1.0), torch.softmax(LOGITS, 0))
    agrees(draws(20_000, temperature=0.6, seed=4), torch.softmax(LOGITS / 0.6, 0))
    agrees(draws(20_000, temperature=2.0, seed=9), torch.softmax(LOGITS / 2, 0))


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"top_k": 3}, {0, 6, 1}),
        ({"top_k": 1}, {0}),  # the first of equals
        ({"top_p": 0.5}, {0, 6}),
        ({"top_p": 1e-6}, {0}),
        ({"min_p": 0.5}, {0, 6, 1}),
        ({"min_p": 0.3, "top_k": 2}, {0, 6}),
    ],
)
def test_draws_are_restricted(settings: dict[str, Any], kept: set[int]) -> None:
    p = torch.softmax(LOGITS, 0)
    p[[i for i in range(len(p)) if i not in kept]] = 0
    agrees(draws(5_000, temperature=1.0, **settings), p / p.sum())


def test_a_penalty_lowers_what_was_said() -> None:
    """Positive logits are divided, negative ones multiplied, of the prompt's tokens and of those
    that were chosen since."""
    rows = Rows(2, 4, torch.device("cpu"))
    for at, penalty in enumerate((2.0, 1.0)):
        sampling = Sampling(4, repetition_penalty=penalty)
        rows.set(at, Request(f"{at}", (0, 3), sampling, "base"))
    logits = torch.tensor([[3.0, 2.0, -1.0, -0.5]]).repeat(2, 1)
    chosen = []
    for at in range(3):
        tokens, logp = rows.choose(logits, torch.full((2,), at), Choice(False, True, True))
        chosen.append(tokens.tolist())
    assert chosen == [[1, 0], [0, 0], [0, 0]]
    assert logp is not None  # of the model, not of what the penalty leaves
    assert logp.tolist() == pytest.approx([float(torch.log_softmax(logits[0], 0)[0])] * 2)


def test_a_row_greedy_beside_one_that_draws_takes_the_likeliest() -> None:
    rows = Rows(3, 8, torch.device("cpu"))
    rows.set(1, Request("a", (1,), Sampling(4, temperature=5.0), "base"))
    rows.set(2, Request("b", (1,), Sampling(4), "base"))
    for at in range(40):
        tokens, _ = rows.choose(LOGITS.repeat(3, 1), torch.full((3,), at), Choice(draws=True))
        assert tokens[0] == tokens[2] == 0


def test_draws_differ_by_place_seed_and_request() -> None:
    assert key(0, "a") != key(1, "a") != key(1, "b")
    rows = Rows(1, 8, torch.device("cpu"))
    seen = set()
    for seed in range(3):
        rows.set(0, Request("a", (1,), Sampling(4, temperature=1.0, seed=seed), "base"))
        drawn = [
            int(rows.choose(LOGITS[None], torch.tensor([at]), Choice(draws=True))[0])
            for at in range(30)
        ]
        assert len(set(drawn)) > 2
        seen.add(tuple(drawn))
    assert len(seen) == 3
