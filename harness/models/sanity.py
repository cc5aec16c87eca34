"""A model's folder read without torch: is its configuration one that a model can have, are the
files of its weights whole, and do they hold as many values as the registry says?

Only config.json and the headers of the safetensors files are read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.host.paths import no_file
from harness.host.text import one_line
from harness.model_folder import UnfitError, weight_files

TOLERANCE = 0.1  # of the registered parameters
UNTOLD = 1_000_000  # parameters more or less that change no plan of memory or quantisation

_MOST_HEADER = 100_000_000  # bytes; safetensors' own limit
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
"""What configurations call the number of tokens that a model attends over."""

_VOCABULARY = ("vocab_size",)
_SIZES = (
    *("hidden_size", "n_embd", "d_model", "intermediate_size", "n_inner", "ffn_hidden_size"),
    *("num_attention_heads", "n_head", "num_key_value_heads", "head_dim"),
)
_MOST = {
    **dict.fromkeys(_LAYERS, 1_000),
    **dict.fromkeys(CONTEXT, 2**31),
    **dict.fromkeys(_VOCABULARY, 50_000_000),
    **dict.fromkeys(_SIZES, 10_000_000),
}
_FLOATS = {"F64", "F32", "F16", "BF16"}
# Masks and tables that some checkpoints keep beside their parameters.
_BUFFERS = (".attn.bias", ".masked_bias", ".inv_freq", "rotary_emb.cos", "rotary_emb.sin")
_OTHER_PARTS = ("vision", "visual", "audio", "multi_modal_projector", "multimodal")
_HEADS = ("lm_head.weight", "embed_out.weight")


class _Damaged(Exception):
    """A file of weights that is not whole; the text says how, after the file's name."""


def fault(folder: Path, parameters: int | None) -> str | None:
    """Why the model in `folder` cannot be what it says, as one sentence; None where it may be.

    parameters: how many the registry says that it has; None where that is of other weights.
    """
    config = _config(folder)
    where = one_line(folder, 300)
    if found := _absurd(config):
        return f"{where}/config.json: {found}; mend it, or save the model there anew."
    try:
        least, most = _parameters(folder, config)
    except _Damaged as error:
        return f"{where}/{error}; copy or save the model there anew."
    except UnfitError as error:
        return f"{where} {error}"
    if parameters is None or not most or _quantised(config):
        return None
    off = max(least - parameters, parameters - most, 0)
    if off <= max(UNTOLD, TOLERANCE * most):
        return None
    return (
        f"the registry says {parameters:,} parameters, but the weights in {where} have {most:,}; "
        f"write parameters = {most} in the model's file."
    )


# --- config.json -----------------------------------------------------------------------------


def _config(folder: Path) -> dict[str, Any]:
    """The configuration, or {} where there is none to read: that is told elsewhere."""
    path = folder / "config.json"
    if no_file(path):
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _absurd(config: Mapping[str, Any], above: str = "") -> str | None:
    for key, most in _MOST.items():
        value = config.get(key)
        values = value if isinstance(value, list) else [value]
        for each in values:
            if each is None:
                continue
            if not isinstance(each, int) or isinstance(each, bool):
                return f"{above}{key} is {one_line(json.dumps(each), 40)}, not a whole number"
            if not 1 <= each <= most:
                shown = one_line(each, 40) if abs(each) < 10**30 else "beyond all measure"
                return f"{above}{key} is {shown}, and no model has fewer than 1 or over {most:,}"
    inner = config.get("text_config")
    return _absurd(inner, "text_config.") if isinstance(inner, dict) and not above else None


def _quantised(config: Mapping[str, Any]) -> bool:
    """Whether several parameters share a value of the file."""
    return "quantization_config" in config or "compression_config" in config


# --- safetensors -----------------------------------------------------------------------------


def _parameters(folder: Path, config: Mapping[str, Any]) -> tuple[int, int]:
    """The fewest and the most parameters that the files' headers can be counted as having.

    They differ by what some count and others do not: an output head that is the embedding again,
    and the parts of a model for pictures or sound. Raises _Damaged, UnfitError.
    """
    sizes: dict[str, int] = {}
    for path in (folder / name for name in weight_files(folder) if name.endswith(".safetensors")):
        for name, entry in _header(path).items():
            if entry["dtype"] in _FLOATS and not name.endswith(_BUFFERS):
                sizes[name] = math.prod(entry["shape"])
    extra = sum(
        size
        for name, size in sizes.items()
        if any(part in name for part in _OTHER_PARTS)
        or (name.endswith(_HEADS) and config.get("tie_word_embeddings", True))
    )
    most = sum(sizes.values())
    return most - extra, most


def _header(path: Path) -> dict[str, Any]:
    """What the header of a safetensors file says of each tensor. Raises _Damaged."""
    name = one_line(path.name, 100)
    if reason := no_file(path):
        raise _Damaged(f"{name} {reason}")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MOST_HEADER):
            raise _Damaged(f"{name} is no safetensors file, or its beginning is damaged")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        end = 0
        for entry in header.values():
            begin, stop = entry["data_offsets"]
            whole = all(type(n) is int and n >= 0 for n in (begin, stop, *entry["shape"]))
            if not whole or begin > stop or not isinstance(entry["dtype"], str):
                raise ValueError
            end = max(end, stop)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _Damaged(f"{name} is no safetensors file, or its header is damaged") from None
    if size != 8 + length + end:
        what = "cut off" if size < 8 + length + end else "longer than its header says"
        raise _Damaged(f"{name} is {what}: {size:,} bytes instead of {8 + length + end:,}")
    return dict(header)
