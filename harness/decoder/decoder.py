"""A whole decoder with its head: gradients of the adapter and losses, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.data.tokens import TokenSample
from harness.decoder import falcon, gemma3, llama
from harness.decoder.attention import View, documents
from harness.decoder.layer import Row, Stack
from harness.decoder.lora_linear import Grads, spaced
from harness.kernels import pointwise
from harness.models.adapter import Adapter
from harness.models.head import first_choice, plain_head
from harness.models.load import Base
from harness.records import Arm
from harness.training.cross_entropy import token_losses

ALIGNMENT = 64
"""Rows are filled up to a multiple of this many tokens on a GPU: products like round sizes."""

CHUNK_ELEMENTS = {"cuda": 1 << 27, "cpu": 1 << 26}
"""Logits that exist at a time, by device: 256 MiB in bfloat16 on a GPU."""


FAMILIES: dict[str, Any] = {"llama": llama, "falcon": falcon, "gemma3_text": gemma3}
"""By `model_type`: modules with `stack(base, dense)`, `supported(config)` and `kept(config)`."""


def kept(config: Any) -> int:
    """Elements a token that one layer keeps for its backward pass."""
    elements: int = FAMILIES[config.model_type].kept(config)
    return elements


def supports(base: Base, adapter: Adapter) -> bool:
    """Whether the model and the adapter are ones whose step is written out here."""
    config = base.model.config
    lora = adapter.settings
    plain = not lora.use_dora and lora.bias == "none" and base.quantization in ("nf4", "none")
    plain = plain and not lora.modules_to_save and adapter.on_linears()
    family = FAMILIES.get(config.model_type)
    known = family is not None and family.supported(config)
    return bool(known and plain and plain_head(base) and _turns(base))


def _turns(base: Base) -> bool:
    """Whether the device turns heads of the model's size: Triton takes powers of two."""
    config = base.model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return base.device.type != "cuda" or size.bit_count() == 1


class Decoder:
    """The step of `base` with `adapter` on it.

    dense:        hold all weights dequantised, or dequantise them at each product.
    checkpointed: of how many layers (the first ones), for a row of so many tokens, only the input
                  is kept, and the rest computed again in the backward pass.
    """

    def __init__(
        self, base: Base, adapter: Adapter, dense: bool, checkpointed: Callable[[int], int]
    ) -> None:
        self.base = base
        self.checkpointed = checkpointed
        self.stack: Stack = FAMILIES[base.model.config.model_type].stack(base, dense)
        self.layers = self.stack.layers
        self.tail = max(layer.tail for layer in self.layers)
        self.places = [p for layer in self.layers for g in layer.linears for p in g.places()]
        self.grads = Grads()

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the adapter's values as they are now: once before a step's rows."""
        values = torch._foreach_mul([p for p, _, _ in self.places], [f for _, _, f in self.places])
        for (_, place, _), value in zip(self.places, values, strict=True):
            place.copy_(value)

    def use(self, arm: Arm) -> None:
        """Compute as `arm`: without the adapter's term as "base"."""
        for layer in self.layers:
            for group in layer.linears:
                group.active = arm == "tuned"

    @torch.no_grad()
    def gradients(self, samples: Sequence[TokenSample], scale: Tensor, call: int) -> Tensor:
        """Add scale times the gradient of the samples' summed nll to the parameters' .grad.

        call: seed of the dropout. Returns the summed nll (float32).
        """
        row, ids, predict, labels = self._row(samples, call)
        again = self.checkpointed(len(ids))
        h, d = self.stack.embedding(ids), None
        kept: list[Any] = []
        for index, layer in enumerate(self.layers):
            if index < again:
                h, d = (h if d is None else h + d), None
                kept.append(h)
                h, d, _ = layer.forward(h, None, row)
            else:
                h, d, saved = layer.forward(h, d, row)
                kept.append(saved)
        assert d is not None
        picked = h.index_select(0, predict) + d.index_select(0, predict)
        del h, d
        states = torch.empty_like(picked)
        pointwise.norm(picked, None, self.stack.norm, states)
        nll, g_states = self._head(states, labels, scale)
        g_picked = torch.zeros_like(picked)
        pointwise.norm_backward(g_states, picked, self.stack.norm, g_picked)
        gh = spaced(len(ids), picked.shape[1], self.tail, picked).zero_()
        gh[:, : picked.shape[1]].index_copy_(0, predict, g_picked)
        del picked, states, g_states, g_picked
        for index in reversed(range(len(self.layers))):
            layer, saved = self.layers[index], kept.pop()
            if index < again:
                _, _, saved = layer.forward(saved, None, row)
            layer.backward(gh, saved, row, self.grads, first=index == 0)
            del saved
        self.grads.flush()
        return nll.sum()

    @torch.no_grad()
    def losses(self, samples: Sequence[TokenSample]) -> tuple[Tensor, Tensor]:
        """nll [N] in nats (float32) of the samples' scored tokens, and whether each was the
        model's first choice [N]; no dropout."""
        row, ids, predict, labels = self._row(samples, -1)
        h, d = self.stack.embedding(ids), None
        for layer in self.layers:
            h, d, _ = layer.forward(h, d, row)
        assert d is not None
        picked = h.index_select(0, predict) + d.index_select(0, predict)
        states = torch.empty_like(picked)
        pointwise.norm(picked, None, self.stack.norm, states)
        weight = self.base.head_weight
        nll, correct = [], []
        step = -(-self._chunk(weight) // 4)  # they are widened to float32
        for at in range(0, len(states), step):
            logits = states[at : at + step].to(weight.dtype) @ weight.T
            wanted = labels[at : at + step]
            correct.append(first_choice(logits) == wanted)
            nll.append(token_losses(logits, wanted))
        return torch.cat(nll), torch.cat(correct)

    def _chunk(self, weight: Tensor) -> int:
        return max(1, CHUNK_ELEMENTS[weight.device.type] // weight.shape[0])

    def _head(self, states: Tensor, labels: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """nll [N] of states [N, D], and scale times its gradient [N, D]."""
        weight = self.base.head_weight
        step = self._chunk(weight)
        grad = torch.empty_like(states)
        nll = []
        for at in range(0, len(states), step):
            logits = states[at : at + step].to(weight.dtype) @ weight.T
            nll.append(pointwise.cross_entropy(logits, labels[at : at + step], scale))
            torch.mm(logits, weight, out=grad[at : at + step])
        return torch.cat(nll), grad

    def _row(self, samples: Sequence[TokenSample], call: int) -> tuple[Row, Tensor, Tensor, Tensor]:
        """The row, its token ids [T], the positions [N] that predict, and their labels [N]."""
        lengths = [len(sample.ids) for sample in samples]
        ends = np.cumsum(lengths)
        ids = np.concatenate([np.asarray(sample.ids, dtype=np.int64) for sample in samples])
        predict = np.concatenate(
            [
                np.arange(end - sample.scored_tokens - 1, end - 1)
                for sample, end in zip(samples, ends, strict=True)
            ]
        )
        labels = ids[predict + 1]
        device = self.base.device
        if device.type == "cuda" and (spare := -len(ids) % ALIGNMENT):
            lengths.append(spare)  # a document of its own, which nothing looks at
            ids = np.concatenate([ids, np.zeros(spare, dtype=np.int64)])
        positions = np.concatenate([np.arange(length) for length in lengths])
        moved = to_device([ids, positions, predict, labels], device)
        views = {}
        for kind, window in self.stack.windows.items():
            angles = self.stack.angles(moved[1][None], kind)
            half = angles[0].shape[-1] // 2
            cos, sin = (x[0, :, :half].float().contiguous() for x in angles)
            apart = documents(lengths, self.stack.size, device, self.base.dtype, window)
            views[kind] = View(cos, sin, apart)
        return Row(views, call), moved[0], moved[2], moved[3]


def to_device(arrays: Sequence[Any], device: torch.device) -> list[Tensor]:
    """Integer arrays as tensors on `device`, in one copy that the host does not wait for."""
    whole = torch.from_numpy(np.concatenate(arrays))
    if device.type == "cuda":
        whole = whole.pin_memory().to(device, non_blocking=True)
    return list(torch.split(whole, [len(array) for array in arrays]))
