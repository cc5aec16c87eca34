"""Packed sequences: several documents in one, with block-diagonal attention between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.data.pack import balanced
from harness.data.tokens import TokenSample
from harness.models.families import can_pack, packed_mask
from harness.models.load import Base

ALIGNMENT = 64
"""On a GPU the fused layers' sequences are filled up to a multiple of this many tokens: products
like round sizes."""


@dataclass(frozen=True, slots=True)
class PackedSequence:
    """A sequence of T tokens, N of which are predicted and scored.

    seqlens:        tokens of each document, in order; they add up to T.
    ids, positions: [T]; positions (of RoPE) start anew at each document.
    predict:        [N] positions whose next token is scored.
    labels:         [N] those next tokens.
    """

    seqlens: tuple[int, ...]
    ids: Tensor
    positions: Tensor
    predict: Tensor
    labels: Tensor

    def mask(self, base: Base) -> Any:
        """The attention mask for transformers' layers, or None where there is one document."""
        if len(self.seqlens) == 1:
            return None
        documents = torch.arange(len(self.seqlens)).repeat_interleave(torch.tensor(self.seqlens))
        return packed_mask(base.model.config, documents.to(base.device), base.dtype)


def plan_packing(samples: Sequence[TokenSample], capacity: int, config: Any) -> list[list[int]]:
    """Indices of the samples of each sequence: packed to `capacity` tokens, or one a sequence."""
    if not can_pack(config):
        return [[i] for i in range(len(samples))]
    return balanced([len(sample.ids) for sample in samples], capacity)


def pack_samples(
    samples: Sequence[TokenSample], device: torch.device, multiple: int = 1
) -> PackedSequence:
    """The samples as one sequence on `device`, moved in one copy that the host does not wait for.

    The first label of each document is a token of its completion, so none is predicted from
    another document. What fills the sequence up to a multiple of `multiple` tokens is a document
    of its own, which nothing looks at.
    """
    seqlens = [len(sample.ids) for sample in samples]
    ends = np.cumsum(seqlens)
    ids = np.concatenate([np.asarray(sample.ids, dtype=np.int64) for sample in samples])
    predict = np.concatenate(
        [
            np.arange(end - sample.scored_tokens - 1, end - 1)
            for sample, end in zip(samples, ends, strict=True)
        ]
    )
    labels = ids[predict + 1]
    if spare := -len(ids) % multiple:
        seqlens.append(spare)
        ids = np.concatenate([ids, np.zeros(spare, dtype=np.int64)])
    positions = np.concatenate([np.arange(length) for length in seqlens])
    arrays = [ids, positions, predict, labels]
    whole = torch.from_numpy(np.concatenate(arrays))
    if device.type == "cuda":
        whole = whole.pin_memory().to(device, non_blocking=True)
    return PackedSequence(tuple(seqlens), *torch.split(whole, [len(array) for array in arrays]))


def usual_row_tokens(base: Base, fused: bool) -> int:
    """Tokens of a packed sequence where nothing is planned: enough to keep the hardware busy.

    transformers' layers have no kernel for packed sequences on a CPU: there a long one costs the
    square of its length in attention.
    """
    if base.device.type == "cuda":
        return 8192 if fused else 4096
    return 1024 if fused else 256
