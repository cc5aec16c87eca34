"""Which files of a model's folder are read when it is loaded, and why a folder cannot be used.

Weights are found as transformers finds them: the file that the configuration names, else
model.safetensors, else the shards of its index. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from harness.host.paths import read_bytes

READ_BESIDE_WEIGHTS = (
    "config.json",
    "config.*.json",  # the configurations of other versions that config.json may lead to
    "generation_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*.json",
    "*.jinja",
    "additional_chat_templates/*.jinja",
    "*vocab.json",
    "vocab*.json",
    "vocab*.txt",
    "vocab.bpe",
    "merges.txt",
    "*.model",
    "*.model.v[0-9]",
    "*.tiktoken",
    "*.spm",
    "*.codes",
    "*.tokenizer",
    "tekken.json",
    "dict.txt",
    "normalizer.json",
    "emoji.json",
    "byte_maps.json",
    "word_shape.json",
    "word_pronunciation.json",
)
"""Files that transformers reads for a configuration, a tokenizer of any class, its templates and
the defaults of generation: the names in its `vocab_files_names`. All else in a folder changes
nothing: README.md, other formats of the weights, what a training left behind."""

OTHER_FORMATS = ("*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.ckpt", "*.gguf", "*.onnx")
_TOKENIZERS = ("tokenizer.json", "*.model", "*.tiktoken", "tekken.json", "*vocab*", "*.tokenizer")
_INDEX = ".safetensors.index.json"


class UnfitError(Exception):
    """Why a folder cannot be loaded: the words that follow its name, with the mend.

    lacking: a file is missing that a whole download would have brought.
    """

    def __init__(self, words: str, lacking: bool = False) -> None:
        super().__init__(words)
        self.lacking = lacking


def weight_files(folder: Path) -> list[str]:
    """The names of the files that the weights are read from, an index with its shards.

    Raises UnfitError.
    """
    named = _config(folder).get("transformers_weights")
    if named is not None:
        if not isinstance(named, str) or not named.endswith((".safetensors", _INDEX)):
            raise _wrong("config.json", "transformers_weights", named, "a .safetensors file's name")
        _check_inside(named, "config.json")
        candidates = [named]
    else:
        candidates = ["model.safetensors", f"model{_INDEX}"]
    found = next((name for name in candidates if (folder / name).is_file()), None)
    if found is None:
        raise _no_weights(folder, candidates[0])
    if not found.endswith(_INDEX):
        return [found]
    shards = _object(folder, found, "save the model there anew").get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise _wrong(found, "weight_map", shards, "a table of tensors and their files")
    for name in shards.values():
        if not isinstance(name, str):
            raise _wrong(found, "weight_map", name, "the name of a file")
        _check_inside(name, found)
    names = sorted(set(shards.values()))
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise UnfitError(
            f"lacks {missing[0]}, which {found} names ({len(missing)} of {len(names)} files are "
            "missing); copy or download the model again.",
            lacking=True,
        )
    return [found, *names]


def read_files(folder: Path) -> list[str]:
    """The names of all files that loading the model and its tokenizer reads, sorted.

    Raises UnfitError, and OSError where the folder cannot be listed.
    """
    names = set(weight_files(folder))
    _check(_config(folder), "config.json")
    if (folder / "adapter_config.json").exists():
        raise UnfitError(
            "holds an adapter (adapter_config.json), which would be loaded into the base; "
            "merge it into the weights or move it to another folder."
        )
    for pattern in READ_BESIDE_WEIGHTS:
        names.update(
            f.relative_to(folder).as_posix()
            for f in (folder.glob(pattern) if "/" in pattern else folder.iterdir())
            if ("/" in pattern or fnmatchcase(f.name, pattern)) and f.is_file()
        )
    if not any(fnmatchcase(name, pattern) for name in names for pattern in _TOKENIZERS):
        raise UnfitError(
            "has no tokenizer; save the model's tokenizer in the same folder.", lacking=True
        )
    for name in ("generation_config.json", "tokenizer_config.json"):
        if name in names:
            _check(_object(folder, name, "save the model there anew"), name)
    return sorted(names)


def is_whole(folder: Path) -> bool:
    """Whether nothing is missing that a download would have brought; it may be unfit otherwise."""
    try:
        weight_files(folder)
    except UnfitError as fault:
        return not fault.lacking
    return True


def _config(folder: Path) -> dict[str, Any]:
    return _object(folder, "config.json", "save the model there with save_pretrained")


def _no_weights(folder: Path, wanted: str) -> UnfitError:
    others = sorted(
        f.name
        for f in folder.iterdir()
        if any(fnmatchcase(f.name, pattern) for pattern in OTHER_FORMATS)
    )
    weights = [name for name in others if name != "training_args.bin"]
    if weights:
        more = f" and {len(weights) - 1} more" if weights[1:] else ""
        return UnfitError(
            f"has only {weights[0]}{more}; other formats can hold code and are not loaded: "
            "convert the weights to safetensors.",
            lacking=True,
        )
    if any(folder.glob("*.safetensors")):
        return UnfitError(
            f"has *.safetensors but no {wanted} and no index of shards; "
            "save the model there with save_pretrained.",
            lacking=True,
        )
    return UnfitError(
        "has no *.safetensors (other formats are not loaded); save it as such.", lacking=True
    )


def _check_inside(name: str, source: str) -> None:
    if len(PurePosixPath(name).parts) != 1 or "\\" in name or name in ("", ".", ".."):
        raise UnfitError(
            f"has weights elsewhere ({source} names {name[:80]!r}); "
            "put all files of the model into the one folder."
        )


# --- values in JSON files ---------------------------------------------------------------------


def _is_whole_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_ids(value: Any) -> bool:
    return _is_whole_number(value) or (
        isinstance(value, list) and all(map(_is_whole_number, value))
    )


_NUMBER: tuple[Callable[[Any], bool], str] = (_is_whole_number, "a whole number")
_IDS: tuple[Callable[[Any], bool], str] = (_are_ids, "a token's id or a list of them")
_TEXT: tuple[Callable[[Any], bool], str] = (lambda value: isinstance(value, str), "text")
_TYPES = {
    "config.json": {
        "model_type": _TEXT,
        "vocab_size": _NUMBER,
        "max_position_embeddings": _NUMBER,
        "bos_token_id": _IDS,
        "eos_token_id": _IDS,
    },
    "generation_config.json": {"eos_token_id": _IDS},
    "tokenizer_config.json": {"tokenizer_class": _TEXT},
}
"""Values that we or the libraries compute with; null and absent are the libraries' to judge."""


def _object(folder: Path, name: str, mend: str) -> dict[str, Any]:
    try:
        value = json.loads(read_bytes(folder / name))
    except FileNotFoundError:
        raise UnfitError(f"has no {name}; {mend}.", lacking=True) from None
    except OSError as error:
        raise UnfitError(
            f"has a {name} that cannot be read ({error.strerror}); make it a readable file."
        ) from None
    except (ValueError, RecursionError):
        raise UnfitError(f"has a {name} that is not JSON; save the model there anew.") from None
    if not isinstance(value, dict):
        raise UnfitError(
            f"has a {name} that is {_kind(value)} and not an object; save the model there anew."
        )
    return value


def _check(values: dict[str, Any], name: str) -> None:
    if name == "config.json" and "model_type" not in values:
        raise UnfitError("has a config.json without model_type; save the model there anew.")
    for key, (fits, what) in _TYPES[name].items():
        if values.get(key) is not None and not fits(values[key]):
            raise _wrong(name, key, values[key], what)


def _wrong(name: str, key: str, value: Any, wanted: str) -> UnfitError:
    return UnfitError(f"has a {name} whose {key} is {_kind(value)} and not {wanted}; correct it.")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    if isinstance(value, dict | list) and not value:
        return f"an empty {'object' if isinstance(value, dict) else 'list'}"
    return "null" if value is None else names.get(type(value), "a number")
