"""What each optimiser step is given, its rate and its examples, as pure functions of the step.

`lengths` below are the token counts of the training examples, each at most the recipe's
max_length. No torch is imported here: the plan of a command is made with these functions too.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache

from harness.config.schema import RecipeConfig
from harness.data.pack import pack


def learning_rate(recipe: RecipeConfig, step: int, total: int) -> float:
    """Rate of optimiser step `step` (0-based) of `total`: linear warm-up, then the schedule.

    Warm-up takes ceil(warmup_ratio * total) steps; "cosine" and "linear" then end at 0, as in
    transformers' schedules of these names, but the first step is not wasted at rate 0.
    """
    warmup = math.ceil(recipe.warmup_ratio * total)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    if recipe.lr_scheduler_type == "constant":
        return recipe.learning_rate
    done = (step - warmup) / max(1, total - warmup)
    factor = (
        0.5 * (1 + math.cos(math.pi * done)) if recipe.lr_scheduler_type == "cosine" else 1 - done
    )
    return recipe.learning_rate * factor


def total_steps(recipe: RecipeConfig, lengths: Sequence[int]) -> int:
    """Optimiser steps of the whole training, at least one; max_steps overrides the epochs."""
    if recipe.max_steps is not None:
        return recipe.max_steps
    return max(1, math.ceil(steps_per_epoch(recipe, lengths) * recipe.num_train_epochs))


def examples_per_step(recipe: RecipeConfig) -> int:
    """Examples (with `packing`, rows) that one optimiser step sees."""
    return recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps


def steps_per_epoch(recipe: RecipeConfig, lengths: Sequence[int]) -> int:
    """Optimiser steps in one pass over the examples; the last of them may be smaller.

    How many rows they fill depends on the lengths alone, so it is the same in every epoch.
    """
    units = len(_epoch(_capacity(recipe), tuple(lengths), 0, 0))
    return math.ceil(units / examples_per_step(recipe))


def examples_of_step(
    recipe: RecipeConfig, lengths: Sequence[int], seed: int, step: int
) -> list[int]:
    """Indices of the examples of optimiser step `step` (0-based).

    Without `packing` a step sees `examples_per_step` examples, with it so many rows of max_length
    tokens. Either is drawn from (seed, epoch) alone, the same on every machine, so any step can be
    taken up without those before it.
    """
    epoch, at = divmod(step, steps_per_epoch(recipe, lengths))
    size = examples_per_step(recipe)
    units = _epoch(_capacity(recipe), tuple(lengths), seed, epoch)[at * size : (at + 1) * size]
    return [example for unit in units for example in unit]


def saves_after(recipe: RecipeConfig, done: int, per_epoch: int) -> bool:
    """Whether a checkpoint is due after `done` steps, `per_epoch` of which make an epoch."""
    if recipe.save_strategy == "no":
        return False
    every = per_epoch if recipe.save_strategy == "epoch" else recipe.save_steps
    return every > 0 and done % every == 0


def _capacity(recipe: RecipeConfig) -> int | None:
    """Tokens of a packed row, or None where examples are not packed."""
    return recipe.max_length if recipe.packing else None


@lru_cache(maxsize=4)
def _epoch(
    capacity: int | None, lengths: tuple[int, ...], seed: int, epoch: int
) -> tuple[tuple[int, ...], ...]:
    """All examples in the order of one epoch: one by one, or in packed rows.

    The examples are permuted before they are packed, so that those of equal length change places,
    and the rows after it: `pack` puts those that hold many examples first.
    """
    draw = random.Random(f"order-{seed}-{epoch}")
    order = list(range(len(lengths)))
    draw.shuffle(order)
    if capacity is None:
        return tuple((i,) for i in order)
    rows = [tuple(order[at] for at in row) for row in pack([lengths[i] for i in order], capacity)]
    draw.shuffle(rows)
    return tuple(rows)
