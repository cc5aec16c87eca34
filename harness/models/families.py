"""What is particular to a family of models: its linear classes, its masks over packed rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

LINEARS = (nn.Linear, Conv1D)
"""The classes that are quantised and adapted; Conv1D is GPT-2's name for a transposed linear."""


def use_plain_linears() -> None:
    """Have falcon built of nn.Linear.

    transformers quantises modules whose type is exactly nn.Linear; falcon's own subclass
    (the same product, written out) is passed over in silence and stays in full precision.
    """
    from transformers.models.falcon import modeling_falcon

    modeling_falcon.FalconLinear = nn.Linear


def linear_names(model: nn.Module) -> list[str]:
    """Full names of the linear modules that an adapter may be put on: all but the output head."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, LINEARS) and module is not head
    ]


def linear_size(module: Any) -> int:
    """Weights of a linear; a quantised one holds them in another shape."""
    if isinstance(module, Conv1D):
        return int(module.weight.numel())
    return int(module.in_features) * int(module.out_features)


def skeleton(config: Any) -> nn.Module:
    """A model of this configuration without weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(config)
    return model


def expected_linears(config: Any) -> int:
    """How many linears a model of this configuration has, counted on one built without weights."""
    return len(linear_names(skeleton(config)))


def can_pack(config: Any) -> bool:
    """Whether documents can share a row, as `harness.models.packing` measured it at load."""
    return bool(getattr(config, "documents_share_rows", True))


def packed_mask(
    config: Any, documents: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor | dict[str, Tensor]:
    """The attention mask that keeps each document of a packed row to itself.

    documents: [T] the document that each position belongs to, ascending. dtype: of the model.
    Returns a boolean mask [1, 1, T, T], true where a query (second last) may see a key, that is
    causal within a document; for models that mix full and sliding layers, one for each kind.
    Attention written out in transformers ("eager") adds its mask: there it is 0 and a number so
    low that nothing is left.
    """
    at = torch.arange(len(documents), device=documents.device)
    distance = at[:, None] - at[None, :]
    full = (documents[:, None] == documents[None, :]) & (distance >= 0)
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    sliding = full & (distance < window) if window else full

    def shaped(mask: Tensor) -> Tensor:
        if getattr(config, "_attn_implementation", None) != "eager":
            return mask[None, None]
        added = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        return added.masked_fill(~mask, torch.finfo(dtype).min)[None, None]

    if "sliding_attention" in kinds:
        return {"full_attention": shaped(full), "sliding_attention": shaped(sliding)}
    return shaped(full if kinds else sliding)
