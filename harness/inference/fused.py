"""The fast way: the families of `harness.decoder` over static slots, all systems in one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.decoder.decoder import Decoder
from harness.decoder.layer import LayerInputs
from harness.decoder.lora_linear import FEW_ROWS
from harness.decoder.slots import (
    EXTENT,
    DecodeAttention,
    Piece,
    PrefillAttention,
    SlotCache,
    serves,
    tiles_of,
)
from harness.host.machine import available_memory
from harness.inference.graphs import ChunkGraph, StepGraphs
from harness.inference.request import Request
from harness.inference.sampler import Choice, Rows
from harness.kernels import pointwise
from harness.models.device import free_memory
from harness.models.head import Head
from harness.models.load import Base

CHUNK = 512
"""Tokens of prompts that a GPU reads at a time; half as many for few slots, so that those that are
free wait for less."""

FEW_SLOTS = 128

PIECES = 64
"""Prompts, or parts of them, that are read at a time."""

FEWEST = 16
"""Rows of a step on a CPU at the least: with fewer its products are others, to the last bit."""


def serves_slots(base: Base) -> bool:
    """Whether a decoder that `harness.decoder.decoder.supports` can answer from slots."""
    config = base.model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kinds = config.rope_parameters or {}
    nested = [value for value in kinds.values() if isinstance(value, dict)]
    types = {each.get("rope_type") for each in nested or [kinds]}
    # These rotate a token by how long its text is so far: no table holds that.
    steady = not types & {"dynamic", "longrope"}
    return steady and serves(size, base.device, base.dtype)


class FusedRunner:
    """Steps over static slots; see `harness.inference.runner.Runner`.

    adapters: by system, the adapter that it sees. few: so many rows or fewer are a step of their
    own on a CPU, whose last bits are others than those of more rows; 0: there is none.

    On a GPU a step is one captured graph for each `Choice`, and so is a chunk of prompts: shapes
    and addresses are fixed, and rows without a request compute what nobody reads. On a CPU a step
    has as many rows as there are requests, a multiple of FEWEST.
    """

    mixed = True

    def __init__(
        self, base: Base, decoder: Decoder, adapters: Mapping[str, int | None], few: int = 0
    ) -> None:
        self.base, self.decoder, self._few = base, decoder, few
        self._adapters = dict(adapters)
        each: dict[int | None, None] = dict.fromkeys(self._adapters.values())
        self._homes = {adapter: at for at, adapter in enumerate(each)}
        self._gates = {adapter: decoder.gates([adapter])[0].to(base.device) for adapter in each}
        self._cuda = base.device.type == "cuda"
        self.dense = not self._cuda
        self.lag = 1 if self._cuda else 0
        self.chunk = CHUNK if self._cuda else None
        self._head = Head(base)
        weights = "weights dequantised once" if decoder.dense else "weights as they are held"
        self.steps = f"fused layers, {weights}" if base.quantization != "none" else "fused layers"
        self._state: _State | None = None
        self._steps: StepGraphs | None = None
        self._chunk: ChunkGraph | None = None

    @property
    def slots(self) -> int:
        """As `Runner` has it."""
        return self._state.slots if self._state else 0

    @property
    def length(self) -> int:
        """As `Runner` has it."""
        return self._state.cache.length if self._state else 0

    def room(self, length: int) -> int:
        """As `Runner` has it: nine tenths of what is free, a row's logits counted."""
        vocabulary = self.base.head_weight.shape[0]
        layers, heads, size = self._shape()
        width = torch.empty(0, dtype=self.base.dtype).element_size()
        each = 2 * layers * heads * size * (self._rounded(length) + 1) * width + 8 * vocabulary
        if self._cuda:
            held = 0 if self._state is None else self._state.cache.data.nbytes
            free = free_memory(self.base.device) + held
        else:
            free = available_memory() or (1 << 32)
        return max(1, int(0.9 * free / each))

    def reserve(self, slots: int, length: int) -> None:
        """As `Runner` has it."""
        self._state = None  # the last one's memory goes before the next one's comes
        if self._cuda:
            torch.cuda.empty_cache()
        self.decoder.refresh()
        layers, heads, size = self._shape()
        length, device, dtype = self._rounded(length), self.base.device, self.base.dtype
        rows = slots if self._cuda else max(slots, FEWEST)
        if self._cuda:
            self.chunk = CHUNK // 2 if slots <= FEW_SLOTS else CHUNK
        tables = {}
        for kind in self.decoder.stack.windows:
            places = torch.arange(length + 1, device=device)
            cos, sin = (
                x[0, :, : x.shape[-1] // 2].float().contiguous()
                for x in self.decoder.stack.rope(places[None], kind)
            )
            tables[kind] = cos, sin
        self._steps = self._chunk = None
        self._state = s = _State(
            slots=slots,
            cache=SlotCache(layers, rows + len(self._homes), heads, length, size, device, dtype),
            ropes=tables,
            rows=Rows(rows, self.base.head_weight.shape[0], device),
            token=torch.zeros(rows, dtype=torch.long, device=device),
            place=torch.full((rows,), length, dtype=torch.long, device=device),
            gate=torch.zeros(rows, self.decoder.adapters, dtype=dtype, device=device),
        )
        if self._cuda:
            self._steps = StepGraphs(
                lambda choice: self._next(s, rows, 0, choice),
                lambda: [s.token, s.place, *s.rows.state()],
            )
            self._chunk = ChunkGraph(lambda ids, gate, tiles: self._read(s, ids, gate, (), tiles))

    # --- slots ---------------------------------------------------------------------------------

    def share(self, prefix: tuple[int, ...]) -> None:
        """As `Runner` has it: what is read stands in slots beyond those of requests."""
        s = self._held()
        s.prefix = prefix if len(prefix) < s.cache.length else ()
        size = self.chunk or len(prefix)
        for at in range(0, len(s.prefix), max(size, 1)):
            for adapter in self._homes:
                end = min(at + size, len(s.prefix))
                self._prefill(s, [(self._home(adapter), s.prefix, adapter, at, end)])

    def begin(self, slot: int, request: Request) -> int:
        """As `Runner` has it."""
        s, size = self._held(), len(self._held().prefix)
        if not size or len(request.token_ids) <= size or request.token_ids[:size] != s.prefix:
            return 0
        s.cache.copy(self._home(self._adapters[request.system]), slot, size)
        return size

    def _home(self, adapter: int | None) -> int:
        """The slot in which the prefix stands as an adapter reads it, or the bare base."""
        return len(self._held().token) + self._homes[adapter]

    def start(self, slot: int, request: Request) -> None:
        """As `Runner` has it."""
        s = self._held()
        # Filled, not assigned: on a GPU the host would wait for all that was launched.
        s.token[slot].fill_(request.token_ids[-1])
        s.place[slot].fill_(len(request.token_ids) - 1)
        s.gate[slot].copy_(self._gates[self._adapters[request.system]])
        s.rows.set(slot, request)

    def stop(self, slot: int) -> None:
        """As `Runner` has it."""
        s = self._held()
        s.place[slot].fill_(s.cache.length)

    def move(self, source: int, target: int) -> None:
        """As `Runner` has it."""
        s = self._held()
        s.cache.copy(source, target, int(s.place[source]))
        for each in (s.token, s.place, s.gate):
            each[target] = each[source]
        s.rows.move(source, target)
        self.stop(source)

    # --- computing -----------------------------------------------------------------------------

    def prefill(self, parts: Sequence[tuple[int, Request, int, int]]) -> None:
        """As `Runner` has it."""
        s = self._held()
        pieces = [
            (slot, request.token_ids, self._adapters[request.system], first, end)
            for slot, request, first, end in parts
        ]
        if self._cuda:
            for at in range(0, len(pieces), PIECES):
                self._prefill(s, pieces[at : at + PIECES])
            return
        # What a CPU multiplies in another way, many rows, is one prompt alone.
        group: list[_Part] = []
        for piece in pieces:
            if group and sum(end - first for *_, first, end in (*group, piece)) > FEW_ROWS:
                self._prefill(s, group)
                group = []
            group.append(piece)
        self._prefill(s, group)

    def _prefill(self, s: _State, parts: Sequence[_Part]) -> None:
        ids: list[int] = []
        slots: list[int] = []
        places: list[int] = []
        adapters: list[int | None] = []
        pieces = []
        for slot, tokens, adapter, first, end in parts:
            pieces.append(Piece(len(ids), len(ids) + end - first, slot, first))
            ids += tokens[first:end]
            slots += [slot] * (end - first)
            places += range(first, end)
            adapters += [adapter] * (end - first)
        spare = (self.chunk or max(FEWEST, len(ids))) - len(ids)
        whole = torch.tensor(
            [ids + [0] * spare, slots + [0] * spare, places + [s.cache.length] * spare]
        )
        gate = self.decoder.gates([*adapters, *[None] * spare])
        if self._chunk is not None:
            self._chunk.launch(whole, gate, tiles_of(pieces, CHUNK // 64 + PIECES))
        else:
            self._read(s, whole, gate, pieces)

    def _read(
        self,
        s: _State,
        whole: Tensor,
        gate: Tensor,
        pieces: Sequence[Piece] = (),
        tiles: Tensor | None = None,
    ) -> None:
        """Keys and values of the tokens of a chunk. whole: their ids, slots and places [3, T]."""
        ids, slot, place = whole.unbind(0)

        def attention(index: int, kind: str, window: int | None) -> PrefillAttention:
            keys, values = s.cache.data[index].unbind(0)
            return PrefillAttention(*ropes[kind], keys, values, slot, place, window, pieces, tiles)

        ropes = s.ropes_at(place)
        self._through(ids, gate, attention)

    def launch(self, rows: int, longest: int, choice: Choice) -> Any:
        """As `Runner` has it."""
        s = self._held()
        if self._steps is not None:
            return self._steps.launch(choice)
        rows = self._few if rows <= self._few else min(rounded(rows, FEWEST), len(s.token))
        extent = min(rounded(longest, EXTENT), s.cache.length)
        return self._next(s, rows, extent, choice)

    def _next(
        self, s: _State, rows: int, extent: int, choice: Choice
    ) -> tuple[Tensor, Tensor | None]:
        """The next token of the first `rows` slots, which becomes what they are asked next."""
        place = s.place[:rows]

        def attention(index: int, kind: str, window: int | None) -> DecodeAttention:
            keys, values = s.cache.data[index].unbind(0)
            return DecodeAttention(*ropes[kind], keys, values, place, window, extent)

        ropes = s.ropes_at(place)
        residual, delta = self._through(s.token[:rows], s.gate[:rows], attention)
        assert delta is not None
        states = residual.new_empty(residual.shape)
        pointwise.norm(residual, delta, self.decoder.stack.norm, states)
        if choice.plain:
            tokens, logp = self._head.first(states), None
        else:
            tokens, logp = s.rows.choose(self._head.logits(states), place, choice)
        s.token[:rows] = tokens
        s.place[:rows] = (place + 1).clamp_(max=s.cache.length)
        return tokens, logp

    def _through(
        self, ids: Tensor, gate: Tensor, attention: Callable[[int, str, int | None], Any]
    ) -> tuple[Tensor, Tensor | None]:
        """The residual stream [T, D] after all layers, as a sum of two."""
        windows = self.decoder.stack.windows
        residual, delta = self.decoder.stack.embedding(ids), None
        for index, layer in enumerate(self.decoder.layers):
            inputs = LayerInputs(
                {layer.kind: attention(index, layer.kind, windows[layer.kind])}, -1, gate
            )
            residual, delta, _ = layer.forward(residual, delta, inputs)
        return residual, delta

    def read(self, launched: Any) -> tuple[list[int], list[float] | None]:
        """As `Runner` has it."""
        if self._steps is not None:
            return self._steps.read(launched)
        tokens, logp = launched
        return tokens.tolist(), None if logp is None else logp.tolist()

    def _rounded(self, length: int) -> int:
        return rounded(length, 64 if self._cuda else EXTENT)

    def _shape(self) -> tuple[int, int, int]:
        """Layers, key/value heads, and the size of a head."""
        config = self.base.model.config
        multi_query = getattr(config, "multi_query", False)
        heads = 1 if multi_query else config.num_key_value_heads
        return len(self.decoder.layers), heads, self.decoder.stack.head_dim

    def _held(self) -> _State:
        assert self._state is not None, "reserve comes first"
        return self._state


_Part = tuple[int, tuple[int, ...], int | None, int, int]
"""A slot, tokens, which adapter they see, the first and the end of those to read."""


@dataclass
class _State:
    """What stands on the device.

    slots: those in use; on a CPU the cache has FEWEST at the least. ropes: cos and sin [length + 1,
    K / 2] by kind of attention. token, place [slots]: what each slot is asked next, and where it
    stands; place is `length` where a slot is free. gate: [slots, adapters], as in `LayerInputs`.
    prefix: tokens that are read already, as every system does.
    """

    slots: int
    cache: SlotCache
    ropes: dict[str, tuple[Tensor, Tensor]]
    rows: Rows
    token: Tensor
    place: Tensor
    gate: Tensor
    prefix: tuple[int, ...] = ()

    def ropes_at(self, place: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """cos and sin [T, K / 2] at places [T], by kind of attention."""
        return {kind: (cos[place], sin[place]) for kind, (cos, sin) in self.ropes.items()}


def rounded(number: int, multiple: int) -> int:
    """The multiple of `multiple` that `number` fits into."""
    return -(-number // multiple) * multiple
