"""What is particular to a family of models: its linear class, its masks over packed rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


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
        if isinstance(module, nn.Linear) and module is not head
    ]


def expected_linears(config: Any) -> int:
    """How many linears a model of this configuration has, counted on one built without weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config)
    return len(linear_names(skeleton))


def can_pack(config: Any) -> bool:
    """Whether documents can share a row. Alibi biases (falcon-rw, bloom) know no restart."""
    return not getattr(config, "alibi", False) and config.model_type != "bloom"


def packed_mask(config: Any, documents: Tensor) -> Tensor | dict[str, Tensor]:
    """The attention mask that keeps each document of a packed row to itself.

    documents: [T] the document that each position belongs to, ascending.
    Returns a boolean mask [1, 1, T, T], true where a query (second last) may see a key, that is
    causal within a document; for models that mix full and sliding layers, one for each kind.
    """
    at = torch.arange(len(documents), device=documents.device)
    distance = at[:, None] - at[None, :]
    full = (documents[:, None] == documents[None, :]) & (distance >= 0)
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    sliding = full & (distance < window) if window else full
    if "sliding_attention" in kinds:
        return {"full_attention": full[None, None], "sliding_attention": sliding[None, None]}
    if kinds:
        return full[None, None]
    return sliding[None, None]
