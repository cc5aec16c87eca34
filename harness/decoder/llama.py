"""A layer of the llama family, written out: RMS norm, attention, RMS norm, gated feed-forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.decoder.attention import Attention, attend
from harness.decoder.gated import GatedLayer
from harness.decoder.layer import Row, Stack
from harness.decoder.lora_linear import Grads
from harness.kernels import pointwise
from harness.kernels.pointwise import Norm
from harness.models.load import Base


@dataclass(slots=True)
class Saved:
    """What the backward pass of a layer needs; names as in `LlamaLayer.forward`."""

    h: Tensor
    x: Tensor
    attention: Attention
    mixed: Tensor
    h2: Tensor
    x2: Tensor
    both: Tensor
    act: Tensor


class LlamaLayer(GatedLayer):
    """h + d -> (h2, d2): what enters is a sum of two, so that adding goes with the norm."""

    def __init__(self, module: Any, config: Any, dense: bool, dtype: torch.dtype, seed: int):
        super().__init__(module, config, dense, dtype, seed)
        self.norm1 = _rms(module.input_layernorm)
        self.norm2 = _rms(module.post_attention_layernorm)
        self.tail = max(self.o.rank, self.down.rank)

    def forward(self, h: Tensor, d: Tensor | None, row: Row) -> tuple[Tensor, Tensor, Saved]:
        (tokens, width), view = h.shape, row.views[self.kind]
        x = self.qkv.input(tokens)
        h = pointwise.norm(h, d, self.norm1, x[:, :width])
        q, k, v = self.split(self.qkv.forward(x, row.call))
        mixed = self.o.input(tokens)
        out = mixed[:, : self.o.inputs].view(tokens, self.heads, self.size)
        attention = attend(q, k, v, view, out)
        d = self.o.forward(mixed, row.call)
        x2 = self.gate_up.input(tokens)
        h2 = pointwise.norm(h, d, self.norm2, x2[:, :width])
        both = self.gate_up.forward(x2, row.call)
        gate, up = both.chunk(2, -1)
        act = self.down.input(tokens)
        pointwise.gated(gate, up, act[:, : self.down.inputs])
        d = self.down.forward(act, row.call)
        return h2, d, Saved(h, x, attention, mixed, h2, x2, both, act)

    def backward(self, gh: Tensor, saved: Saved, row: Row, into: Grads, first: bool) -> None:
        (tokens, width), view = saved.h.shape, row.views[self.kind]
        g = gh[:, : width + self.down.rank]
        (g_act,) = self.down.backward(g, saved.act, row.call, into)
        g_both = self.gate_up.grad(tokens)
        gate, up = saved.both.chunk(2, -1)
        half = gate.shape[1]
        pointwise.gated_backward(g_act, gate, up, g_both[:, :half], g_both[:, half : 2 * half])
        (gx,) = self.gate_up.backward(g_both, saved.x2, row.call, into)
        del g_act, g_both
        pointwise.norm_backward(gx, saved.h2, self.norm2, gh[:, :width])
        (g_mixed,) = self.o.backward(gh[:, : width + self.o.rank], saved.mixed, row.call, into)
        g_qkv = self.qkv.grad(tokens)
        g_mixed = g_mixed.view(tokens, self.heads, self.size)
        gq, gk, gv = self.split(g_qkv[:, : self.qkv.outputs])
        saved.attention.backward(g_mixed, view, gq, gk, gv)
        for gx in self.qkv.backward(g_qkv, saved.x, row.call, into, wanted=not first):
            pointwise.norm_backward(gx, saved.h, self.norm1, gh[:, :width])


def _rms(module: nn.Module) -> Norm:
    return Norm(module.weight.data, None, module.variance_epsilon)  # type: ignore[arg-type]


def stack(base: Base, dense: bool) -> Stack:
    """The decoder of a llama."""
    model: Any = base.decoder
    layers = [
        LlamaLayer(module, base.model.config, dense, base.dtype, index)
        for index, module in enumerate(model.layers)
    ]
    like = model.embed_tokens.weight[:1, :1].float()[None]
    return Stack(
        layers=list(layers),
        embedding=model.embed_tokens,
        norm=_rms(model.norm),
        size=layers[0].size,
        angles=lambda positions, kind: model.rotary_emb(like, positions),
        windows={"": None},
    )


def kept(config: Any) -> int:
    """Elements a token that a layer keeps for its backward pass, the adapter's columns apart."""
    hidden, inner = config.hidden_size, config.intermediate_size
    size = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    heads = config.num_attention_heads
    qkv = (heads + 2 * config.num_key_value_heads) * size
    return int(4 * hidden + qkv + heads * size + 3 * inner)


def supported(config: Any) -> bool:
    """Whether the configuration is one that `LlamaLayer` computes."""
    return (
        config.model_type == "llama"
        and config.hidden_act == "silu"
        and not config.attention_bias
        and not config.mlp_bias
    )
