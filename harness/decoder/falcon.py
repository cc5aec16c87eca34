"""A layer of falcon-7b's kind, written out: attention and feed-forward side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.decoder.attention import Attention, attend
from harness.decoder.layer import Layer, Row, Stack, side_by_side, stacked
from harness.decoder.lora_linear import Grads, Group
from harness.kernels import pointwise
from harness.kernels.pointwise import Norm
from harness.models.load import Base


@dataclass(slots=True)
class Saved:
    """What the backward pass of a layer needs; names as in `FalconLayer.forward`."""

    h: Tensor
    x: Tensor
    y: Tensor
    attention: Attention
    z: Tensor


class FalconLayer(Layer):
    """h + d -> (h, d2). Both halves read one norm and add to one residual, so that all four linears
    are two products: to queries, key, value and the feed-forward's inside; and back from there."""

    def __init__(self, module: Any, config: Any, dense: bool, dtype: torch.dtype, seed: int):
        own, mlp, norm = module.self_attention, module.mlp, module.input_layernorm
        self.norm = _layer_norm(norm)
        self.heads = config.num_attention_heads
        self.size = config.hidden_size // config.num_attention_heads
        into = stacked([own.query_key_value, mlp.dense_h_to_4h])
        back = side_by_side([own.dense, mlp.dense_4h_to_h])
        self.into = Group(into, dense, dtype, 2 * seed)
        self.back = Group(back, dense, dtype, 2 * seed + 1)
        self.qkv = into[0].rows.stop
        self.tail = self.back.rank

    @property
    def linears(self) -> list[Group]:
        return [self.into, self.back]

    def forward(self, h: Tensor, d: Tensor | None, row: Row) -> tuple[Tensor, Tensor, Saved]:
        (tokens, width), view = h.shape, row.views[self.kind]
        x = self.into.input(tokens)
        h = pointwise.norm(h, d, self.norm, x[:, :width])
        y = self.into.forward(x, row.call)
        heads = y[:, : self.qkv].view(tokens, self.heads + 2, self.size)
        z = self.back.input(tokens)
        out = z[:, :width].view(tokens, self.heads, self.size)
        q, k, v = torch.split(heads, [self.heads, 1, 1], 1)
        attention = attend(q, k, v, view, out)
        pointwise.gelu(y[:, self.qkv :], z[:, width : self.back.inputs])
        return h, self.back.forward(z, row.call), Saved(h, x, y, attention, z)

    def backward(self, gh: Tensor, saved: Saved, row: Row, into: Grads, first: bool) -> None:
        (tokens, width), view = saved.h.shape, row.views[self.kind]
        g = gh[:, : width + self.back.rank]
        g_mixed, g_inside = self.back.backward(g, saved.z, row.call, into)
        gy = self.into.grad(tokens)
        heads = gy[:, : self.qkv].view(tokens, self.heads + 2, self.size)
        g_mixed = g_mixed.view(tokens, self.heads, self.size)
        gq, gk, gv = torch.split(heads, [self.heads, 1, 1], 1)
        saved.attention.backward(g_mixed, view, gq, gk, gv)
        pointwise.gelu_backward(
            g_inside, saved.y[:, self.qkv :], gy[:, self.qkv : self.into.outputs]
        )
        for gx in self.into.backward(gy, saved.x, row.call, into, wanted=not first):
            pointwise.norm_backward(gx, saved.h, self.norm, gh[:, :width])


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
        size=layers[0].size,
        angles=lambda positions, kind: model.rotary_emb(like, positions),
        windows={"": None},
    )


def kept(config: Any) -> int:
    """Elements a token that a layer keeps for its backward pass, the adapter's columns apart."""
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
