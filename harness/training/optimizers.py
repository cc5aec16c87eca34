"""The optimisers that a recipe can name."""

from __future__ import annotations

from typing import Any

import torch

from harness.config.schema import RecipeConfig


def make_optimizer(
    recipe: RecipeConfig, parameters: list[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimiser that the recipe names; 8-bit and paged ones are bitsandbytes'.

    Paging moves the state to the host when the card is full; the mathematics is that of
    "adamw_8bit", which stands in for it on a CPU, where there is nothing to page.
    """
    settings: dict[str, Any] = {
        "lr": recipe.learning_rate,
        "betas": (recipe.adam_beta1, recipe.adam_beta2),
        "eps": recipe.adam_epsilon,
        "weight_decay": recipe.weight_decay,
    }
    on_card = parameters[0].device.type == "cuda"
    if recipe.optim == "adamw":
        return torch.optim.AdamW(parameters, fused=on_card, **settings)
    import bitsandbytes as bnb

    paged = recipe.optim == "paged_adamw_8bit" and on_card
    kind = bnb.optim.PagedAdamW8bit if paged else bnb.optim.AdamW8bit
    optimizer: torch.optim.Optimizer = kind(parameters, **settings)
    return optimizer
