"""Load a base model: on which device, in which precision, quantised or not, and prove it."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from harness.config.schema import GgufPackageSource, ModelConfig, Precision, Quantization
from harness.data.tokens import Codec
from harness.errors import AdapterError, MissingError, RunError, UsageError
from harness.host.machine import keep_freed_memory
from harness.models.complete import check_complete
from harness.models.convert import ensure_converted
from harness.models.coverage import TOLERATED, weights_of
from harness.models.device import pick_device, pick_dtype
from harness.models.families import (
    can_pack,
    expected_linears,
    linear_names,
    skeleton,
    use_plain_linears,
)
from harness.models.locate import Located
from harness.models.packing import documents_share_rows
from harness.models.quiet import mute, quiet
from harness.models.sanity import CONTEXT

LOCAL = {"local_files_only": True, "trust_remote_code": False}


@dataclass
class Base:
    """A loaded base model.

    context: the most tokens it was made to attend over. origin: where others load it from: its
    repository on the hub, or else its folder. revision: the hub's commit. ends: ids that it
    declares to end an answer, beside the tokenizer's end-of-text. batches: whether prompts may be
    decoded together (`harness.inference.probe`).
    """

    name: str
    model: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    quantization: Quantization
    context: int
    origin: str
    revision: str | None = None
    ends: tuple[int, ...] = ()
    batches: bool = True

    def codec(self, template: str) -> Codec:
        """The tokenizer around a task's template, with what this model knows of it."""
        embeddings = self.model.get_input_embeddings().weight.shape[0]
        return Codec(self.tokenizer, template, self.ends, embeddings)

    @property
    def decoder(self) -> nn.Module:
        """The layers without the output head: ids [B, T] to hidden states [B, T, D]."""
        decoder: nn.Module = self.model.get_decoder()
        return decoder

    @property
    def head(self) -> nn.Module:
        """The output head: hidden states [N, D] to logits [N, V]."""
        head: nn.Module = self.model.get_output_embeddings()
        return head

    @property
    def head_weight(self) -> Tensor:
        """The head's matrix [V, D]."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight

    def autocast(self) -> torch.autocast:
        """Products in `dtype`, where that is not float32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def load_base(
    config: ModelConfig,
    located: Located,
    quantization: Quantization,
    precision: Precision,
    say: Any,
) -> Base:
    """Load tokenizer and weights of a registered model; quantise the linears where asked.

    Of a model of text and pictures it is the part for text. Raises AdapterError when the count of
    quantised modules is not what the architecture has, and RunError or MissingError, one sentence
    each, when the files cannot be loaded or do not fit one another.
    """
    from transformers import AutoConfig, AutoTokenizer

    source = config.source
    path = located.path
    if isinstance(source, GgufPackageSource) and located.identity.get("gguf"):
        path = str(ensure_converted(source, say))
    device = pick_device()
    dtype = pick_dtype(precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    use_plain_linears()
    with quiet():
        try:
            settings, mapping = text_config(AutoConfig.from_pretrained(path, **LOCAL))
            with mute():
                tokenizer = AutoTokenizer.from_pretrained(path, **LOCAL)
            tokenizer("<p>")  # settings of a wrong type fail here, not at the first row
            model, found = _model(
                path,
                config=settings,
                key_mapping=mapping,
                dtype=dtype,
                quantization_config=_quantizer(quantization, dtype),
                device_map={"": device},
            )
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"{config.name} does not fit into the memory of {device}; "
                "use --quantization nf4 or a larger card."
            ) from error
        except Exception as error:  # a file's values can be wrong in any way
            first = " ".join(str(error).split())[:200]
            raise RunError(
                f"model {config.name} could not be loaded from {path} ({first}); "
                "check that folder or give another with --weights."
            ) from error
    check_complete(config.name, path, model, found, part=mapping is not None)
    if tokenizer.eos_token_id is None:
        raise MissingError(
            f"the tokenizer in {path} has no end-of-text token; set eos_token in its files."
        )
    model.requires_grad_(False)
    model.eval()
    for module in model.modules():
        # On some CPUs bitsandbytes repacks 4-bit weights at the first answer: for a kernel that
        # it fetches from the hub, and only where the rows are a multiple of 32 (else it crashes).
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    check_quantized(model, settings, quantization)
    base = Base(
        name=config.name,
        model=model,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        quantization=quantization,
        context=context_of(settings),
        origin=located.identity.get("repo") or os.path.abspath(path),
        revision=located.identity.get("revision"),
        ends=declared_ends(model, tokenizer),
    )
    weights = weights_of(model)
    if weights.outside > TOLERATED:
        say(
            f"{config.name}: {weights.outside:.0%} of its weights stand in no linear layer (as "
            f"{weights.largest}); the adapter does not see them"
        )
    with quiet():
        model.config.documents_share_rows = documents_share_rows(base)
    if not model.config.documents_share_rows:
        say(f"{config.name}: each document has a row of its own: measured, a shared one changes it")
    return base


def architecture(name: str, path: str) -> nn.Module:
    """The model of the configuration in `path`, without weights. Raises UsageError."""
    from transformers import AutoConfig

    use_plain_linears()
    with quiet():
        try:
            return skeleton(text_config(AutoConfig.from_pretrained(path, **LOCAL))[0])
        except Exception as error:  # a configuration's values can be wrong in any way
            raise UsageError(
                f"model {name}: no model can be made from {path}/config.json "
                f"({' '.join(str(error).split())[:200]}); mend it, or take another model."
            ) from error


def text_config(config: Any) -> tuple[Any, dict[str, str] | None]:
    """The configuration of the part that reads text, and how its tensors' names become its own.

    Of a model for text it is `config` itself, and no name changes.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    part = config.get_text_config(decoder=True)
    if part is config or type(part) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return config, None
    return part, {r"^language_model\.": "", r"^model\.language_model\.": "model."}


def context_of(config: Any) -> int:
    """The most tokens that a model of `config` attends over, by any of the names for it."""
    return next((int(n) for name in CONTEXT if (n := getattr(config, name, None))), 2048)


def _model(path: str, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """The model and what its loading noted, with PyTorch's attention, or where its class has
    none with the one written out there."""
    from transformers import AutoModelForCausalLM

    settings |= {"use_safetensors": True, "output_loading_info": True, **LOCAL}
    try:
        loaded: tuple[Any, dict[str, Any]] = AutoModelForCausalLM.from_pretrained(
            path, attn_implementation="sdpa", **settings
        )
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        loaded = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager", **settings)
    return loaded


def declared_ends(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The ids that the model's generation settings declare to end an answer, beside the
    tokenizer's end-of-text."""
    declared = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = declared if isinstance(declared, list | tuple) else [declared]
    return tuple(
        sorted({i for i in ids if type(i) is int and i >= 0 and i != tokenizer.eos_token_id})
    )


def _quantizer(quantization: Quantization, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    if quantization == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    if quantization == "int8":
        # Its product says at every call that it computes in float16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    return None


def quantized_linears(model: nn.Module, quantization: Quantization) -> int:
    """How many linears of `model` really hold quantised weights of the kind named."""
    if quantization == "none":
        return 0
    import bitsandbytes as bnb

    kind = bnb.nn.Linear4bit if quantization == "nf4" else bnb.nn.Linear8bitLt
    stored = torch.uint8 if quantization == "nf4" else torch.int8
    return sum(
        isinstance(module, kind) and module.weight.dtype == stored for module in model.modules()
    )


def check_quantized(model: nn.Module, config: Any, quantization: Quantization) -> None:
    """Raise AdapterError unless every linear but the head is quantised, where that was asked.

    The number wanted is counted on a model of the same configuration built without weights.
    """
    if quantization == "none":
        return
    wanted = expected_linears(_plain(config))
    found = quantized_linears(model, quantization)
    if found != wanted:
        raise AdapterError(
            f"{found} of {wanted} linear layers are {quantization}, so the model is not what was "
            "asked for; run with --quantization none or use a supported family."
        )
    weights = weights_of(model)
    if weights.outside > TOLERATED:
        raise AdapterError(
            f"{weights.outside:.0%} of the weights stand in no linear layer (as {weights.largest}) "
            f"and cannot be held in {quantization}; run with --quantization none."
        )
    if quantization == "nf4":
        _check_rows(model)


def _check_rows(model: nn.Module) -> None:
    """Raise AdapterError where bitsandbytes unpacks other values than it packed.

    On some CPUs it does so, without a word, where rows are no multiple of its blocks (0.50.2):
    so a few such rows are packed and unpacked, and looked at.
    """
    import bitsandbytes as bnb

    for name, module in model.named_modules():
        if not isinstance(module, bnb.nn.Linear4bit) or module.weight.device.type != "cpu":
            continue
        if module.in_features % 64 and not unpacks(module.in_features):
            raise AdapterError(
                f"{name} has rows of {module.in_features} weights, which bitsandbytes unpacks "
                "wrongly on this CPU (no multiple of 64); run with --quantization none or int8."
            )


@cache
def unpacks(width: int) -> bool:
    """Whether rows of `width` weights come back from 4 bits near what they were.

    NF4's widest step is 0.3 of a block's largest value, so half of that is its largest error.
    """
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    rows = torch.randn(8, width, generator=torch.Generator().manual_seed(0))
    back = dequantize_4bit(*quantize_4bit(rows, quant_type="nf4"))
    return bool((back - rows).abs().max() <= 0.2 * rows.abs().max())


def _plain(config: Any) -> Any:
    """The configuration without its note of quantisation."""
    values = config.to_dict()
    values.pop("quantization_config", None)
    return type(config).from_dict(json.loads(json.dumps(values, default=str)))


def describe_base(base: Base) -> dict[str, Any]:
    """Facts of a loaded base for the manifest: which weights are scored, and how they are held."""
    weights = weights_of(base.model)
    quantized = weights.linears if base.quantization != "none" else 0
    return {
        "attention": base.model.config._attn_implementation,
        "context": base.context,
        "parameters": weights.total,
        "quantized_share": quantized / max(1, weights.total),
        "documents_share_rows": can_pack(base.model.config),
        "device": str(base.device),
        "dtype": str(base.dtype).removeprefix("torch."),
        "quantization": base.quantization,
        "quantized_linears": quantized_linears(base.model, base.quantization),
        "linears": len(linear_names(base.model)),
    }
