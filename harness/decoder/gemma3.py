"""The gemma 3 family: as llama's, with a norm before and after each half, QK norm, GeGLU, and
sliding-window attention in some layers."""

from __future__ import annotations

from typing import Any

from harness.decoder import gated
from harness.decoder.gated import GatedLayer, Norms
from harness.decoder.layer import Stack
from harness.kernels.pointwise import Norm
from harness.models.load import Base


def stack(base: Base, dense: bool) -> Stack:
    """The decoder of a gemma 3."""
    model: Any = base.decoder
    config = base.model.config
    layers = []
    for index, module in enumerate(model.layers):
        attn = module.self_attn
        # Scores are divided by the square root of a number that need not be the heads' size.
        factor = float((attn.head_dim / config.query_pre_attn_scalar) ** 0.5)
        norms = Norms(
            attn=_rms(module.input_layernorm),
            mlp=_rms(module.pre_feedforward_layernorm),
            post_attn=_rms(module.post_attention_layernorm),
            post_mlp=_rms(module.post_feedforward_layernorm),
            q=_rms(attn.q_norm, factor),
            k=_rms(attn.k_norm),
        )
        layer = GatedLayer(module, config, norms, dense, base.dtype, index, geglu=True)
        layer.kind = attn.layer_type
        layers.append(layer)
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


def _rms(module: Any, factor: float = 1.0) -> Norm:
    return Norm((1.0 + module.weight.data.float()) * factor, None, module.eps)


def activations_per_token(config: Any) -> int:
    """Elements a token that a layer keeps for its backward pass, without LoRA's columns."""
    return gated.activations_per_token(config, norms=True)


def supported(config: Any) -> bool:
    """Whether the configuration is one that `stack` computes."""
    return bool(
        config.model_type == "gemma3_text"
        and config.hidden_activation == "gelu_pytorch_tanh"
        and not config.attention_bias
        and not config.use_bidirectional_attention
        and config.attn_logit_softcapping is None
        and config.final_logit_softcapping is None
    )
