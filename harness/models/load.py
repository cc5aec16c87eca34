"""Load a base model: on which device, in which precision, quantised or not, and prove it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from harness.config.schema import GgufPackageSource, ModelConfig, Precision, Quantization
from harness.errors import AdapterError, MissingError, RunError
from harness.machine import cpu_has_bf16, keep_freed_memory
from harness.models.convert import ensure_converted
from harness.models.families import expected_linears, linear_names, use_plain_linears
from harness.models.locate import Located
from harness.models.quiet import quiet

_UNLOADABLE = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass
class Base:
    """A loaded base model.

    context: the most tokens it was made to attend over. origin: where it is from, for others: its
    repository on the hub, or else our name.
    """

    name: str
    model: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    quantization: Quantization
    context: int
    origin: str

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


def pick_device() -> torch.device:
    """The first CUDA device where torch can use one, else the CPU."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def pick_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type that products are computed in. "auto": bf16 where the hardware has it.

    float16 has no fast products on a CPU and needs loss scaling: there it is computed in float32,
    which holds every float16 value.
    """
    if precision == "auto":
        if device.type == "cuda":
            return (
                torch.bfloat16
                if torch.cuda.is_bf16_supported(including_emulation=False)
                else torch.float16
            )
        return torch.bfloat16 if cpu_has_bf16() else torch.float32
    if precision == "fp16" and device.type == "cpu":
        return torch.float32
    return DTYPES[precision]


def load_base(
    config: ModelConfig,
    located: Located,
    quantization: Quantization,
    precision: Precision,
    say: Any,
) -> Base:
    """Load tokenizer and weights of a registered model; quantise the linears where asked.

    Raises AdapterError when the count of quantised modules is not what the architecture has,
    and RunError or MissingError, one sentence each, when the files cannot be loaded.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = config.source
    path = located.path
    if isinstance(source, GgufPackageSource) and located.identity.get("gguf"):
        path = str(ensure_converted(source, say))
    common = {"local_files_only": True, "trust_remote_code": False}
    device = pick_device()
    dtype = pick_dtype(precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    use_plain_linears()
    with quiet():
        try:
            settings = AutoConfig.from_pretrained(path, **common)
            tokenizer = AutoTokenizer.from_pretrained(path, **common)
            model = AutoModelForCausalLM.from_pretrained(
                path,
                config=settings,
                dtype=dtype,
                quantization_config=_quantizer(quantization, dtype),
                device_map={"": device},
                attn_implementation="sdpa",
                use_safetensors=True,
                **common,
            )
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"{config.name} does not fit into the memory of {device}; "
                "use --quantization nf4 or a larger card."
            ) from error
        except _UNLOADABLE as error:
            first = " ".join(str(error).split())[:200]
            raise RunError(
                f"model {config.name} could not be loaded from {path} ({first}); "
                "check that folder or give another with --weights."
            ) from error
    if tokenizer.eos_token_id is None:
        raise MissingError(
            f"the tokenizer in {path} has no end-of-text token; set eos_token in its files."
        )
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise MissingError(
            f"the tokenizer in {path} has {len(tokenizer)} tokens but the model {rows} embeddings; "
            "save the tokenizer that belongs to the model."
        )
    model.requires_grad_(False)
    model.eval()
    for module in model.modules():
        # On some CPUs bitsandbytes repacks 4-bit weights at the first answer: for a kernel that
        # it fetches from the hub, and only where the rows are a multiple of 32 (else it crashes).
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    check_quantized(model, settings, quantization)
    return Base(
        name=config.name,
        model=model,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        quantization=quantization,
        context=int(getattr(settings, "max_position_embeddings", None) or 2048),
        origin=located.identity.get("repo", config.name),
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
    if quantization == "nf4":
        _check_rows(model)


def _check_rows(model: nn.Module) -> None:
    """Raise AdapterError where bitsandbytes would unpack other values than it packed.

    On a CPU it does so, without a word, where rows are no multiple of its blocks (0.50.2).
    """
    import bitsandbytes as bnb

    for name, module in model.named_modules():
        if not isinstance(module, bnb.nn.Linear4bit) or module.weight.device.type != "cpu":
            continue
        if module.in_features % 64:
            raise AdapterError(
                f"{name} has rows of {module.in_features} weights, which bitsandbytes unpacks "
                "wrongly on a CPU (no multiple of 64); run with --quantization none or int8."
            )


def _plain(config: Any) -> Any:
    """The configuration without its note of quantisation."""
    values = config.to_dict()
    values.pop("quantization_config", None)
    return type(config).from_dict(json.loads(json.dumps(values, default=str)))


def describe_base(base: Base) -> dict[str, Any]:
    """Facts of a loaded base for the manifest: which weights are scored, and how they are held."""
    return {
        "device": str(base.device),
        "dtype": str(base.dtype).removeprefix("torch."),
        "quantization": base.quantization,
        "quantized_linears": quantized_linears(base.model, base.quantization),
        "linears": len(linear_names(base.model)),
    }
