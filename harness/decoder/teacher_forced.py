"""Teacher-forced scores of references: how likely each token is, and whether it comes first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.data.tokens import TokenSample
from harness.decoder.cross_entropy import token_nll
from harness.decoder.decoder import Decoder
from harness.decoder.packed import PackedSequence, pack_samples
from harness.models.head import Head, first_choice, head_logits
from harness.models.load import Base

CHUNK_ELEMENTS = {"cuda": 1 << 25, "cpu": 1 << 24}
"""Logits made at a time, by device, which are widened to float32: 128 MiB on a GPU."""


ROWS = 256
"""Hidden states that a CPU scores at a time."""


@torch.no_grad()
def token_scores(
    base: Base,
    samples: Sequence[TokenSample],
    decoder: Decoder | None = None,
    adapters: Sequence[int | None] | None = None,
) -> tuple[Tensor, Tensor]:
    """nll [N] in nats (float32) of the samples' scored tokens, and whether each was the model's
    first choice [N] (bool); the samples, one at least, are packed into one sequence.

    decoder: the fused layers (refreshed); None for transformers' own. adapters: which one each
    sample sees, for the fused layers (see `Decoder.states`); transformers' see what is switched on.
    """
    if decoder is not None:
        states, labels = decoder.states(samples, adapters)
    else:
        packed = pack_samples(samples, base.device)
        states, labels = hidden_states(base, packed), packed.labels
    head = Head(base)
    step = ROWS if head.blocked else -(-CHUNK_ELEMENTS[base.device.type] // len(base.head_weight))
    nll, correct = [], []
    for some, wanted in zip(states.split(step), labels.split(step), strict=True):  # type: ignore[no-untyped-call]
        if head.blocked:
            found = head.scores(some, wanted)
            nll.append(found[0])
            correct.append(found[1])
            continue
        logits = head_logits(base, some)
        correct.append(first_choice(logits) == wanted)
        nll.append(token_nll(logits, wanted))
    return torch.cat(nll), torch.cat(correct)


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
