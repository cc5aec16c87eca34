"""What the layers of all families have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.decoder.attention import View
from harness.decoder.lora_linear import Grads, Group, Part, part
from harness.kernels.pointwise import Norm


@dataclass(frozen=True, slots=True)
class Row:
    """What every layer reads of a packed row. views: by the layers' kind. call: seed of this row's
    dropout."""

    views: dict[str, View]
    call: int


class Layer(ABC):
    """A decoder layer with its gradient.

    kind: which of a row's views it has. tail: columns that `gh` must have beside the width.
    """

    kind = ""
    tail = 0

    @property
    @abstractmethod
    def linears(self) -> list[Group]:
        """Its groups of linears."""

    @abstractmethod
    def forward(self, h: Tensor, d: Tensor | None, row: Row) -> tuple[Tensor, Tensor, Any]:
        """The residual stream h + d [T, D] after this layer, again as a sum of two, and what
        `backward` needs."""

    @abstractmethod
    def backward(self, gh: Tensor, saved: Any, row: Row, into: Grads, first: bool) -> None:
        """gh [T, D + tail]: the gradient of the stream after this layer becomes that before it.
        first: nothing before this layer is trained, so that its input's gradient is left out."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A decoder as its parts.

    norm: after the last layer. size: of a head, K. angles: cos and sin [1, T, K] at positions
    [1, T], for a kind.
    windows: tokens that the layers of a kind look back at most, or None.
    """

    layers: list[Layer]
    embedding: Any
    norm: Norm
    size: int
    angles: Callable[[Tensor, str], tuple[Tensor, Tensor]]
    windows: dict[str, int | None]


def stacked(modules: Sequence[Any]) -> list[Part]:
    """Linears that read the same input, one below the other."""
    parts: list[Part] = []
    row = 0
    for module in modules:
        parts.append(part(module, row, 0))
        row = parts[-1].rows.stop
    return parts


def side_by_side(modules: Sequence[Any]) -> list[Part]:
    """Linears that add to the same output, side by side."""
    parts: list[Part] = []
    column = 0
    for module in modules:
        parts.append(part(module, 0, column))
        column = parts[-1].columns.stop
    return parts
