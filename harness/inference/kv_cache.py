"""A key/value cache with room ahead, so that a step writes one position and copies nothing."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

if TYPE_CHECKING:
    from harness.models.load import Base


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's cache [B, H, T, D] inside a buffer with room for more than T positions.

    transformers' own layer concatenates, that is copies everything at every step. Sliding layers
    keep all positions too: their mask, not their cache, bounds what a query sees.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self.keys: Tensor
        self.values: Tensor
        self._buffers: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append [B, H, t, D] keys and values; returns all so far, as views."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if not self._buffers or self._buffers[0].shape[-2] < end:
            self._buffers = [
                _with_room(old, new, start, end + self._room)
                for old, new in ((self.keys, key_states), (self.values, value_states))
            ]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = new
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values


def _with_room(old: Tensor, new: Tensor, filled: int, size: int) -> Tensor:
    batch, heads, _, width = new.shape
    buffer = torch.empty((batch, heads, size, width), dtype=new.dtype, device=new.device)
    if filled:
        buffer[:, :, :filled] = old
    return buffer


def roomy_cache(config: Any, room: int) -> Any:
    """An empty cache for a model of `config`, with room for `room` positions after the prompt.

    Layers of attention get room; those that carry another state keep transformers' own cache.
    """
    cache = DynamicCache(config=config)
    if not cache.layers:
        cache.layers = [DynamicLayer() for _ in range(config.num_hidden_layers)]
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    cache.layers = [RoomyLayer(room) if type(layer) in plain else layer for layer in cache.layers]
    return cache


@torch.inference_mode()
def last_states(base: Base, ids: Tensor, mask: Any, positions: Tensor, cache: Any) -> Tensor:
    """Hidden states [B, D] at the last of the positions [B, t] of ids [B, t].

    mask: [B, T] over all positions so far, those in `cache` (or None) included; or what the model's
    layers take in its place.
    """
    name = "past_key_values"
    if "cache_params" in signature(base.decoder.forward).parameters:
        name = "cache_params"
    with base.autocast():
        states: Tensor = base.decoder(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=cache is not None,
            **{name: cache},
        ).last_hidden_state
    return states[:, -1]
