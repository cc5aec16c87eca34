"""Whether a loaded model answers the same with a cache, and beside others, as it does alone."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from harness.errors import RunError
from harness.inference.general import GeneralRunner
from harness.inference.kv_cache import last_states, roomy_cache
from harness.inference.request import Request, Sampling
from harness.models.load import Base
from harness.models.packing import FAILS, difference, tolerances

LENGTHS = (9, 5)


def batches(base: Base) -> bool:
    """Whether prompts of unlike length may be decoded together, from slots.

    Hidden states are compared after a prompt and one more token: with the key/value cache and
    without, alone and in slots. A model may carry state that has no place there.
    Raises RunError where the cache alone changes what the model says.
    """
    size = base.model.get_input_embeddings().weight.shape[0]
    draw = random.Random(1)
    prompts = [[draw.randrange(size) for _ in range(length)] for length in LENGTHS]
    more = draw.randrange(size)
    _, near = tolerances(base)
    try:
        whole = [_whole(base, [*prompt, more]) for prompt in prompts]
        cached = [_cached(base, prompt, more) for prompt in prompts]
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
        together = _together(base, prompts, more)
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


def _cached(base: Base, prompt: list[int], more: int) -> Tensor:
    """State [D] after a prompt and the token `more`, by way of the cache."""
    cache = roomy_cache(base.model.config, 4)
    ids = torch.tensor([prompt], device=base.device)
    mask = torch.ones(1, len(prompt) + 1, dtype=torch.long, device=base.device)
    at = torch.arange(len(prompt) + 1, device=base.device)[None]
    last_states(base, ids, mask[:, :-1], at[:, :-1], cache)
    return last_states(base, ids.new_full((1, 1), more), mask, at[:, -1:], cache)[0]


@torch.inference_mode()
def _together(base: Base, prompts: list[list[int]], more: int) -> Tensor:
    """States [B, D] after each prompt and the token `more`, from slots."""
    before, base.batches = base.batches, True
    try:
        runner = GeneralRunner(base, {"": None})
        runner.reserve(len(prompts), max(map(len, prompts)) + 1)
        for slot, prompt in enumerate(prompts):
            request = Request(str(slot), (*prompt, more), Sampling(1), "")
            runner.prefill([(slot, request, 0, len(prompt))])
            runner.start(slot, request)
        return runner.states(len(prompts), max(map(len, prompts)) + 1)[0][: len(prompts)]
    finally:
        base.batches = before
