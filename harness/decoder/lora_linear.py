"""Frozen products with their LoRA terms, several linears at a time.

With x [T, I] and the linears stacked to W [O, I], A [R, I] and s B [O, R] (zero where a linear has
no part), the result is y = x W' + (x A') (s B)'. Held as one matrix

    M = [[W, s B],    y  = [x, x A'] M[:O]'
         [A,  0 ]]    gx = [g, g (s B)] M[:, :I]

the LoRA term rides along the product's inner dimension, so y and gx are written once. That needs W
in full precision; where memory has no room for it, W is dequantised at each call and the term is
added to the product in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from harness.kernels.pointwise import kernels_for

PITCH = 128
"""Rows of what products read begin at multiples of this many elements: a GPU's loads are then
whole cache lines."""


def spaced(rows: int, inner: int, tail: int, like: Tensor) -> Tensor:
    """An empty tensor [rows, inner + tail] of the type of `like`, its rows PITCH elements or a
    multiple of that apart. A product may be taken with its `inner` first columns alone."""
    room = like.new_empty(rows, -(-(inner + tail) // PITCH) * PITCH)
    if room.device.type == "cpu":
        # oneDNN's products in half precision read beyond the columns that they are given, and
        # multiply what they find by zero: that must not be NaN.
        room[:, inner:] = 0
    return room[:, : inner + tail]


@dataclass(slots=True)
class Part:
    """One linear of a group: where it stands in W and, where it carries LoRA, its A and B.

    linear: the frozen module (dense, or 4-bit). a [r, in], b [out, r]: the trained parameters.
    """

    linear: Any
    rows: slice
    columns: slice
    a: nn.Parameter | None
    b: nn.Parameter | None
    scaling: float
    dropout: float
    ranks: slice = field(default_factory=lambda: slice(0, 0))


def part(module: Any, row: int, column: int) -> Part:
    """A linear, wrapped by peft or not, at (row, column) of its group's W."""
    linear = getattr(module, "base_layer", module)
    rows = slice(row, row + linear.out_features)
    columns = slice(column, column + linear.in_features)
    if linear is module:
        return Part(linear, rows, columns, None, None, 0.0, 0.0)
    dropout = getattr(module.lora_dropout["default"], "p", 0.0)
    a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
    return Part(linear, rows, columns, a, b, module.scaling["default"], dropout)


def is_packed(linear: nn.Module) -> bool:
    """Whether the weight is held in 4 bits."""
    return hasattr(linear.weight, "quant_state")


def dense_weight(linear: Any) -> Tensor:
    """The weight [O, I] that products are taken with; 4-bit ones are dequantised."""
    if not is_packed(linear):
        weight: Tensor = linear.weight.data
        return weight
    packed, state = linear.weight.data, linear.weight.quant_state
    fast = kernels_for(packed)
    if fast is not None and state.dtype != torch.float32:
        out = torch.empty(state.shape, dtype=state.dtype, device=packed.device)
        fast.unpack_nf4(packed, state, out)
        return out
    from bitsandbytes.functional import dequantize_4bit

    unpacked: Tensor = dequantize_4bit(packed, state)
    return unpacked


class Group:
    """Linears that share their input (parts below one another) or add up (side by side).

    dense: hold W in full. Buffers that `forward` and `backward` take have `rank` columns more than
    the input (the output) has; they are filled here.
    """

    def __init__(self, parts: Sequence[Part], dense: bool, dtype: torch.dtype, seed: int) -> None:
        self.parts = list(parts)
        self.seed = seed
        self.inputs = max(p.columns.stop for p in parts)
        self.outputs = max(p.rows.stop for p in parts)
        at = 0
        for p in self.parts:
            width = 0 if p.a is None else p.a.shape[0]
            p.ranks = slice(at, at + width)
            at += width
        self.rank = -(-at // 8) * 8  # rows stay aligned to 16 bytes
        self.dropout = max(p.dropout for p in parts)
        self.active = True
        device = self.parts[0].linear.weight.device
        self.matrix: Tensor | None = None
        if dense:
            like = torch.empty(0, dtype=dtype, device=device)
            self.matrix = spaced(self.outputs + self.rank, self.inputs, self.rank, like).zero_()
            for p in self.parts:
                home = self.matrix[p.rows, p.columns]
                home.copy_(dense_weight(p.linear))
                if not is_packed(p.linear):
                    p.linear.weight.data = home  # one copy of the weights, not two
            self.a = self.matrix[self.outputs :, : self.inputs]
            self.b = self.matrix[: self.outputs, self.inputs :]
        else:
            self.a = torch.zeros(self.rank, self.inputs, dtype=dtype, device=device)
            self.b = torch.zeros(self.outputs, self.rank, dtype=dtype, device=device)

    def places(self) -> list[tuple[nn.Parameter, Tensor, float]]:
        """Each trained parameter, where its value stands here, and the factor it stands with."""
        found: list[tuple[nn.Parameter, Tensor, float]] = []
        for p in self.parts:
            if p.a is not None and p.b is not None:
                found.append((p.a, self.a[p.ranks, p.columns], 1.0))
                found.append((p.b, self.b[p.rows, p.ranks], p.scaling))
        return found

    def input(self, tokens: int) -> Tensor:
        """An empty buffer [T, I + R] for `forward`."""
        return spaced(tokens, self.inputs, self.rank, self.a)

    def grad(self, tokens: int) -> Tensor:
        """An empty buffer [T, O + R] for `backward`."""
        return spaced(tokens, self.outputs, self.rank, self.a)

    def forward(self, x: Tensor, call: int) -> Tensor:
        """y [T, O] of x [T, I + R], whose last R columns become x A'.

        call: what the dropout's randomness is drawn from, the same in `backward`; none if negative.
        """
        inner, tail = x[:, : self.inputs], x[:, self.inputs :]
        if not self.active:
            tail.zero_()
        elif self.rank and (not self.dropout or call < 0):
            torch.mm(inner, self.a.T, out=tail)
        elif self.rank:
            tail.zero_()
            for p in self.parts:
                if p.a is not None:
                    kept = inner[:, p.columns] * self._mask(p, call, len(x))
                    tail[:, p.ranks] = kept @ self.a[p.ranks, p.columns].T
        if self.matrix is not None:
            return x @ self.matrix[: self.outputs].T
        y = x.new_empty(len(x), self.outputs)
        written: set[int] = set()
        for p in self.parts:
            weight = dense_weight(p.linear)
            if p.rows.start in written:
                y[:, p.rows].addmm_(inner[:, p.columns], weight.T)
            else:
                torch.mm(inner[:, p.columns], weight.T, out=y[:, p.rows])
            written.add(p.rows.start)
        return y.addmm_(tail, self.b.T) if self.rank else y

    def backward(
        self, g: Tensor, x: Tensor, call: int, into: Grads, wanted: bool = True
    ) -> list[Tensor]:
        """The gradient of each block of the input's columns (one where the linears share their
        input, one a linear where they stand side by side), each [T, its columns].

        g: [T, O + R], whose last R columns become g (s B). x: as `forward` left it. The
        parameters' gradients go to `into`. wanted: False leaves the input's out.
        """
        outer, tail = g[:, : self.outputs], g[:, self.outputs :]
        inner = x[:, : self.inputs]
        if self.rank:
            torch.mm(outer, self.b, out=tail)
            into.add(self, self._grad_a(tail, inner, call), product(outer.T, x[:, self.inputs :]))
        if not wanted:
            return []
        found: dict[int, Tensor] = {}
        for p in self.parts:
            home = p.columns.start
            if self.matrix is None:
                weight = dense_weight(p.linear)
                if home in found:
                    found[home].addmm_(outer[:, p.rows], weight)
                else:
                    found[home] = outer[:, p.rows] @ weight
            elif home not in found:
                # In a product of its own, so that each block is in one piece.
                end = self.outputs if self.dropout else len(self.matrix)
                found[home] = g[:, :end] @ self.matrix[:end, p.columns]
        if self.rank and self.dropout:
            for p in self.parts:
                if p.a is not None:
                    term = tail[:, p.ranks] @ self.a[p.ranks, p.columns]
                    found[p.columns.start] += term * self._mask(p, call, len(x))
        elif self.rank and self.matrix is None:
            for home, gx in found.items():
                gx.addmm_(tail, self.a[:, home : home + gx.shape[1]])
        return list(found.values())

    def _grad_a(self, tail: Tensor, inner: Tensor, call: int) -> Tensor:
        if not self.dropout:
            return product(tail.T, inner)
        grad = torch.zeros_like(self.a, dtype=torch.float32)
        for p in self.parts:
            if p.a is not None:
                kept = inner[:, p.columns] * self._mask(p, call, len(inner))
                grad[p.ranks, p.columns] = product(tail[:, p.ranks].T, kept)
        return grad

    def _mask(self, p: Part, call: int, tokens: int) -> Tensor:
        """Dropout of one linear's input: 0 or 1 / (1 - p), drawn again whenever it is asked for."""
        device = self.a.device
        source = torch.Generator(device).manual_seed(hash((call, self.seed, p.ranks.start)))
        shape = (tokens, p.columns.stop - p.columns.start)
        drawn = torch.rand(shape, generator=source, device=device, dtype=torch.float32)
        return (drawn >= p.dropout).to(self.a.dtype) / (1 - p.dropout)


class Grads:
    """Gradients of the trained parameters, in float32: noted layer by layer, added once a row."""

    def __init__(self) -> None:
        self._a: list[tuple[nn.Parameter, Tensor]] = []
        self._b: list[tuple[nn.Parameter, Tensor]] = []
        self._factors: list[float] = []

    def add(self, group: Group, a: Tensor, b: Tensor) -> None:
        """Note a [R, I] and b [O, R], the gradients with respect to A and s B; float32."""
        for p in group.parts:
            if p.a is not None and p.b is not None:
                self._a.append((p.a, a[p.ranks, p.columns]))
                self._b.append((p.b, b[p.rows, p.ranks]))
                self._factors.append(p.scaling)

    def flush(self) -> None:
        """Add what was noted to the parameters' .grad."""
        if self._b:
            factors = list(self._factors)
            scaled = torch._foreach_mul([term for _, term in self._b], factors)
            pairs = [*self._a, *zip([p for p, _ in self._b], scaled, strict=True)]
            fresh = [(p, term) for p, term in pairs if p.grad is None]
            older = [(p, term) for p, term in pairs if p.grad is not None]
            for p, term in fresh:
                p.grad = term.contiguous()
            if older:
                sums: list[Any] = [p.grad for p, _ in older]
                torch._foreach_add_(sums, [term for _, term in older])
        self._a, self._b, self._factors = [], [], []


def product(x: Tensor, y: Tensor) -> Tensor:
    """x @ y in float32, from operands of less precision."""
    if x.device.type == "cuda" and x.dtype != torch.float32:
        return torch.mm(x, y, out_dtype=torch.float32)
    return torch.mm(x, y).float()
