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
from harness.models.adapter import index_of

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
class LoraTerm:
    """An adapter's part on one linear: a [r, in], b [out, r], and where it stands among the ranks
    of the group. adapter: which, from 0 on (`Adapter.index`)."""

    a: nn.Parameter
    b: nn.Parameter
    scaling: float
    dropout: float
    adapter: int
    ranks: slice = field(default_factory=lambda: slice(0, 0))


@dataclass(slots=True)
class LoraLinear:
    """One linear of a group: where it stands in W, and the adapters' parts on it.

    linear: the frozen module (dense, or 4-bit).
    """

    linear: Any
    rows: slice
    columns: slice
    terms: list[LoraTerm]


def lora_linear(module: Any, row: int, column: int) -> LoraLinear:
    """A linear, wrapped by peft or not, at (row, column) of its group's W."""
    linear = getattr(module, "base_layer", module)
    rows = slice(row, row + linear.out_features)
    columns = slice(column, column + linear.in_features)
    names = [] if linear is module else sorted(module.lora_A, key=index_of)
    terms = [
        LoraTerm(
            module.lora_A[name].weight,
            module.lora_B[name].weight,
            module.scaling[name],
            getattr(module.lora_dropout[name], "p", 0.0),
            index_of(name),
        )
        for name in names
    ]
    return LoraLinear(linear, rows, columns, terms)


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

    Where several adapters are on them, each has as many of the ranks R, one adapter's after
    another's; a token's gate leaves it those of its own.

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
        terms = self.terms()
        self.adapters = max((t.adapter + 1 for _, t in terms), default=0)
        used = [0] * self.adapters
        for _, t in terms:
            t.ranks = slice(used[t.adapter], used[t.adapter] + len(t.a))
            used[t.adapter] += len(t.a)
        width = -(-max(used, default=0) // 8) * 8  # rows stay aligned to 16 bytes
        for _, t in terms:
            at = t.adapter * width
            t.ranks = slice(at + t.ranks.start, at + t.ranks.stop)
        self.rank = self.adapters * width
        self.dropout = max((t.dropout for _, t in terms), default=0.0)
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

    def terms(self) -> list[tuple[LoraLinear, LoraTerm]]:
        """Every adapter's part on every linear."""
        return [(p, t) for p in self.linears for t in p.terms]

    def views(self) -> list[tuple[nn.Parameter, Tensor, float]]:
        """Each trained parameter, where its value stands here, and the factor it stands with."""
        found: list[tuple[nn.Parameter, Tensor, float]] = []
        for p, t in self.terms():
            found.append((t.a, self.a[t.ranks, p.columns], 1.0))
            found.append((t.b, self.b[p.rows, t.ranks], t.scaling))
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
            for p, t in self.terms():
                dropped = inner[:, p.columns] * self._mask(p, t, dropout_seed, len(x))
                xa[:, t.ranks] = dropped @ self.a[t.ranks, p.columns].T
        if self.rank and gate is not None:
            xa.view(len(xa), self.adapters, -1).mul_(gate[:, : self.adapters, None])
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
            for p, t in self.terms():
                term = gb[:, t.ranks] @ self.a[t.ranks, p.columns]
                found[p.columns.start] += term * self._mask(p, t, dropout_seed, len(x))
        elif self.rank and self.matrix is None:
            for block, gx in found.items():
                gx.addmm_(gb, self.a[:, block : block + gx.shape[1]])
        return list(found.values())

    def _grad_a(self, gb: Tensor, inner: Tensor, dropout_seed: int) -> Tensor:
        if not self.dropout:
            return matmul_fp32(gb.T, inner)
        grad = torch.zeros_like(self.a, dtype=torch.float32)
        for p, t in self.terms():
            dropped = inner[:, p.columns] * self._mask(p, t, dropout_seed, len(inner))
            grad[t.ranks, p.columns] = matmul_fp32(gb[:, t.ranks].T, dropped)
        return grad

    def _mask(self, p: LoraLinear, t: LoraTerm, dropout_seed: int, tokens: int) -> Tensor:
        """Dropout of one linear's input: 0 or 1 / (1 - p), drawn again whenever it is asked for."""
        device = self.a.device
        source = torch.Generator(device).manual_seed(hash((dropout_seed, self.seed, t.ranks.start)))
        shape = (tokens, p.columns.stop - p.columns.start)
        drawn = torch.rand(shape, generator=source, device=device, dtype=torch.float32)
        return (drawn >= t.dropout).to(self.a.dtype) / (1 - t.dropout)


class LoraGradients:
    """Gradients of the trained parameters, in float32: noted layer by layer, added once a row."""

    def __init__(self) -> None:
        self._a: list[tuple[nn.Parameter, Tensor]] = []
        self._b: list[tuple[nn.Parameter, Tensor]] = []
        self._factors: list[float] = []

    def add(self, group: LoraGroup, a: Tensor, b: Tensor) -> None:
        """Note a [R, I] and b [O, R], the gradients with respect to A and s B; float32."""
        for p, t in group.terms():
            self._a.append((t.a, a[t.ranks, p.columns]))
            self._b.append((t.b, b[p.rows, t.ranks]))
            self._factors.append(t.scaling)

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
