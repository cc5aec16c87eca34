"""The llama family: RMS norm, attention, RMS norm, SwiGLU."""

from __future__ import annotations

from typing import Any

from torch import nn

from harness.decoder import gated
from harness.decoder.gated import GatedLayer, Norms
from harness.decoder.layer import Stack
from harness.kernels.pointwise import Norm
from harness.models.load import Base


def stack(base: Base, dense: bool) -> Stack:
    """The decoder of a llama."""
    model: Any = base.decoder
    layers = []
    for index, module in enumerate(model.layers):
        norms = Norms(_rms(module.input_layernorm), _rms(module.post_attention_layernorm))
        layers.append(GatedLayer(module, base.model.config, norms, dense, base.dtype, index))
    like = model.embed_tokens.weight[:1, :1].float()[None]
    return Stack(
        layers=list(layers),
        embedding=model.embed_tokens,
        norm=_rms(model.norm),
        head_dim=layers[0].head_dim,
        rope=lambda positions, kind: model.rotary_emb(like, positions),
        windows={"": None},
    )


def _rms(module: nn.Module) -> Norm:
    return Norm(module.weight.data, None, module.variance_epsilon)  # type: ignore[arg-type]


def activations_per_token(config: Any) -> int:
    """Elements a token that a layer keeps for its backward pass, without LoRA's columns."""
    return gated.activations_per_token(config, norms=False)


def supported(config: Any) -> bool:
    """Whether the configuration is one that `stack` computes."""
    return (
        config.model_type == "llama"
        and config.hidden_act == "silu"
        and not config.attention_bias
        and not config.mlp_bias
    )
