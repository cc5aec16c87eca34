"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math
import random

from harness.config.schema import RecipeConfig


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


def total_steps(recipe: RecipeConfig, examples: int) -> int:
    """Optimiser steps over `examples` examples; the last of an epoch may be smaller."""
    per_epoch = math.ceil(examples / recipe.examples_per_step)
    steps = max(1, math.ceil(per_epoch * recipe.num_train_epochs))
    return steps if recipe.max_steps is None else min(steps, recipe.max_steps)


def examples_of_step(recipe: RecipeConfig, examples: int, seed: int, step: int) -> list[int]:
    """Indices of the examples of one optimiser step.

    Each epoch is a permutation drawn from (seed, epoch) alone, the same on every machine, so any
    step can be taken up without those before it.
    """
    size = recipe.examples_per_step
    per_epoch = math.ceil(examples / size)
    epoch, at = divmod(step, per_epoch)
    order = list(range(examples))
    random.Random(f"order-{seed}-{epoch}").shuffle(order)
    return order[at * size : (at + 1) * size]
