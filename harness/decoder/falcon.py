"""A layer of falcon-7b's kind: multi-query attention and MLP in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.decoder.attention import Attention
from harness.decoder.layer import Layer, LayerInputs, Stack, side_by_side, stacked
from harness.decoder.lora_linear import LoraGradients, LoraGroup
from harness.kernels import pointwise
from harness.kernels.pointwise import Norm
from harness.models.load import Base


@dataclass(slots=True)
class Activations:
    """What the backward pass of a layer needs; names as in `FalconLayer.forward`."""

    residual: Tensor
    x: Tensor
    y: Tensor
    attention: Attention
    z: Tensor


class FalconLayer(Layer):
    """Both halves read one norm and add to one residual, so that all four linears are two products:
    `into` queries, key, value and the MLP's inside, and `back` from there."""

    def __init__(self, module: Any, config: Any, dense: bool, dtype: torch.dtype, index: int):
        attn, mlp, norm = module.self_attention, module.mlp, module.input_layernorm
        self.norm = _layer_norm(norm)
        self.heads = config.num_attention_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        into = stacked([attn.query_key_value, mlp.dense_h_to_4h])
        back = side_by_side([attn.dense, mlp.dense_4h_to_h])
        self.into = LoraGroup(into, dense, dtype, 2 * index)
        self.back = LoraGroup(back, dense, dtype, 2 * index + 1)
        self.linears = [self.into, self.back]
        self.qkv = into[0].rows.stop
        self.spare, self.first = self.back.rank, index == 0

    def forward(
        self, residual: Tensor, delta: Tensor | None, inputs: LayerInputs
    ) -> tuple[Tensor, Tensor, Activations]:
        (tokens, width), seed, gate = residual.shape, inputs.dropout_seed, inputs.gate
        x = self.into.input(tokens)
        residual = pointwise.norm(residual, delta, self.norm, x[:, :width])
        y = self.into.forward(x, seed, gate)
        z = self.back.input(tokens)
        out = z[:, :width].view(tokens, self.heads, self.head_dim)
        q, k, v = self._split_heads(y)
        attention = inputs.attention[self.kind].attend(q, k, v, out)
        pointwise.gelu(y[:, self.qkv :], z[:, width : self.back.inputs])
        saved = Activations(residual, x, y, attention, z)
        return residual, self.back.forward(z, seed, gate), saved

    def backward(
        self, grad: Tensor, saved: Activations, inputs: LayerInputs, into: LoraGradients
    ) -> None:
        (tokens, width), seed = saved.residual.shape, inputs.dropout_seed
        g_back = grad[:, : width + self.back.rank]
        g_out, g_act = self.back.backward(g_back, saved.z, seed, into)
        gy = self.into.grad(tokens)
        g_out = g_out.view(tokens, self.heads, self.head_dim)
        saved.attention.backward(g_out, *self._split_heads(gy))
        pointwise.gelu_backward(g_act, saved.y[:, self.qkv :], gy[:, self.qkv : self.into.outputs])
        for gx in self.into.backward(gy, saved.x, seed, into, needs_input_grad=not self.first):
            pointwise.norm_backward(gx, saved.residual, self.norm, grad[:, :width])

    def _split_heads(self, y: Tensor) -> Sequence[Tensor]:
        """Queries [T, H, K], key and value [T, 1, K] of the first columns of `y`; views."""
        heads = y[:, : self.qkv].view(len(y), self.heads + 2, self.head_dim)
        return torch.split(heads, [self.heads, 1, 1], 1)


def _layer_norm(module: Any) -> Norm:
    return Norm(module.weight.data, module.bias.data, module.eps)


def stack(base: Base, dense: bool) -> Stack:
    """The decoder of a falcon."""
    model: Any = base.decoder
    layers = [
        FalconLayer(module, base.model.config, dense, base.dtype, index)
        for index, module in enumerate(model.h)
    ]
    like = model.word_embeddings.weight[:1, :1].float()[None]
    return Stack(
        layers=list(layers),
        embedding=model.word_embeddings,
        norm=_layer_norm(model.ln_f),
        head_dim=layers[0].head_dim,
        rope=lambda positions, kind: model.rotary_emb(like, positions),
        windows={"": None},
    )


def activations_per_token(config: Any) -> int:
    """Elements a token that a layer keeps for its backward pass, without LoRA's columns."""
    hidden, inner = config.hidden_size, config.ffn_hidden_size
    qkv = hidden + 2 * hidden // config.num_attention_heads
    return int(3 * hidden + qkv + 2 * inner)


def supported(config: Any) -> bool:
    """Whether the configuration is one that `FalconLayer` computes."""
    return (
        config.model_type == "falcon"
        and config.multi_query
        and config.parallel_attn
        and not config.new_decoder_architecture
        and not config.alibi
        and not config.bias
        and getattr(config, "activation", "gelu") == "gelu"
    )
