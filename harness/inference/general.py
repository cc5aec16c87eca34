"""The general way: any causal model of transformers, with its own layers, a system at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from harness.decoder.slots import EXTENT
from harness.host.machine import available_memory
from harness.inference.fused import FEWEST, rounded
from harness.inference.kv_cache import last_states, roomy_cache
from harness.inference.request import Request
from harness.inference.sampler import Choice, Rows
from harness.models.adapter import Adapter
from harness.models.device import free_memory
from harness.models.head import Head
from harness.models.load import Base


class GeneralRunner:
    """Steps of transformers' layers; see `harness.inference.runner.Runner`.

    adapters: by system, what it answers with; None: the bare base.

    Each prompt is read alone. Where `base.batches`, keys and values then go into slots, and a step
    is of all slots at once; else there is one slot, and the model keeps its own cache.
    """

    mixed = False
    chunk: int | None = None
    lag = 0

    def __init__(self, base: Base, adapters: Mapping[str, Adapter | None]) -> None:
        self.base = base
        self._adapters = dict(adapters)
        self.steps = "transformers' layers"
        self.dense = base.device.type == "cpu"
        self._head = Head(base)
        self.slots = self.length = 0
        self._one: Any = None

    def room(self, length: int) -> int:
        """As `Runner` has it."""
        if not self.base.batches:
            return 1
        config = self.base.model.config.get_text_config(decoder=True)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        each = 2 * config.num_hidden_layers * heads * size * (length + 1) * 4
        if self.base.device.type == "cuda":
            free = free_memory(self.base.device)
        else:
            free = available_memory() or (1 << 32)
        return max(1, min(64, int(0.7 * free / each)))

    def reserve(self, slots: int, length: int) -> None:
        """As `Runner` has it."""
        self.slots, self.length = slots, rounded(length, EXTENT)
        rows = slots if not self.dense else max(slots, FEWEST)
        device = self.base.device
        self._rows = Rows(rows, self.base.head_weight.shape[0], device)
        self._token = torch.zeros(rows, dtype=torch.long, device=device)
        self._place = torch.full((rows,), self.length, dtype=torch.long, device=device)
        config = self.base.model.config.get_text_config(decoder=True)
        self._cache = DynamicCache(config=config)
        self._layers = [_SlotLayer(rows, self.length) for _ in range(config.num_hidden_layers)]
        self._cache.layers = list(self._layers)
        rehearsed = roomy_cache(self.base.model.config, 1)
        if self.base.batches and not all(isinstance(x, DynamicLayer) for x in rehearsed.layers):
            ids = torch.zeros(1, 2, dtype=torch.long, device=device)
            at = torch.arange(2, device=device)[None]
            last_states(self.base, ids, torch.ones_like(ids), at, rehearsed)
            self._make_states(rehearsed)

    # --- slots ---------------------------------------------------------------------------------

    def share(self, prefix: tuple[int, ...]) -> None:
        """As `Runner` has it: nothing is shared, each prompt is read whole."""

    def begin(self, slot: int, request: Request) -> int:
        """As `Runner` has it."""
        return 0

    def prefill(self, parts: Sequence[tuple[int, Request, int, int]]) -> None:
        """As `Runner` has it."""
        for slot, request, first, end in parts:
            assert first == 0
            self._use(request.system)
            cache = roomy_cache(self.base.model.config, request.sampling.max_new_tokens + 1)
            ids = torch.tensor([request.token_ids[:end]], device=self.base.device)
            at = torch.arange(end, device=self.base.device)[None]
            last_states(self.base, ids, torch.ones_like(ids), at, cache)
            if self.base.batches:
                for layer, filled in zip(self._layers, cache.layers, strict=True):
                    if isinstance(filled, DynamicLayer):
                        layer.fill(slot, filled.keys[0], filled.values[0])
                self._keep_states(slot, cache)
            else:
                self._one = cache

    def _make_states(self, like: Any) -> None:
        """Layers without keys and values (a convolution, linear attention) carry states along a
        row: one row for each slot, in every step."""
        self.dense = False
        for index, layer in enumerate(like.layers):
            if not isinstance(layer, DynamicLayer):
                self._cache.layers[index] = deepcopy(layer)
                for states in _states_of(self._cache.layers[index]):
                    for name, value in states.items():
                        states[name] = value.new_zeros(len(self._token), *value.shape[1:])

    def _keep_states(self, slot: int, filled: Any = None) -> None:
        """The states of a prompt's cache become the slot's; without one, those of no token."""
        for index, layer in enumerate(self._cache.layers):
            if isinstance(layer, DynamicLayer):
                continue
            for at, states in enumerate(_states_of(layer)):
                for name, value in states.items():
                    value[slot] = (
                        0 if filled is None else _states_of(filled.layers[index])[at][name][0]
                    )

    def start(self, slot: int, request: Request) -> None:
        """As `Runner` has it."""
        self._use(request.system)
        self._token[slot] = request.token_ids[-1]
        self._place[slot] = len(request.token_ids) - 1
        self._rows.set(slot, request)
        if len(request.token_ids) > 1:
            return
        if self.base.batches:
            self._keep_states(slot)
        else:
            self._one = roomy_cache(self.base.model.config, request.sampling.max_new_tokens + 1)

    def stop(self, slot: int) -> None:
        """As `Runner` has it."""
        self._place[slot] = self.length
        self._one = None

    def move(self, source: int, target: int) -> None:
        """As `Runner` has it."""
        for layer in self._layers:
            layer.move(source, target)
        for each in (self._token, self._place):
            each[target] = each[source]
        self._rows.move(source, target)
        self.stop(source)

    def _use(self, system: str) -> None:
        wanted = self._adapters[system]
        for adapter in self._adapters.values():
            if adapter is not None:
                (wanted or adapter).switch(on=wanted is not None)
                break

    # --- a step --------------------------------------------------------------------------------

    def launch(self, rows: int, longest: int, choice: Choice) -> Any:
        """As `Runner` has it."""
        states, place = self.states(rows, longest)
        if choice.plain:
            tokens, logp = self._head.first(states), None
        else:
            tokens, logp = self._rows.choose(self._head.logits(states), place, choice)
        self._token[: len(place)] = tokens
        self._place[: len(place)] = (place + 1).clamp_(max=self.length)
        return tokens, logp

    def states(self, rows: int, longest: int) -> tuple[Tensor, Tensor]:
        """Hidden states [B, D] that a step's tokens follow from, and their places [B]."""
        if not self.base.batches:
            place = self._place[:1]
            mask = torch.ones(1, longest, dtype=torch.long, device=place.device)
            ids = self._token[:1, None]
            return last_states(self.base, ids, mask, place[:, None], self._one), place
        count, extent = len(self._token), self.length
        if self.dense:
            count, extent = min(rounded(rows, FEWEST), count), min(rounded(longest, EXTENT), extent)
        place = self._place[:count]
        for layer in self._layers:
            layer.place, layer.extent = place, extent
        ids, mask = self._token[:count, None], self._mask(place, extent)
        return last_states(self.base, ids, mask, place[:, None], self._cache), place

    def read(self, launched: Any) -> tuple[list[int], list[float] | None]:
        """As `Runner` has it."""
        tokens, logp = launched
        return tokens.tolist(), None if logp is None else logp.tolist()

    def _mask(self, place: Tensor, extent: int) -> Any:
        """Masks [B, 1, 1, extent] as transformers' layers take them, one for each kind."""
        config = self.base.model.config
        at = torch.arange(extent, device=place.device)[None]
        seen = at <= place[:, None]
        window = getattr(config, "sliding_window", None)
        sliding = seen & (at > place[:, None] - window) if window else seen
        # A row without a request would see all, or with a window nothing: a softmax of no values.
        free = (place >= self.length)[:, None]
        seen, sliding = (torch.where(free, at == 0, each) for each in (seen, sliding))
        kinds = set(getattr(config, "layer_types", None) or ())
        if "sliding_attention" in kinds:
            masks = {"full_attention": seen, "sliding_attention": sliding}
            return {kind: self._shaped(mask) for kind, mask in masks.items()}
        return self._shaped(seen if kinds else sliding)

    def _shaped(self, seen: Tensor) -> Tensor:
        if self.base.model.config._attn_implementation != "eager":
            return seen[:, None, None]
        added = torch.zeros(seen.shape, dtype=self.base.dtype, device=seen.device)
        return added.masked_fill(~seen, torch.finfo(self.base.dtype).min)[:, None, None]


def _states_of(layer: Any) -> list[dict[Any, Tensor]]:
    """The tensors [B, ...] of a layer that carries states."""
    every = (layer.conv_states, layer.recurrent_states)
    for states in every:
        for name in [name for name, value in states.items() if value is None]:
            del states[name]
    return list(every)


class _SlotLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values [slots, H, length + 1, D]; a step writes each row at its own
    place. Sliding layers keep all positions: their mask bounds what a token sees."""

    def __init__(self, slots: int, length: int) -> None:
        super().__init__()
        self._slots, self._length = slots, length
        self._buffers: list[Tensor] = []
        self.place: Tensor
        self.extent = length

    def _room(self, *values: Tensor) -> list[Tensor]:
        """The buffers, made for heads as those of `values` [..., H, t, D]."""
        if not self._buffers:
            self._buffers = [
                x.new_zeros(self._slots, x.shape[-3], self._length + 1, x.shape[-1]) for x in values
            ]
        return self._buffers

    def fill(self, slot: int, keys: Tensor, values: Tensor) -> None:
        """A prompt's keys and values [H, t, D] go into a slot."""
        for buffer, new in zip(self._room(keys, values), (keys, values), strict=True):
            buffer[slot, :, : new.shape[1]] = new

    def move(self, source: int, target: int) -> None:
        """What slot `source` holds, into `target`."""
        for buffer in self._buffers:
            buffer[target] = buffer[source]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one position [B, H, 1, D] of each row; all of each row comes back."""
        rows = torch.arange(len(self.place), device=self.place.device)
        new = key_states, value_states
        for buffer, value in zip(self._room(*new), new, strict=True):
            buffer[rows, :, self.place] = value[:, :, 0].to(buffer.dtype)
        keys, values = (x[: len(rows), :, : self.extent] for x in self._buffers)
        return keys, values

    def get_seq_length(self) -> int:
        """Positions that a mask is over, but for the token's own."""
        return self.extent - 1
