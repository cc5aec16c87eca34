"""Packed sequences: documents that do not see one another, labels where they belong."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.pack import pack
from harness.decoder.packed import pack_samples, plan_packing
from harness.decoder.teacher_forced import token_scores
from harness.models.families import can_pack, expected_linears, linear_names
from harness.models.head import first_choice
from tests.support.tiny import FAMILIES, base_of, tiny_model
from tests.support.training import sample

SAMPLES = [sample("a", 13, 5), sample("b", 30, 1), sample("c", 21, 20), sample("d", 9, 0)]


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 50))
@settings(derandomize=True, deadline=None, max_examples=200)
def test_packing_is_a_partition_within_capacity(lengths: list[int], capacity: int) -> None:
    rows = pack(lengths, capacity)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    for row in rows:
        assert sum(lengths[i] for i in row) <= capacity or len(row) == 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30))
@settings(derandomize=True, deadline=None, max_examples=100)
def test_packing_keeps_the_bound_of_best_fit_decreasing(lengths: list[int]) -> None:
    capacity = 30
    optimum = math.ceil(sum(lengths) / capacity)
    # 11/9 OPT + 6/9 bounds the rows from above; OPT itself is at least `optimum`, and no two
    # rows of best fit are both at most half full.
    rows = pack(lengths, capacity)
    half = [row for row in rows if sum(lengths[i] for i in row) <= capacity / 2]
    assert len(rows) >= optimum
    assert len(half) <= 1


def test_labels_are_the_completion_and_never_the_next_document() -> None:
    row = pack_samples(SAMPLES, torch.device("cpu"))
    starts = [0, 13, 43, 64]
    owners = torch.repeat_interleave(
        torch.arange(len(SAMPLES)), torch.tensor([s.scored_tokens for s in SAMPLES])
    )
    for index, (document, start) in enumerate(zip(SAMPLES, starts, strict=True)):
        mine = owners == index
        first = max(document.prompt_tokens, 1)
        assert row.labels[mine].tolist() == list(document.ids[first:])
        assert row.predict[mine].tolist() == [
            start + i for i in range(first - 1, len(document.ids) - 1)
        ]
    assert len(row.labels) == sum(s.scored_tokens for s in SAMPLES)
    assert row.positions[starts].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_give_the_log_probs_of_the_documents_alone(family: str) -> None:
    base = base_of(family)
    together, _ = token_scores(base, SAMPLES)
    # transformers' own forward on each document alone is the second witness.
    alone = []
    for document in SAMPLES:
        with torch.inference_mode():
            logits = base.model(input_ids=torch.tensor([document.ids]), use_cache=False).logits[0]
        first = max(document.prompt_tokens, 1)
        logp = torch.log_softmax(logits[first - 1 : -1], -1)
        alone.append(-logp.gather(1, torch.tensor(document.ids[first:])[:, None])[:, 0])
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_document_cannot_move_its_neighbours(family: str) -> None:
    base = base_of(family)
    changed = [sample("x", 13, 5, seed=99), *SAMPLES[1:]]
    before, _ = token_scores(base, SAMPLES)
    after, _ = token_scores(base, changed)
    own = SAMPLES[0].scored_tokens
    assert not torch.allclose(before[:own], after[:own])
    assert torch.equal(before[own:], after[own:])


def test_first_choice_is_argmax() -> None:
    torch.manual_seed(0)
    for size in (128, 256, 258, 384):
        logits = torch.randn(40, size).bfloat16()
        logits[:, ::7] = 3.0  # ties: the first of equals
        assert torch.equal(first_choice(logits), logits.argmax(-1))


def test_models_that_leak_along_a_row_get_a_row_for_each_document() -> None:
    model = tiny_model("falcon")
    assert plan_packing(SAMPLES, 1000, model.config) == [[0, 1, 2, 3]]
    model.config.documents_share_rows = False
    assert not can_pack(model.config)
    assert plan_packing(SAMPLES, 1000, model.config) == [[0], [1], [2], [3]]


@pytest.mark.parametrize(("family", "a_layer"), [("falcon", 4), ("llama", 7), ("gemma3", 7)])
def test_linears_are_counted_from_the_architecture(family: str, a_layer: int) -> None:
    model = tiny_model(family)
    assert expected_linears(model.config) == 2 * a_layer
    assert len(linear_names(model)) == 2 * a_layer
