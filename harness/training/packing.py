"""Packed rows: several documents in one sequence, none of which sees another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.data.pack import balanced
from harness.data.tokens import TokenSample
from harness.models.families import can_pack, packed_mask
from harness.models.load import Base


@dataclass(frozen=True, slots=True)
class Row:
    """One packed row of T tokens, N of which are predicted and scored.

    ids, positions: [1, T]; positions start anew at each document.
    mask:           what `packed_mask` gives, or None where the row is one document.
    predict:        [N] positions whose next token is scored.
    labels:         [N] those next tokens.
    samples:        the documents, in order.
    """

    ids: Tensor
    positions: Tensor
    mask: Any
    predict: Tensor
    labels: Tensor
    samples: tuple[TokenSample, ...]


def plan_rows(samples: Sequence[TokenSample], capacity: int, config: Any) -> list[list[int]]:
    """Indices of the samples of each row: packed to `capacity` tokens, or one a row."""
    if not can_pack(config):
        return [[i] for i in range(len(samples))]
    return balanced([len(sample.ids) for sample in samples], capacity)


def build_row(samples: Sequence[TokenSample], base: Base) -> Row:
    """The tensors of one row, on the device of `base`.

    The first label of each document is a token of its completion, so none is predicted from
    another document.
    """
    ids: list[int] = []
    positions: list[int] = []
    documents: list[int] = []
    predict: list[int] = []
    for index, sample in enumerate(samples):
        start, length = len(ids), len(sample.ids)
        first = max(sample.prompt_tokens, 1)
        ids.extend(sample.ids)
        positions.extend(range(length))
        documents.extend([index] * length)
        predict.extend(range(start + first - 1, start + length - 1))
    labels = [ids[i + 1] for i in predict]
    device = base.device
    mask = None
    if len(samples) > 1:
        of = torch.tensor(documents, device=device)
        mask = packed_mask(base.model.config, of, base.dtype)
    return Row(
        ids=torch.tensor([ids], device=device),
        positions=torch.tensor([positions], device=device),
        mask=mask,
        predict=torch.tensor(predict, dtype=torch.long, device=device),
        labels=torch.tensor(labels, dtype=torch.long, device=device),
        samples=tuple(samples),
    )
