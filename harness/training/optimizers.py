"""The optimisers that a recipe can name."""

from __future__ import annotations

from typing import Any

import torch

from harness.config.schema import RecipeConfig


def make_optimizer(
    recipe: RecipeConfig, parameters: list[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimiser that the recipe names; 8-bit and paged ones are bitsandbytes'."""
    settings: dict[str, Any] = {
        "lr": recipe.learning_rate,
        "betas": (recipe.adam_beta1, recipe.adam_beta2),
        "eps": recipe.adam_epsilon,
        "weight_decay": recipe.weight_decay,
    }
    if recipe.optim == "adamw":
        fused = parameters[0].device.type == "cuda"
        return torch.optim.AdamW(parameters, fused=fused, **settings)
    import bitsandbytes as bnb

    kind = bnb.optim.PagedAdamW8bit if recipe.optim == "paged_adamw_8bit" else bnb.optim.AdamW8bit
    optimizer: torch.optim.Optimizer = kind(parameters, **settings)
    return optimizer
