"""Teacher-forced scores of references: how likely each token is, and whether it comes first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.data.tokens import TokenSample
from harness.decoder.cross_entropy import token_nll
from harness.decoder.decoder import Decoder
from harness.decoder.packed import PackedSequence, pack_samples
from harness.models.head import first_choice, head_logits
from harness.models.load import Base

CHUNK_ELEMENTS = 1 << 25
"""Logits made at a time: 33.5 M, 128 MiB in float32."""


def token_scores(
    base: Base, samples: Sequence[TokenSample], decoder: Decoder | None = None
) -> tuple[Tensor, Tensor]:
    """nll [N] in nats (float32) of the samples' scored tokens, and whether each was the model's
    first choice [N] (bool); the samples are packed into one sequence.

    decoder: the fused layers (refreshed); None for transformers' own.
    """
    if decoder is not None:
        return decoder.scores(samples)
    return _general_scores(base, pack_samples(samples, base.device))


def hidden_states(base: Base, packed: PackedSequence) -> Tensor:
    """Final hidden states [N, D] at the positions that predict a scored token, by transformers'
    layers; differentiable."""
    with base.autocast():
        states = base.decoder(
            input_ids=packed.ids[None],
            position_ids=packed.positions[None],
            attention_mask=packed.mask(base),
            use_cache=False,
        ).last_hidden_state
    picked: Tensor = states[0].index_select(0, packed.predict)
    return picked


@torch.inference_mode()
def _general_scores(base: Base, packed: PackedSequence) -> tuple[Tensor, Tensor]:
    states = hidden_states(base, packed)
    nll, correct = [torch.empty(0, device=base.device)], [torch.empty(0, device=base.device).bool()]
    step = _chunk(base.head)
    for at in range(0, len(states), step):
        labels = packed.labels[at : at + step]
        logits = head_logits(base, states[at : at + step])
        correct.append(first_choice(logits) == labels)
        nll.append(token_nll(logits, labels))
    return torch.cat(nll), torch.cat(correct)


def _chunk(head: nn.Module) -> int:
    vocabulary = int(getattr(head, "out_features", 1 << 15))
    return max(1, CHUNK_ELEMENTS // vocabulary)
