"""A layer of attention, then a gated MLP: llama's, and with more norms gemma 3's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.decoder.attention import Attention
from harness.decoder.layer import Layer, LayerInputs, stacked
from harness.decoder.lora_linear import LoraGradients, LoraGroup, pitched
from harness.kernels import pointwise
from harness.kernels.pointwise import Norm


@dataclass(frozen=True, slots=True)
class Norms:
    """The norms of a layer.

    attn, mlp: before each half. post_attn, post_mlp: after it, before it is added to the residual
    stream. q, k: of each head (QK norm).
    """

    attn: Norm
    mlp: Norm
    post_attn: Norm | None = None
    post_mlp: Norm | None = None
    q: Norm | None = None
    k: Norm | None = None


@dataclass(slots=True)
class Activations:
    """What the backward pass of a layer needs; names as in `GatedLayer.forward`."""

    residual: Tensor
    x: Tensor
    q: Tensor
    k: Tensor
    attention: Attention
    attn_out: Tensor
    o: Tensor | None
    residual2: Tensor
    x2: Tensor
    gate_up: Tensor
    act: Tensor
    down: Tensor | None


class GatedLayer(Layer):
    """A layer with its linears in four groups, each of which reads one input.

    geglu: the MLP is GeGLU (gelu's tanh form), not SwiGLU.
    """

    def __init__(
        self,
        module: Any,
        config: Any,
        norms: Norms,
        dense: bool,
        dtype: torch.dtype,
        index: int,
        geglu: bool = False,
    ) -> None:
        attn, mlp = module.self_attn, module.mlp
        self.norms, self.geglu, self.first = norms, geglu, index == 0
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = attn.head_dim
        groups = [
            stacked([attn.q_proj, attn.k_proj, attn.v_proj]),
            stacked([attn.o_proj]),
            stacked([mlp.gate_proj, mlp.up_proj]),
            stacked([mlp.down_proj]),
        ]
        self.linears = [
            LoraGroup(linears, dense, dtype, 4 * index + i) for i, linears in enumerate(groups)
        ]
        self.qkv, self.o, self.gate_up, self.down = self.linears
        self.spare = max(self.o.rank, self.down.rank)

    def forward(
        self, residual: Tensor, delta: Tensor | None, inputs: LayerInputs
    ) -> tuple[Tensor, Tensor, Activations]:
        (tokens, width), norms = residual.shape, self.norms
        seed, adapted = inputs.dropout_seed, inputs.gate
        x = self.qkv.input(tokens)
        residual = pointwise.norm(residual, delta, norms.attn, x[:, :width])
        q, k, v = self._split_heads(self.qkv.forward(x, seed, adapted))
        attn_out = self.o.input(tokens)
        out = attn_out[:, : self.o.inputs].view(tokens, self.heads, self.head_dim)
        normed_q, normed_k = _normed(q, norms.q), _normed(k, norms.k)
        attention = inputs.attention[self.kind].attend(normed_q, normed_k, v, out)
        o = self.o.forward(attn_out, seed, adapted)
        x2 = self.gate_up.input(tokens)
        residual2 = pointwise.norm(residual, _normed(o, norms.post_attn), norms.mlp, x2[:, :width])
        gate_up = self.gate_up.forward(x2, seed, adapted)
        gate, up = gate_up.chunk(2, -1)
        act = self.down.input(tokens)
        pointwise.glu(gate, up, act[:, : self.down.inputs], self.geglu)
        down = self.down.forward(act, seed, adapted)
        saved = Activations(
            residual, x, q, k, attention, attn_out, None if norms.post_attn is None else o,
            residual2, x2, gate_up, act, None if norms.post_mlp is None else down,
        )  # fmt: skip
        return residual2, _normed(down, norms.post_mlp), saved

    def backward(
        self, grad: Tensor, saved: Activations, inputs: LayerInputs, into: LoraGradients
    ) -> None:
        (tokens, width), seed, norms = saved.residual.shape, inputs.dropout_seed, self.norms
        stream = grad[:, :width]
        g_down = _before_norm(grad, norms.post_mlp, saved.down, width, self.down.rank)
        (g_act,) = self.down.backward(g_down, saved.act, seed, into)
        g_gate_up = self.gate_up.grad(tokens)
        gate, up = saved.gate_up.chunk(2, -1)
        half = gate.shape[1]
        g_gate, g_up = g_gate_up[:, :half], g_gate_up[:, half : 2 * half]
        pointwise.glu_backward(g_act, gate, up, g_gate, g_up, self.geglu)
        (gx,) = self.gate_up.backward(g_gate_up, saved.x2, seed, into)
        del g_down, g_act, g_gate_up, g_gate, g_up
        pointwise.norm_backward(gx, saved.residual2, norms.mlp, stream)
        g_o = _before_norm(grad, norms.post_attn, saved.o, width, self.o.rank)
        (g_out,) = self.o.backward(g_o, saved.attn_out, seed, into)
        g_qkv = self.qkv.grad(tokens)
        gq, gk, gv = self._split_heads(g_qkv[:, : self.qkv.outputs])
        g_out = g_out.view(tokens, self.heads, self.head_dim)
        if norms.q is None or norms.k is None:
            saved.attention.backward(g_out, gq, gk, gv)
        else:
            normed_gq, normed_gk = gq.new_empty(gq.shape), gk.new_empty(gk.shape)
            saved.attention.backward(g_out, normed_gq, normed_gk, gv)
            pointwise.norm_backward(normed_gq, saved.q, norms.q, gq.zero_())
            pointwise.norm_backward(normed_gk, saved.k, norms.k, gk.zero_())
        for gx in self.qkv.backward(g_qkv, saved.x, seed, into, needs_input_grad=not self.first):
            pointwise.norm_backward(gx, saved.residual, norms.attn, stream)

    def _split_heads(self, qkv: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values [T, heads, K] of [T, (H + 2 G) K]; views."""
        heads = qkv.view(len(qkv), self.heads + 2 * self.kv_heads, self.head_dim)
        return torch.split(heads, [self.heads, self.kv_heads, self.kv_heads], 1)


def _normed(x: Tensor, norm: Norm | None) -> Tensor:
    if norm is None:
        return x
    out = x.new_empty(x.shape)
    pointwise.norm(x, None, norm, out)
    return out


def _before_norm(
    grad: Tensor, norm: Norm | None, x: Tensor | None, width: int, rank: int
) -> Tensor:
    """The gradient [T, width + rank] of x, where that of norm(x) is in the first `width` columns
    of `grad`; the last ones are room for LoRA's."""
    if norm is None or x is None:
        return grad[:, : width + rank]
    into = pitched(len(grad), width, rank, grad).zero_()
    pointwise.norm_backward(grad[:, :width], x, norm, into[:, :width])
    return into


def activations_per_token(config: Any, norms: bool) -> int:
    """Elements a token that a layer keeps for its backward pass, without LoRA's columns. norms:
    with QK norm and a norm after each half."""
    hidden, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or hidden // heads
    kv_heads = config.num_key_value_heads
    plain = 4 * hidden + (2 * heads + 2 * kv_heads) * head_dim + 3 * inner
    return int(plain + (2 * hidden + (2 * heads + kv_heads) * head_dim if norms else 0))
