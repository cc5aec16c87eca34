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

from harness.kernels import pointwise

PITCH = 128
"""Rows of what products read begin at multiples of this many elements: a GPU's loads are then
whole cache lines."""


def pitched(rows: int, columns: int, spare: int, like: Tensor) -> Tensor:
    """An empty tensor [rows, columns + spare] of the type of `like`, its rows PITCH elements or
    a multiple of that apart. A product may be taken with its first `columns` alone."""
    room = like.new_empty(rows, -(-(columns + spare) // PITCH) * PITCH)
    if room.device.type == "cpu":
        # oneDNN's products in half precision read beyond the columns that they are given, and
        # multiply what they find by zero: that must not be NaN.
        room[:, columns:] = 0
    return room[:, : columns + spare]


@dataclass(slots=True)
class LoraLinear:
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


def lora_linear(module: Any, row: int, column: int) -> LoraLinear:
    """A linear, wrapped by peft or not, at (row, column) of its group's W."""
    linear = getattr(module, "base_layer", module)
    rows = slice(row, row + linear.out_features)
    columns = slice(column, column + linear.in_features)
    if linear is module:
        return LoraLinear(linear, rows, columns, None, None, 0.0, 0.0)
    dropout = getattr(module.lora_dropout["default"], "p", 0.0)
    a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
    return LoraLinear(linear, rows, columns, a, b, module.scaling["default"], dropout)


FEW_ROWS = 256
"""Rows up to which a CPU's product is taken as (weight @ x.T).T."""


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T, [T, O] of x [T, I] and weight [O, I].

    A CPU's library copies its right operand into blocks first. For few rows that copy would be of
    the weights and cost as much as the product (1.5 times as fast at 64 rows, so that x is copied).
    """
    if x.device.type == "cpu" and len(x) <= FEW_ROWS and pointwise.kernels_for(x) is None:
        return torch.mm(weight, x.T).T  # rows that lie apart: our kernels take none
    return x @ weight.T


def is_nf4(linear: nn.Module) -> bool:
    """Whether the weight is held in 4 bits."""
    return hasattr(linear.weight, "quant_state")


def dense_weight(linear: Any) -> Tensor:
    """The weight [O, I] that products are taken with; 4-bit ones are dequantised."""
    if not is_nf4(linear):
        weight: Tensor = linear.weight.data
        return weight
    packed, state = linear.weight.data, linear.weight.quant_state
    fast = pointwise.kernels_for(packed)
    if fast is not None and state.dtype != torch.float32:
        out = torch.empty(state.shape, dtype=state.dtype, device=packed.device)
        fast.unpack_nf4(packed, state, out)
        return out
    from bitsandbytes.functional import dequantize_4bit

    unpacked: Tensor = dequantize_4bit(packed, state)
    return unpacked


class LoraGroup:
    """Linears as one product: they share their input (stacked) or add up (side by side).

    dense: hold W in full. Buffers that `forward` and `backward` take have `rank` columns more than
    the input (the output) has; they are filled here.
    """

    def __init__(
        self, linears: Sequence[LoraLinear], dense: bool, dtype: torch.dtype, seed: int
    ) -> None:
        self.linears = list(linears)
        self.seed = seed
        self.inputs = max(p.columns.stop for p in linears)
        self.outputs = max(p.rows.stop for p in linears)
        at = 0
        for p in self.linears:
            width = 0 if p.a is None else p.a.shape[0]
            p.ranks = slice(at, at + width)
            at += width
        self.rank = -(-at // 8) * 8  # rows stay aligned to 16 bytes
        self.dropout = max(p.dropout for p in linears)
        device = self.linears[0].linear.weight.device
        self.matrix: Tensor | None = None
        if dense:
            like = torch.empty(0, dtype=dtype, device=device)
            self.matrix = pitched(self.outputs + self.rank, self.inputs, self.rank, like).zero_()
            for p in self.linears:
                home = self.matrix[p.rows, p.columns]
                home.copy_(dense_weight(p.linear))
                if not is_nf4(p.linear):
                    p.linear.weight.data = home  # one copy of the weights, not two
            self.a = self.matrix[self.outputs :, : self.inputs]
            self.b = self.matrix[: self.outputs, self.inputs :]
        else:
            self.a = torch.zeros(self.rank, self.inputs, dtype=dtype, device=device)
            self.b = torch.zeros(self.outputs, self.rank, dtype=dtype, device=device)

    def views(self) -> list[tuple[nn.Parameter, Tensor, float]]:
        """Each trained parameter, where its value stands here, and the factor it stands with."""
        found: list[tuple[nn.Parameter, Tensor, float]] = []
        for p in self.linears:
            if p.a is not None and p.b is not None:
                found.append((p.a, self.a[p.ranks, p.columns], 1.0))
                found.append((p.b, self.b[p.rows, p.ranks], p.scaling))
        return found

    def input(self, tokens: int) -> Tensor:
        """An empty buffer [T, I + R] for `forward`."""
        return pitched(tokens, self.inputs, self.rank, self.a)

    def grad(self, tokens: int) -> Tensor:
        """An empty buffer [T, O + R] for `backward`."""
        return pitched(tokens, self.outputs, self.rank, self.a)

    def forward(self, x: Tensor, dropout_seed: int, gate: Tensor | None = None) -> Tensor:
        """y [T, O] of x [T, I + R], whose last R columns become x A'.

        dropout_seed, gate: as in `LayerInputs`.
        """
        inner, xa = x[:, : self.inputs], x[:, self.inputs :]
        if self.rank and (not self.dropout or dropout_seed < 0):
            torch.mm(inner, self.a.T, out=xa)
        elif self.rank:
            xa.zero_()
            for p in self.linears:
                if p.a is not None:
                    dropped = inner[:, p.columns] * self._mask(p, dropout_seed, len(x))
                    xa[:, p.ranks] = dropped @ self.a[p.ranks, p.columns].T
        if self.rank and gate is not None:
            xa.mul_(gate)
        if self.matrix is not None:
            return product(x, self.matrix[: self.outputs])
        y = x.new_empty(len(x), self.outputs)
        written: set[int] = set()
        for p in self.linears:
            weight = dense_weight(p.linear)
            if p.rows.start in written:
                y[:, p.rows].addmm_(inner[:, p.columns], weight.T)
            else:
                torch.mm(inner[:, p.columns], weight.T, out=y[:, p.rows])
            written.add(p.rows.start)
        return y.addmm_(xa, self.b.T) if self.rank else y

    def backward(
        self,
        g: Tensor,
        x: Tensor,
        dropout_seed: int,
        into: LoraGradients,
        needs_input_grad: bool = True,
    ) -> list[Tensor]:
        """The gradient of each block of the input's columns (one where the linears share their
        input, one a linear where they stand side by side), each [T, its columns].

        g: [T, O + R], whose last R columns become g (s B). x: as `forward` left it. The
        parameters' gradients go to `into`. needs_input_grad: False leaves the input's out.
        """
        outer, gb = g[:, : self.outputs], g[:, self.outputs :]
        inner = x[:, : self.inputs]
        if self.rank:
            torch.mm(outer, self.b, out=gb)
            into.add(
                self,
                self._grad_a(gb, inner, dropout_seed),
                matmul_fp32(outer.T, x[:, self.inputs :]),
            )
        if not needs_input_grad:
            return []
        found: dict[int, Tensor] = {}
        for p in self.linears:
            block = p.columns.start
            if self.matrix is None:
                weight = dense_weight(p.linear)
                if block in found:
                    found[block].addmm_(outer[:, p.rows], weight)
                else:
                    found[block] = outer[:, p.rows] @ weight
            elif block not in found:
                # In a product of its own, so that each block is in one piece.
                end = self.outputs if self.dropout else len(self.matrix)
                found[block] = g[:, :end] @ self.matrix[:end, p.columns]
        if self.rank and self.dropout:
            for p in self.linears:
                if p.a is not None:
                    term = gb[:, p.ranks] @ self.a[p.ranks, p.columns]
                    found[p.columns.start] += term * self._mask(p, dropout_seed, len(x))
        elif self.rank and self.matrix is None:
            for block, gx in found.items():
                gx.addmm_(gb, self.a[:, block : block + gx.shape[1]])
        return list(found.values())

    def _grad_a(self, gb: Tensor, inner: Tensor, dropout_seed: int) -> Tensor:
        if not self.dropout:
            return matmul_fp32(gb.T, inner)
        grad = torch.zeros_like(self.a, dtype=torch.float32)
        for p in self.linears:
            if p.a is not None:
                dropped = inner[:, p.columns] * self._mask(p, dropout_seed, len(inner))
                grad[p.ranks, p.columns] = matmul_fp32(gb[:, p.ranks].T, dropped)
        return grad

    def _mask(self, p: LoraLinear, dropout_seed: int, tokens: int) -> Tensor:
        """Dropout of one linear's input: 0 or 1 / (1 - p), drawn again whenever it is asked for."""
        device = self.a.device
        source = torch.Generator(device).manual_seed(hash((dropout_seed, self.seed, p.ranks.start)))
        shape = (tokens, p.columns.stop - p.columns.start)
        drawn = torch.rand(shape, generator=source, device=device, dtype=torch.float32)
        return (drawn >= p.dropout).to(self.a.dtype) / (1 - p.dropout)


class LoraGradients:
    """Gradients of the trained parameters, in float32: noted layer by layer, added once a row."""

    def __init__(self) -> None:
        self._a: list[tuple[nn.Parameter, Tensor]] = []
        self._b: list[tuple[nn.Parameter, Tensor]] = []
        self._factors: list[float] = []

    def add(self, group: LoraGroup, a: Tensor, b: Tensor) -> None:
        """Note a [R, I] and b [O, R], the gradients with respect to A and s B; float32."""
        for p in group.linears:
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


def matmul_fp32(x: Tensor, y: Tensor) -> Tensor:
    """x @ y in float32, from operands of less precision."""
    if x.device.type == "cuda" and x.dtype != torch.float32:
        return torch.mm(x, y, out_dtype=torch.float32)
    return torch.mm(x, y).float()
