"""A layer of the gemma 3 family, written out: as llama's, with a norm before and after each half,
norms of queries and keys, and attention over a window in some layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.decoder.attention import Attention, attend
from harness.decoder.gated import GatedLayer
from harness.decoder.layer import Row, Stack
from harness.decoder.lora_linear import Grads, spaced
from harness.kernels import pointwise
from harness.kernels.pointwise import Norm
from harness.models.load import Base


@dataclass(slots=True)
class Saved:
    """What the backward pass of a layer needs; names as in `GemmaLayer.forward`."""

    h: Tensor
    x: Tensor
    raw_q: Tensor
    raw_k: Tensor
    attention: Attention
    mixed: Tensor
    a: Tensor
    h2: Tensor
    x2: Tensor
    both: Tensor
    act: Tensor
    f: Tensor


class GemmaLayer(GatedLayer):
    """h + d -> (h2, d2): what enters is a sum of two, so that adding goes with the norm."""

    def __init__(self, module: Any, config: Any, dense: bool, dtype: torch.dtype, seed: int):
        super().__init__(module, config, dense, dtype, seed)
        own = module.self_attn
        self.kind = own.layer_type
        self.norms = [
            _rms(each)
            for each in (
                module.input_layernorm,
                module.post_attention_layernorm,
                module.pre_feedforward_layernorm,
                module.post_feedforward_layernorm,
            )
        ]
        # Scores are divided by the square root of a number that need not be the heads' size.
        factor = float((own.head_dim / config.query_pre_attn_scalar) ** 0.5)
        self.q_norm, self.k_norm = _rms(own.q_norm, factor), _rms(own.k_norm)

    def forward(self, h: Tensor, d: Tensor | None, row: Row) -> tuple[Tensor, Tensor, Saved]:
        (tokens, width), view = h.shape, row.views[self.kind]
        before, after, before2, after2 = self.norms
        x = self.qkv.input(tokens)
        h = pointwise.norm(h, d, before, x[:, :width])
        raw_q, raw_k, v = self.split(self.qkv.forward(x, row.call))
        q, k = raw_q.new_empty(raw_q.shape), raw_k.new_empty(raw_k.shape)
        pointwise.norm(raw_q, None, self.q_norm, q)
        pointwise.norm(raw_k, None, self.k_norm, k)
        mixed = self.o.input(tokens)
        out = mixed[:, : self.o.inputs].view(tokens, self.heads, self.size)
        attention = attend(q, k, v, view, out)
        a = self.o.forward(mixed, row.call)
        d = torch.empty_like(a)
        pointwise.norm(a, None, after, d)
        x2 = self.gate_up.input(tokens)
        h2 = pointwise.norm(h, d, before2, x2[:, :width])
        both = self.gate_up.forward(x2, row.call)
        gate, up = both.chunk(2, -1)
        act = self.down.input(tokens)
        pointwise.gated(gate, up, act[:, : self.down.inputs], tanh=True)
        f = self.down.forward(act, row.call)
        d2 = torch.empty_like(f)
        pointwise.norm(f, None, after2, d2)
        return h2, d2, Saved(h, x, raw_q, raw_k, attention, mixed, a, h2, x2, both, act, f)

    def backward(self, gh: Tensor, saved: Saved, row: Row, into: Grads, first: bool) -> None:
        (tokens, width), view = saved.h.shape, row.views[self.kind]
        before, after, before2, after2 = self.norms
        stream = gh[:, :width]
        g_f = spaced(tokens, width, self.down.rank, gh).zero_()
        pointwise.norm_backward(stream, saved.f, after2, g_f[:, :width])
        (g_act,) = self.down.backward(g_f, saved.act, row.call, into)
        g_both = self.gate_up.grad(tokens)
        gate, up = saved.both.chunk(2, -1)
        half = gate.shape[1]
        g_gate, g_up = g_both[:, :half], g_both[:, half : 2 * half]
        pointwise.gated_backward(g_act, gate, up, g_gate, g_up, tanh=True)
        (gx,) = self.gate_up.backward(g_both, saved.x2, row.call, into)
        del g_f, g_act, g_both
        pointwise.norm_backward(gx, saved.h2, before2, stream)
        g_a = spaced(tokens, width, self.o.rank, gh).zero_()
        pointwise.norm_backward(stream, saved.a, after, g_a[:, :width])
        (g_mixed,) = self.o.backward(g_a, saved.mixed, row.call, into)
        g_qkv = self.qkv.grad(tokens).zero_()
        g_raw_q, g_raw_k, gv = self.split(g_qkv[:, : self.qkv.outputs])
        gq, gk = g_raw_q.new_empty(g_raw_q.shape), g_raw_k.new_empty(g_raw_k.shape)
        g_mixed = g_mixed.view(tokens, self.heads, self.size)
        saved.attention.backward(g_mixed, view, gq, gk, gv)
        pointwise.norm_backward(gq, saved.raw_q, self.q_norm, g_raw_q)
        pointwise.norm_backward(gk, saved.raw_k, self.k_norm, g_raw_k)
        for gx in self.qkv.backward(g_qkv, saved.x, row.call, into, wanted=not first):
            pointwise.norm_backward(gx, saved.h, before, stream)


def _rms(module: Any, factor: float = 1.0) -> Norm:
    return Norm((1.0 + module.weight.data.float()) * factor, None, module.eps)


def stack(base: Base, dense: bool) -> Stack:
    """The decoder of a gemma 3."""
    model: Any = base.decoder
    config = base.model.config
    layers = [
        GemmaLayer(module, config, dense, base.dtype, index)
        for index, module in enumerate(model.layers)
    ]
    like = model.embed_tokens.weight[:1, :1].float()[None]
    windows = {"sliding_attention": config.sliding_window, "full_attention": None}
    return Stack(
        layers=list(layers),
        embedding=model.embed_tokens,
        norm=_rms(model.norm),
        size=layers[0].size,
        angles=lambda positions, kind: model.rotary_emb(like, positions, layer_type=kind),
        windows={layer.kind: windows[layer.kind] for layer in layers},
    )


def kept(config: Any) -> int:
    """Elements a token that a layer keeps for its backward pass, the adapter's columns apart."""
    hidden, inner, size = config.hidden_size, config.intermediate_size, config.head_dim
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    return int(6 * hidden + (4 * heads + 3 * groups) * size + 3 * inner)


def supported(config: Any) -> bool:
    """Whether the configuration is one that `GemmaLayer` computes."""
    return bool(
        config.model_type == "gemma3_text"
        and config.hidden_activation == "gelu_pytorch_tanh"
        and not config.attention_bias
        and not config.use_bidirectional_attention
        and config.attn_logit_softcapping is None
        and config.final_logit_softcapping is None
    )
