"""Tiny models of the three families with random weights, and a byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FAMILIES = ("falcon", "llama", "gemma3")


def byte_tokenizer(*, adds_bos: bool) -> Any:
    """One token a byte, plus <bos> and <eos>; `adds_bos` as llama and gemma do, falcon does not."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<eos>": 0, "<bos>": 1} | {c: i + 2 for i, c in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<eos>", "<bos>"])
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>" if adds_bos else None, eos_token="<eos>"
    )


def tiny_model(family: str, *, hidden: int = 64, layers: int = 2, seed: int = 0) -> Any:
    """A model of `family` with random weights over the 258 tokens of `byte_tokenizer`."""
    import torch
    from transformers import (
        FalconConfig,
        FalconForCausalLM,
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        LlamaConfig,
        LlamaForCausalLM,
    )

    torch.manual_seed(seed)
    common: dict[str, Any] = {
        "vocab_size": 258,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "bos_token_id": 1,
        "eos_token_id": 0,
        "max_position_embeddings": 1024,
    }
    if family == "falcon":
        return FalconForCausalLM(
            FalconConfig(
                **common, multi_query=True, parallel_attn=True, bias=False, alibi=False,
                new_decoder_architecture=False,
            )
        ).eval()  # fmt: skip
    common |= {"intermediate_size": 2 * hidden}
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**common, num_key_value_heads=2)).eval()
    return Gemma3ForCausalLM(
        Gemma3TextConfig(
            **common,
            num_key_value_heads=1,
            head_dim=16,
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention"] * (layers // 2),
            pad_token_id=0,
        )
    ).eval()


def save_tiny(folder: Path, family: str, **settings: Any) -> Path:
    """A tiny model with its tokenizer in `folder`, as `--weights MODEL=DIR` takes it."""
    tiny_model(family, **settings).save_pretrained(folder)
    byte_tokenizer(adds_bos=family != "falcon").save_pretrained(folder)
    return folder


def base_of(family: str, **settings: Any) -> Any:
    """A loaded `Base` in float32 on the CPU, made in memory."""
    import torch

    from harness.models.families import use_plain_linears
    from harness.models.load import Base

    use_plain_linears()
    model = tiny_model(family, **settings)
    model.requires_grad_(False)
    return Base(
        name=f"tiny-{family}",
        model=model,
        tokenizer=byte_tokenizer(adds_bos=family != "falcon"),
        device=torch.device("cpu"),
        dtype=torch.float32,
        quantization="none",
        context=1024,
        origin=f"tiny-{family}",
    )
