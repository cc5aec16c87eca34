"""How many of a model's weights are what the report says: quantised, and seen by the adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from harness.models.families import LINEARS, linear_names, linear_size

TOLERATED = 0.02
"""Share of a model's products that may stand outside of its linears: short convolutions do, experts
that are fused into one tensor do not fit in."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of a model, by where they stand.

    linears: in linear modules but the head; ends: embeddings and the head, tied ones once;
    others: matrices in no linear module, such as fused experts; rest: vectors, such as norms.
    largest: the name of the largest of `others`.
    """

    linears: int
    ends: int
    others: int
    rest: int
    largest: str

    @property
    def total(self) -> int:
        return self.linears + self.ends + self.others + self.rest

    @property
    def outside(self) -> float:
        """Share of the weights of products, embeddings and head apart, that no linear holds."""
        return self.others / max(1, self.linears + self.others)


def weights_of(model: nn.Module) -> Weights:
    """Count the weights of `model`, those of an adapter on it left out."""
    linears = set(linear_names(model))
    head = model.get_output_embeddings()  # type: ignore[operator]
    sizes = {"linears": 0, "ends": 0, "others": 0, "rest": 0}
    largest, most = "", 0
    seen: set[int] = set()
    for name, module in model.named_modules():
        if ".lora_" in f".{name}" or ".modules_to_save." in f".{name}.":
            continue
        for own, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            size = parameter.numel()
            if isinstance(module, nn.Embedding) or module is head:
                sizes["ends"] += size
            elif name in linears and own == "weight":
                sizes["linears"] += linear_size(module)
            elif parameter.dim() < 2 or isinstance(module, LINEARS):
                sizes["rest"] += size
            else:
                sizes["others"] += size
                if size > most:
                    largest, most = f"{name}.{own}", size
    return Weights(**sizes, largest=largest)


def adapted_weights(layers: dict[str, Any]) -> int:
    """Weights of the base's linears that peft's layers stand on."""
    return sum(linear_size(layer.get_base_layer()) for layer in layers.values() if _linear(layer))


def _linear(layer: Any) -> bool:
    return isinstance(layer.get_base_layer(), LINEARS)
