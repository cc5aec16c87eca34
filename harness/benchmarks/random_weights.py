"""A base of a registered model's true shape with random values, in 4 bits."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.errors import UsageError
from harness.models.device import pick_device, pick_dtype
from harness.models.families import linear_names, use_plain_linears
from harness.models.load import Base

SHAPES = Path(__file__).with_name("shapes.toml")
TINY = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 512}


def shape_of(name: str) -> dict[str, Any]:
    """The configuration's values of the model `name`. Raises UsageError where they are unknown."""
    shapes = tomllib.loads(SHAPES.read_text(encoding="utf-8"))
    if name not in shapes:
        raise UsageError(
            f"bench train knows no shape of {name}; give its weights with --weights {name}=DIR "
            f"or name one of {', '.join(shapes)}."
        )
    return dict(shapes[name])


def shaped(name: str, tiny: bool) -> Base:
    """The model `name` with values drawn from N(0, 0.02), linears in NF4 with double quantisation.

    tiny: two narrow layers instead, to try the benchmark anywhere. Raises UsageError where no
    shape is known.
    """
    values = shape_of(name)
    from transformers import AutoConfig, AutoModelForCausalLM

    use_plain_linears()
    kind = values.pop("model_type")
    if tiny:
        values |= {key: value for key, value in TINY.items() if key in values}
        values |= {"intermediate_size": 256} if "intermediate_size" in values else {}
        values |= {"num_key_value_heads": 4} if "num_key_value_heads" in values else {}
    config = AutoConfig.for_model(kind, **values, bos_token_id=1, eos_token_id=1, pad_token_id=2)
    config._attn_implementation = "sdpa"
    device = pick_device()
    dtype = pick_dtype("auto", device)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = AutoModelForCausalLM.from_config(config)
    finally:
        torch.set_default_dtype(before)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        if parameter.dim() > 1:
            parameter.normal_(0, 0.02)
    quantize(model, dtype)
    return Base(
        name=name,
        model=model.eval(),
        tokenizer=word_tokenizer(int(config.vocab_size)),
        device=device,
        dtype=dtype,
        quantization="nf4",
        context=2048,
        origin=name,
    )


def quantize(model: Any, dtype: torch.dtype) -> None:
    """Replace the linears of `model` (but its head) by NF4 ones of the same values."""
    import bitsandbytes as bnb

    for name in linear_names(model):
        linear = model.get_submodule(name)
        packed, state = bnb.functional.quantize_4bit(
            linear.weight.data, quant_type="nf4", compress_statistics=True
        )
        with torch.device("meta"):  # its own weights are never drawn
            new = bnb.nn.Linear4bit(
                linear.in_features,
                linear.out_features,
                bias=False,
                compute_dtype=dtype,
                quant_type="nf4",
            )
        new.weight = bnb.nn.Params4bit(
            packed,
            requires_grad=False,
            quant_state=state,
            quant_type="nf4",
            compress_statistics=True,
            bnb_quantized=True,
            module=new,
        )
        new.quant_state = state
        new.support_avx512bf16_for_cpu = False
        model.set_submodule(name, new)
        linear.weight = nn.Parameter(torch.empty(0), requires_grad=False)


def word_tokenizer(size: int) -> Any:
    """A tokenizer of `size` words between white space: <unknown>, <end>, <pad>, t3, t4, ..."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ("<unknown>", "<end>", "<pad>")
    names = [*special, *(f"t{i}" for i in range(len(special), size))]
    words = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token=special[0]))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token=special[0], eos_token=special[1], pad_token=special[2]
    )
