"""A whole decoder of a known family with LoRA, forward over packed sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.data.tokens import TokenSample
from harness.decoder import falcon, gemma3, llama
from harness.decoder.attention import AttentionInputs, block_diagonal_mask
from harness.decoder.layer import LayerInputs, Stack
from harness.decoder.packed import ALIGNMENT, PackedSequence, pack_samples
from harness.kernels import pointwise
from harness.models.adapter import Adapter
from harness.models.head import plain_head
from harness.models.load import Base

FAMILIES: dict[str, Any] = {"llama": llama, "falcon": falcon, "gemma3_text": gemma3}
"""By `model_type`: modules with `stack(base, dense)`, `supported(config)` and
`activations_per_token(config)`."""


def activations_per_token(config: Any) -> int:
    """Elements a token that one layer keeps for its backward pass."""
    elements: int = FAMILIES[config.model_type].activations_per_token(config)
    return elements


def supports(base: Base, *adapters: Adapter) -> bool:
    """Whether `Decoder` computes the model with the adapters; transformers' layers do the
    others."""
    config = base.model.config
    plain = base.quantization in ("nf4", "none")
    for adapter in adapters:
        lora = adapter.settings
        plain = plain and not lora.use_dora and lora.bias == "none"
        plain = plain and not lora.modules_to_save and adapter.on_linears()
    family = FAMILIES.get(config.model_type)
    known = family is not None and family.supported(config)
    return bool(known and plain and plain_head(base) and _has_rope_kernel(base))


def _has_rope_kernel(base: Base) -> bool:
    """Whether the device rotates heads of the model's size: Triton takes powers of two."""
    config = base.model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return base.device.type != "cuda" or size.bit_count() == 1


class Decoder:
    """The layers of `base` with the adapters that are on it, without gradients.

    dense: hold all weights dequantised, or dequantise them at each product. flash: attention by
    our kernel where it serves the heads, or by torch's.
    """

    def __init__(self, base: Base, dense: bool, flash: bool = True) -> None:
        self.base = base
        self.dense = dense
        self.flash = flash
        self.stack: Stack = FAMILIES[base.model.config.model_type].stack(base, dense)
        self.layers = self.stack.layers
        groups = [group for layer in self.layers for group in layer.linears]
        self.adapters = max(group.adapters for group in groups)
        self._views = [v for layer in self.layers for g in layer.linears for v in g.views()]

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the adapters' values as they are now: once before a step's sequences."""
        if not self._views:
            return
        values = torch._foreach_mul([p for p, _, _ in self._views], [f for _, _, f in self._views])
        for (_, view, _), value in zip(self._views, values, strict=True):
            view.copy_(value)

    @torch.no_grad()
    def states(
        self, samples: Sequence[TokenSample], adapters: Sequence[int | None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Final hidden states [N, D] at the positions that predict the samples' scored tokens, and
        those tokens [N]; no dropout.

        adapters: which one each sample sees, by its index, or None for the bare base; None: all see
        the only one.
        """
        packed, inputs = self.inputs(samples, -1)
        if adapters is not None:
            inputs = replace(inputs, gate=self._gate(packed, adapters))
        residual, delta = self.stack.embedding(packed.ids), None
        for layer in self.layers:
            residual, delta, _ = layer.forward(residual, delta, inputs)
        return self.final_states(residual, delta, packed.predict)[1], packed.labels

    def gates(self, adapters: Sequence[int | None]) -> Tensor:
        """A row [adapters on the base] for each, as `LayerInputs.gate` has it; on the host."""
        rows = torch.zeros(len(adapters), self.adapters, dtype=self.base.dtype)
        for row, adapter in zip(rows, adapters, strict=True):
            if adapter is not None:
                row[adapter] = 1
        return rows

    def _gate(self, packed: PackedSequence, adapters: Sequence[int | None]) -> Tensor:
        """A packed sequence's gate [T, adapters]."""
        lengths = torch.tensor(packed.seqlens)
        rows = self.gates([*adapters, *[None] * (len(lengths) - len(adapters))])
        return rows.repeat_interleave(lengths, dim=0).to(self.base.device)

    def inputs(
        self, samples: Sequence[TokenSample], dropout_seed: int
    ) -> tuple[PackedSequence, LayerInputs]:
        """The samples as a packed sequence, and what the layers read of it."""
        device = self.base.device
        packed = pack_samples(samples, device, ALIGNMENT if device.type == "cuda" else 1)
        attention = {}
        for kind, window in self.stack.windows.items():
            rope = self.stack.rope(packed.positions[None], kind)
            half = rope[0].shape[-1] // 2
            cos, sin = (x[0, :, :half].float().contiguous() for x in rope)
            mask = block_diagonal_mask(
                packed.seqlens, self.stack.head_dim, device, self.base.dtype, window, self.flash
            )
            attention[kind] = AttentionInputs(cos, sin, mask)
        return packed, LayerInputs(attention, dropout_seed)

    def final_states(
        self, residual: Tensor, delta: Tensor | None, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The residual stream at these positions [N, D], before and after the last norm."""
        assert delta is not None
        picked = residual.index_select(0, positions) + delta.index_select(0, positions)
        states = torch.empty_like(picked)
        pointwise.norm(picked, None, self.stack.norm, states)
        return picked, states
