"""Whether a loaded model answers the same with a cache, and beside others, as it does alone."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from harness.errors import RunError
from harness.inference.kv_cache import last_states, roomy_cache
from harness.models.load import Base
from harness.models.packing import FAILS, difference, tolerances

LENGTHS = (9, 5)


def batches(base: Base) -> bool:
    """Whether prompts of unlike length may be decoded together, the shorter padded on its left.

    Hidden states are compared after a prompt and one more token: with the key/value cache and
    without, alone and in a batch of two. A model with state beside its keys and values may see the
    padding. Raises RunError where the cache alone changes what the model says.
    """
    size = base.model.get_input_embeddings().weight.shape[0]
    draw = random.Random(1)
    prompts = [[draw.randrange(size) for _ in range(length)] for length in LENGTHS]
    more = draw.randrange(size)
    _, near = tolerances(base)
    try:
        whole = [_whole(base, [*prompt, more]) for prompt in prompts]
        cached = [_cached(base, [prompt], more)[0] for prompt in prompts]
    except torch.OutOfMemoryError:
        raise
    except FAILS as error:
        raise RunError(
            f"{base.name} cannot be decoded step by step "
            f"({type(error).__name__}: {' '.join(str(error).split())[:120]}); take another model."
        ) from error
    if any(difference(a, b) > near for a, b in zip(cached, whole, strict=True)):
        raise RunError(
            f"{base.name} says other things with its cache of earlier tokens than without, so its "
            "answers could not be trusted; take another model."
        )
    try:
        together = _cached(base, prompts, more)
    except torch.OutOfMemoryError:
        raise
    except FAILS:
        return False
    return all(difference(a, b) <= near for a, b in zip(together, cached, strict=True))


def _whole(base: Base, ids: list[int]) -> Tensor:
    """State [D] after `ids`, all at once."""
    mask = torch.ones(1, len(ids), dtype=torch.long, device=base.device)
    at = torch.arange(len(ids), device=base.device)[None]
    return last_states(base, torch.tensor([ids], device=base.device), mask, at, None)[0]


def _cached(base: Base, prompts: list[list[int]], more: int) -> Tensor:
    """States [B, D] after each prompt and the token `more`, by way of the cache."""
    width = max(map(len, prompts))
    padding = [width - len(prompt) for prompt in prompts]
    rows = [[more] * p + prompt for p, prompt in zip(padding, prompts, strict=True)]
    ids = torch.tensor(rows, device=base.device)
    lead = torch.tensor(padding, device=base.device)[:, None]
    mask = (torch.arange(width, device=base.device)[None] >= lead).long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = roomy_cache(base.model.config, 4)
    last_states(base, ids, mask, positions, cache)
    mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
    return last_states(
        base, ids.new_full((len(prompts), 1), more), mask, positions[:, -1:] + 1, cache
    )
