"""Whether documents can share a row of a loaded model: measured, not known from a list of names.

Attention is made block-diagonal by a mask. A layer that carries state along the row (a convolution,
linear attention, a state-space layer) heeds no mask, and sees the document before its own.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.models.families import packed_mask

if TYPE_CHECKING:
    from harness.models.load import Base

FAILS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)
"""What models raise that do not take what they are given."""

LENGTHS = (9, 9, 13)
"""Tokens of the documents tried: two of one length, of which either stands before the third."""


@torch.inference_mode()
def documents_share_rows(base: Base) -> bool:
    """Whether a document's hidden states are the same alone, and behind either of two others.

    Behind two documents of one length a masked product gives the same bits, whatever the type;
    alone and packed agree as far as the type goes. False, too, where the model takes no such mask.
    """
    size = base.model.get_input_embeddings().weight.shape[0]
    draw = random.Random(0)
    one, two, last = ([draw.randrange(size) for _ in range(n)] for n in LENGTHS)
    alone = _states(base, [last])
    try:
        behind_one, behind_two = (_states(base, [first, last])[len(one) :] for first in (one, two))
    except torch.OutOfMemoryError:
        raise  # which says nothing of the model
    except FAILS:
        return False
    leak, apart = tolerances(base)
    return difference(behind_one, behind_two) <= leak and difference(behind_one, alone) <= apart


def tolerances(base: Base) -> tuple[float, float]:
    """What two ways of one computation may differ by, relative to the values' mean size: of
    products of one shape, and of another shape. In 8 bits rows are quantised with one another."""
    if base.quantization == "int8":
        return 0.05, 0.05
    return (1e-4, 1e-3) if base.dtype == torch.float32 else (1e-3, 0.05)


def difference(a: Tensor, b: Tensor) -> float:
    """Mean difference over mean size of `b`; infinite where a value is not finite."""
    found = ((a.float() - b.float()).abs().mean() / b.float().abs().mean().clamp(min=1e-30)).item()
    return found if found == found else float("inf")


def _states(base: Base, documents: list[list[int]]) -> Tensor:
    """Final hidden states [T, D] of the documents in one row."""
    ids = [token for document in documents for token in document]
    positions = [at for document in documents for at in range(len(document))]
    owners = [index for index, document in enumerate(documents) for _ in document]
    mask = None
    if len(documents) > 1:
        of = torch.tensor(owners, device=base.device)
        mask = packed_mask(base.model.config, of, base.dtype)
    with base.autocast():
        states: Tensor = base.decoder(
            input_ids=torch.tensor([ids], device=base.device),
            position_ids=torch.tensor([positions], device=base.device),
            attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
    return states[0]
