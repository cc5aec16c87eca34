"""Tiny models of other kinds than the decoder's families, saved and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.config.schema import LocalSource, ModelConfig, Quantization
from harness.models.load import Base, load_base
from harness.models.locate import Located
from tests.support.tiny import byte_tokenizer

COMMON: dict[str, Any] = {
    "vocab_size": 258,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
FULL = {"intermediate_size": 128, "num_key_value_heads": 2}


def kind(name: str) -> Any:
    """A tiny model with random values."""
    import transformers as t

    torch.manual_seed(1)
    if name == "gpt2":
        size = {"vocab_size": 258, "n_embd": 64, "n_layer": 2, "n_head": 4}
        return t.GPT2LMHeadModel(t.GPT2Config(**size, bos_token_id=1, eos_token_id=0))
    if name == "gemma2":
        return t.Gemma2ForCausalLM(t.Gemma2Config(**COMMON, **FULL, head_dim=16))
    if name == "bloom":
        return t.BloomForCausalLM(
            t.BloomConfig(vocab_size=258, hidden_size=64, n_layer=2, n_head=4)
        )
    if name == "experts":
        more = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
        return t.Qwen3MoeForCausalLM(t.Qwen3MoeConfig(**COMMON, **FULL, head_dim=16, **more))
    if name == "convolution":
        layers = ["conv", "full_attention"]
        model = t.Lfm2ForCausalLM(t.Lfm2Config(**COMMON, **FULL, layer_types=layers))
    elif name == "linear attention":
        heads = {"linear_num_value_heads": 4, "linear_num_key_heads": 2}
        sizes = {"linear_key_head_dim": 16, "linear_value_head_dim": 16, "head_dim": 16}
        layers = ["linear_attention", "full_attention"]
        config = t.Qwen3_5TextConfig(**COMMON, **FULL, **heads, **sizes, layer_types=layers)
        model = t.Qwen3_5ForCausalLM(config)
    else:
        text = {**COMMON, "intermediate_size": 128, "num_key_value_heads": 1, "head_dim": 16}
        eyes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
        vision = {**eyes, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
        return t.Gemma3ForConditionalGeneration(
            t.Gemma3Config(
                text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=257
            )
        )
    with torch.no_grad():  # larger weights, so that what leaks is seen
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    return model


def saved(model: Any, folder: Path) -> Path:
    """The model with a tokenizer in `folder`."""
    model.save_pretrained(folder)
    byte_tokenizer(adds_bos=True).save_pretrained(folder)
    return folder


def load(folder: Path, quantization: Quantization = "none", say: Any = lambda line: None) -> Base:
    """What is in `folder`, in float32."""
    source = LocalSource(kind="local", path=str(folder))
    config = ModelConfig(name="m", parameters=1, source=source)
    return load_base(config, Located(str(folder), {}), quantization, "fp32", say)
