"""Plans of a GPU's memory: they fit, a larger card is never slower, a step is split evenly."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.training import memory_plan
from harness.training.memory_plan import GIB, MemoryPlan, ModelSizes, PlanConstraints

LLAMA = ModelSizes(
    layers=32, linear=6_476_005_376, head=131_072_000, largest=4096 * 11008, activations=66_304,
    hidden=4096, trainable=39_976_960, dropout=0, allocated=4 * 10**9, quantized=True,
)  # fmt: skip
STEP, LONGEST = 8300.0, 1024


def plan(
    room: float,
    step: float = STEP,
    longest: int = LONGEST,
    fixed: PlanConstraints = PlanConstraints(),  # noqa: B008
) -> MemoryPlan:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_plan, "available", lambda device, memory: room)
        patch.setattr(ModelSizes, "of", classmethod(lambda cls, base, adapter: LLAMA))
        base: Any = SimpleNamespace(quantization="nf4", device=None)
        return memory_plan._fastest(base, None, longest, step, fixed)  # type: ignore[arg-type]


def estimate(made: MemoryPlan, step: float = STEP) -> float:
    real = step / math.ceil(step / made.row_tokens)
    return LLAMA.seconds(real, made.dense, made.checkpointed_of(int(real)))


def test_a_large_card_keeps_everything_and_dequantises_once() -> None:
    made = plan(76 * GIB)
    assert made.dense
    assert made.row_tokens >= STEP
    assert made.checkpointed_of(int(STEP)) == 0


@pytest.mark.parametrize("gib", [6.5, 8, 11, 16, 24, 40, 80])
def test_a_plan_fits(gib: float) -> None:
    made = plan(gib * GIB)
    for tokens in (LONGEST, made.row_tokens // 2, made.row_tokens):
        again = made.checkpointed_of(tokens)
        assert LLAMA.bytes(tokens, made.dense, again) <= gib * GIB
    assert made.dense == (gib >= 40)


@given(st.floats(6.5, 80), st.floats(1.0, 20), st.floats(300, 40_000))
def test_more_memory_is_never_slower(gib: float, more: float, step: float) -> None:
    smaller, larger = plan(gib * GIB, step), plan((gib + more) * GIB, step)
    assert estimate(larger, step) <= estimate(smaller, step) * (1 + 1e-9)


def test_a_step_that_needs_two_rows_has_two_of_about_its_half() -> None:
    sizes = memory_plan._row_sizes(STEP)
    assert sizes == sorted(sizes, reverse=True)
    for rows in (1, 2, 3, 4):
        assert any(1.1 * STEP / rows < size < 1.2 * STEP / rows + 64 for size in sizes)


def test_what_is_fixed_stays() -> None:
    assert (
        plan(76 * GIB, fixed=PlanConstraints(checkpointing="always")).checkpointed == LLAMA.layers
    )
    assert not plan(76 * GIB, fixed=PlanConstraints(dense=False)).dense
    assert plan(76 * GIB, fixed=PlanConstraints(row_tokens=2048)).row_tokens == 2048
    assert not plan(76 * GIB, fixed=PlanConstraints(flash=False)).flash
    never = plan(16 * GIB, fixed=PlanConstraints(checkpointing="never"))
    assert never.checkpointed == 0
    assert LLAMA.bytes(never.row_tokens, never.dense, 0) <= 16 * GIB


def test_where_nothing_fits_by_the_estimate_the_smallest_is_tried() -> None:
    made = plan(1 * GIB)
    assert not made.dense
    assert (made.row_tokens, made.checkpointed) == (min(memory_plan.ROWS), LLAMA.layers)
