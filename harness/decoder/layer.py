"""What the layers of all families have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.decoder.attention import Attends
from harness.decoder.lora_linear import LoraGradients, LoraGroup, LoraLinear, lora_linear
from harness.kernels.pointwise import Norm


@dataclass(frozen=True, slots=True)
class LayerInputs:
    """What every layer reads of a packed sequence beside the residual stream.

    attention: by the layers' kind. dropout_seed: what LoRA's dropout is drawn from, the same
    forward and backward; none is dropped where it is negative. gate: [T, adapters], 1 where a token
    sees an adapter and else 0, all of them for one that sees the bare base; None: all see the only
    adapter.
    """

    attention: Mapping[str, Attends]
    dropout_seed: int
    gate: Tensor | None = None


class Layer(ABC):
    """A decoder layer with its gradient.

    kind: of its attention. first: nothing before it is trained, so that `backward` leaves its
    input's gradient out. spare: columns that the gradient of the residual stream must have beside
    its width, for LoRA's.
    """

    kind = ""
    first: bool
    spare: int
    linears: list[LoraGroup]

    @abstractmethod
    def forward(
        self, residual: Tensor, delta: Tensor | None, inputs: LayerInputs
    ) -> tuple[Tensor, Tensor, Any]:
        """The residual stream [T, D] after this layer, and the activations for `backward`.

        It comes and goes as a sum of two, residual + delta, so that adding goes with the norm.
        """

    @abstractmethod
    def backward(self, grad: Tensor, saved: Any, inputs: LayerInputs, into: LoraGradients) -> None:
        """grad [T, D + spare]: the gradient of the residual stream after this layer becomes that
        before it."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A decoder as its parts.

    norm: after the last layer. rope: cos and sin [1, T, K] at positions [1, T], for a kind of
    attention. windows: tokens that the layers of a kind look back at most, or None.
    """

    layers: list[Layer]
    embedding: Any
    norm: Norm
    head_dim: int
    rope: Callable[[Tensor, str], tuple[Tensor, Tensor]]
    windows: dict[str, int | None]


def stacked(modules: Sequence[Any]) -> list[LoraLinear]:
    """Linears that read the same input, one below the other."""
    linears: list[LoraLinear] = []
    row = 0
    for module in modules:
        linears.append(lora_linear(module, row, 0))
        row = linears[-1].rows.stop
    return linears


def side_by_side(modules: Sequence[Any]) -> list[LoraLinear]:
    """Linears that add to the same output, side by side."""
    linears: list[LoraLinear] = []
    column = 0
    for module in modules:
        linears.append(lora_linear(module, 0, column))
        column = linears[-1].columns.stop
    return linears
