"""A layer of the gemma 3 family: as llama's, with a norm before and after each half, QK norm,
GeGLU, and sliding-window attention in some layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.decoder.attention import Attention, attend
from harness.decoder.gated import GatedLayer
from harness.decoder.layer import LayerInputs, Stack
from harness.decoder.lora_linear import LoraGradients, pitched
from harness.kernels import pointwise
from harness.kernels.pointwise import Norm
from harness.models.load import Base


@dataclass(slots=True)
class Activations:
    """What the backward pass of a layer needs; names as in `GemmaLayer.forward`."""

    residual: Tensor
    x: Tensor
    raw_q: Tensor
    raw_k: Tensor
    attention: Attention
    attn_out: Tensor
    o: Tensor
    residual2: Tensor
    x2: Tensor
    gate_up: Tensor
    act: Tensor
    down: Tensor


class GemmaLayer(GatedLayer):
    """A gemma's layer."""

    def __init__(self, module: Any, config: Any, dense: bool, dtype: torch.dtype, index: int):
        super().__init__(module, config, dense, dtype, index)
        attn = module.self_attn
        self.kind = attn.layer_type
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
        factor = float((attn.head_dim / config.query_pre_attn_scalar) ** 0.5)
        self.q_norm, self.k_norm = _rms(attn.q_norm, factor), _rms(attn.k_norm)

    def forward(
        self, residual: Tensor, delta: Tensor | None, inputs: LayerInputs
    ) -> tuple[Tensor, Tensor, Activations]:
        (tokens, width), seed = residual.shape, inputs.dropout_seed
        norm1, post1, norm2, post2 = self.norms
        x = self.qkv.input(tokens)
        residual = pointwise.norm(residual, delta, norm1, x[:, :width])
        raw_q, raw_k, v = self.split_heads(self.qkv.forward(x, seed))
        q, k = raw_q.new_empty(raw_q.shape), raw_k.new_empty(raw_k.shape)
        pointwise.norm(raw_q, None, self.q_norm, q)
        pointwise.norm(raw_k, None, self.k_norm, k)
        attn_out = self.o.input(tokens)
        out = attn_out[:, : self.o.inputs].view(tokens, self.heads, self.head_dim)
        attention = attend(q, k, v, inputs.attention[self.kind], out)
        o = self.o.forward(attn_out, seed)
        delta = torch.empty_like(o)
        pointwise.norm(o, None, post1, delta)
        x2 = self.gate_up.input(tokens)
        residual2 = pointwise.norm(residual, delta, norm2, x2[:, :width])
        gate_up = self.gate_up.forward(x2, seed)
        gate, up = gate_up.chunk(2, -1)
        act = self.down.input(tokens)
        pointwise.glu(gate, up, act[:, : self.down.inputs], tanh=True)
        down = self.down.forward(act, seed)
        delta = torch.empty_like(down)
        pointwise.norm(down, None, post2, delta)
        saved = Activations(
            residual, x, raw_q, raw_k, attention, attn_out, o, residual2, x2, gate_up, act, down
        )
        return residual2, delta, saved

    def backward(
        self,
        grad: Tensor,
        saved: Activations,
        inputs: LayerInputs,
        into: LoraGradients,
        first: bool,
    ) -> None:
        (tokens, width), seed = saved.residual.shape, inputs.dropout_seed
        norm1, post1, norm2, post2 = self.norms
        stream = grad[:, :width]
        g_down = pitched(tokens, width, self.down.rank, grad).zero_()
        pointwise.norm_backward(stream, saved.down, post2, g_down[:, :width])
        (g_act,) = self.down.backward(g_down, saved.act, seed, into)
        g_gate_up = self.gate_up.grad(tokens)
        gate, up = saved.gate_up.chunk(2, -1)
        half = gate.shape[1]
        g_gate, g_up = g_gate_up[:, :half], g_gate_up[:, half : 2 * half]
        pointwise.glu_backward(g_act, gate, up, g_gate, g_up, tanh=True)
        (gx,) = self.gate_up.backward(g_gate_up, saved.x2, seed, into)
        del g_down, g_act, g_gate_up
        pointwise.norm_backward(gx, saved.residual2, norm2, stream)
        g_o = pitched(tokens, width, self.o.rank, grad).zero_()
        pointwise.norm_backward(stream, saved.o, post1, g_o[:, :width])
        (g_out,) = self.o.backward(g_o, saved.attn_out, seed, into)
        g_qkv = self.qkv.grad(tokens).zero_()
        g_raw_q, g_raw_k, gv = self.split_heads(g_qkv[:, : self.qkv.outputs])
        gq, gk = g_raw_q.new_empty(g_raw_q.shape), g_raw_k.new_empty(g_raw_k.shape)
        g_out = g_out.view(tokens, self.heads, self.head_dim)
        saved.attention.backward(g_out, inputs.attention[self.kind], gq, gk, gv)
        pointwise.norm_backward(gq, saved.raw_q, self.q_norm, g_raw_q)
        pointwise.norm_backward(gk, saved.raw_k, self.k_norm, g_raw_k)
        for gx in self.qkv.backward(g_qkv, saved.x, seed, into, needs_input_grad=not first):
            pointwise.norm_backward(gx, saved.residual, norm1, stream)


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
        head_dim=layers[0].head_dim,
        rope=lambda positions, kind: model.rotary_emb(like, positions, layer_type=kind),
        windows={layer.kind: windows[layer.kind] for layer in layers},
    )


def activations_per_token(config: Any) -> int:
    """Elements a token that a layer keeps for its backward pass, without LoRA's columns."""
    hidden, inner, head_dim = config.hidden_size, config.intermediate_size, config.head_dim
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    return int(6 * hidden + (4 * heads + 3 * kv_heads) * head_dim + 3 * inner)


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
