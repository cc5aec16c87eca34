"""A layer of the llama family: RMS norm, attention, RMS norm, SwiGLU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.decoder.attention import Attention, attend
from harness.decoder.gated import GatedLayer
from harness.decoder.layer import LayerInputs, Stack
from harness.decoder.lora_linear import LoraGradients
from harness.kernels import pointwise
from harness.kernels.pointwise import Norm
from harness.models.load import Base


@dataclass(slots=True)
class Activations:
    """What the backward pass of a layer needs; names as in `LlamaLayer.forward`."""

    residual: Tensor
    x: Tensor
    attention: Attention
    attn_out: Tensor
    residual2: Tensor
    x2: Tensor
    gate_up: Tensor
    act: Tensor


class LlamaLayer(GatedLayer):
    """A llama's layer."""

    def __init__(self, module: Any, config: Any, dense: bool, dtype: torch.dtype, index: int):
        super().__init__(module, config, dense, dtype, index)
        self.norm1 = _rms(module.input_layernorm)
        self.norm2 = _rms(module.post_attention_layernorm)
        self.spare = max(self.o.rank, self.down.rank)

    def forward(
        self, residual: Tensor, delta: Tensor | None, inputs: LayerInputs
    ) -> tuple[Tensor, Tensor, Activations]:
        (tokens, width), seed = residual.shape, inputs.dropout_seed
        x = self.qkv.input(tokens)
        residual = pointwise.norm(residual, delta, self.norm1, x[:, :width])
        q, k, v = self.split_heads(self.qkv.forward(x, seed))
        attn_out = self.o.input(tokens)
        out = attn_out[:, : self.o.inputs].view(tokens, self.heads, self.head_dim)
        attention = attend(q, k, v, inputs.attention[self.kind], out)
        delta = self.o.forward(attn_out, seed)
        x2 = self.gate_up.input(tokens)
        residual2 = pointwise.norm(residual, delta, self.norm2, x2[:, :width])
        gate_up = self.gate_up.forward(x2, seed)
        gate, up = gate_up.chunk(2, -1)
        act = self.down.input(tokens)
        pointwise.glu(gate, up, act[:, : self.down.inputs])
        delta = self.down.forward(act, seed)
        saved = Activations(residual, x, attention, attn_out, residual2, x2, gate_up, act)
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
        g_down = grad[:, : width + self.down.rank]
        (g_act,) = self.down.backward(g_down, saved.act, seed, into)
        g_gate_up = self.gate_up.grad(tokens)
        gate, up = saved.gate_up.chunk(2, -1)
        half = gate.shape[1]
        pointwise.glu_backward(g_act, gate, up, g_gate_up[:, :half], g_gate_up[:, half : 2 * half])
        (gx,) = self.gate_up.backward(g_gate_up, saved.x2, seed, into)
        del g_act, g_gate_up
        pointwise.norm_backward(gx, saved.residual2, self.norm2, grad[:, :width])
        (g_out,) = self.o.backward(grad[:, : width + self.o.rank], saved.attn_out, seed, into)
        g_qkv = self.qkv.grad(tokens)
        g_out = g_out.view(tokens, self.heads, self.head_dim)
        gq, gk, gv = self.split_heads(g_qkv[:, : self.qkv.outputs])
        saved.attention.backward(g_out, inputs.attention[self.kind], gq, gk, gv)
        for gx in self.qkv.backward(g_qkv, saved.x, seed, into, needs_input_grad=not first):
            pointwise.norm_backward(gx, saved.residual, self.norm1, grad[:, :width])


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
        head_dim=layers[0].head_dim,
        rope=lambda positions, kind: model.rotary_emb(like, positions),
        windows={"": None},
    )


def activations_per_token(config: Any) -> int:
    """Elements a token that a layer keeps for its backward pass, without LoRA's columns."""
    hidden, inner = config.hidden_size, config.intermediate_size
    head_dim = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    heads = config.num_attention_heads
    qkv = (heads + 2 * config.num_key_value_heads) * head_dim
    return int(4 * hidden + qkv + heads * head_dim + 3 * inner)


def supported(config: Any) -> bool:
    """Whether the configuration is one that `LlamaLayer` computes."""
    return (
        config.model_type == "llama"
        and config.hidden_act == "silu"
        and not config.attention_bias
        and not config.mlp_bias
    )
