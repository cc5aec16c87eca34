"""Where a model's weights are, and what the machine lacks for it. Imports no torch.

`missing` is asked before any work; `locate` gives the folder to load from
and the identity of the weights, which keys every stage that depends on them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.config.schema import GgufPackageSource, HubSource, LocalSource, ModelConfig
from harness.data.rows import one_line, shown
from harness.errors import MissingError
from harness.files import file_digest
from harness.hub import cached_snapshot, fetch, reachable, token
from harness.machine import has_gpu
from harness.paths import no_file, no_folder

CPU_PARAMETER_LIMIT = 2_000_000_000
"""Above this, training on a CPU takes days: weights so large need a GPU."""

CONVERTED_LAYOUT = 1
"""Raised when the conversion of embedded weights changes what it writes."""


@dataclass(frozen=True, slots=True)
class Located:
    """path: a local folder (or a script's file). identity: what tells these weights from others."""

    path: str
    identity: dict[str, str]


def cache_dir() -> Path:
    """The user's cache folder of this project: $HARNESS_CACHE or the system's usual place."""
    if given := os.environ.get("HARNESS_CACHE"):
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.cache"
    return Path(base).expanduser() / "harness"


def converted_folder(source: GgufPackageSource) -> Path:
    """Where the safetensors made from an embedded GGUF file are kept."""
    return cache_dir() / "models" / f"{source.package}-{source.sha256[:12]}-v{CONVERTED_LAYOUT}"


def missing(model: ModelConfig, weights: str | None) -> str | None:
    """What this machine lacks to use `model`, as one sentence, or None.

    `weights`: a local folder (for a scripted model a file) that stands in for the source.
    """
    source = model.source
    if source.kind == "scripted":
        path = weights or source.path
        fault = "no file of answers was given" if path is None else no_file(Path(path))
        if fault is None:
            return None
        what = fault if path is None else f"{shown(path)} {fault}"
        return f"model {model.name}: {what}; give one with --weights {model.name}=FILE.jsonl."
    lacks: list[str] = []
    mends: list[str] = []
    folder = weights or (source.path if isinstance(source, LocalSource) else None)
    if folder is not None:
        return _folder_fault(model.name, Path(folder).expanduser())
    if isinstance(source, GgufPackageSource):
        if not (converted_folder(source) / "config.json").exists():
            if importlib.util.find_spec(source.module) is None:
                lacks.append(f"the Python package {source.package}")
                mends.append(f"pip install {source.package}")
            elif fault := _disk_fault(cache_dir(), 4 * model.parameters):
                return f"model {model.name}: {fault}"
    elif isinstance(source, HubSource):
        _hub_needs(model, source, lacks, mends)
    if model.needs_gpu and not has_gpu():
        lacks.append("a CUDA GPU")
        mends.append("run on a machine that has one")
    if lacks:
        joined = " and ".join([", ".join(lacks[:-1]), lacks[-1]] if lacks[1:] else lacks)
        return f"model {model.name} needs {joined}, which this machine lacks; {', '.join(mends)}."
    return None


def _hub_needs(model: ModelConfig, source: HubSource, lacks: list[str], mends: list[str]) -> None:
    if cached_snapshot(source.repo, source.revision, "model") is not None:
        return
    local = f"give a local copy with --weights {model.name}=DIR"
    if not reachable():
        lacks.append(f"the weights of {source.repo} (not in the cache, and no hub within reach)")
        mends.append(local)
        return
    if source.gated and token() is None:
        lacks.append(f"a token for the gated repository {source.repo}")
        mends.append(
            f"accept the licence at https://huggingface.co/{source.repo} and set HF_TOKEN, "
            f"or {local}"
        )
        return
    if fault := _disk_fault(Path(os.environ.get("HF_HOME", "~/.cache")), 2 * model.parameters):
        lacks.append(f"disk for the download ({fault.rstrip('.')})")
        mends.append("free some, or set HF_HOME to a larger disk")


def _disk_fault(folder: Path, needed: int) -> str | None:
    place = folder.expanduser()
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        return f"{needed / 2**30:.1f} GiB are needed under {folder}, {free / 2**30:.1f} are free."
    return None


def _folder_fault(name: str, folder: Path) -> str | None:
    """Why a local folder of weights cannot be used, as one sentence, or None."""
    where = f"model {name}: {one_line(folder, 300)}"
    if fault := no_folder(folder):
        return f"{where} {fault}; --weights {name}=DIR wants a folder with config.json."
    fault = no_file(folder / "config.json")
    if fault not in (None, "does not exist"):
        return f"{where}/config.json {fault}; save the model there with save_pretrained."
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict) or "model_type" not in config:
            raise ValueError("no model_type")
    except FileNotFoundError:
        return f"{where} has no config.json; save the model there with save_pretrained."
    except (OSError, ValueError, RecursionError):
        return f"{where}/config.json is not a model's configuration; save the model there anew."
    tensors = sorted(folder.glob("*.safetensors"))
    if not tensors:
        return f"{where} has no *.safetensors (other formats are not loaded); save it as such."
    if not any((folder / f).exists() for f in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return f"{where} has no tokenizer; save the model's tokenizer in the same folder."
    size = sum(f.stat().st_size for f in tensors)
    if size > 2 * CPU_PARAMETER_LIMIT and not has_gpu():
        return f"{where} holds {size / 2**30:.1f} GiB of weights, which need a CUDA GPU."
    return None


def ensure(model: ModelConfig, weights: str | None, say: Callable[[str], None]) -> None:
    """Download a hub model's weights where they are neither given nor cached.

    Raises MissingError or StorageError.
    """
    source = model.source
    if weights is None and isinstance(source, HubSource):
        fetch(source.repo, source.revision, "model", f"--weights {model.name}=DIR", say)


def locate(model: ModelConfig, weights: str | None) -> Located:
    """Where to load `model` from, and the identity of its weights.

    Raises MissingError with the sentence of `missing` where something is lacking.
    Local weights are identified by the hash of their contents, a hub's by their commit (call
    `ensure` before, so that it is known).
    """
    if fault := missing(model, weights):
        raise MissingError(fault)
    source = model.source
    if source.kind == "scripted":
        path = weights or source.path
        assert path is not None  # `missing` saw to it
        return Located(path, {"answers": file_digest(Path(path))})
    folder = weights or (source.path if isinstance(source, LocalSource) else None)
    if folder is not None:
        root = Path(folder).expanduser()
        names = [
            f for f in sorted(root.iterdir()) if f.suffix in (".json", ".safetensors", ".model")
        ]
        return Located(str(root), {f.name: file_digest(f) for f in names if f.is_file()})
    if isinstance(source, GgufPackageSource):
        identity = {"gguf": source.sha256, "layout": str(CONVERTED_LAYOUT)}
        return Located(str(converted_folder(source)), identity)
    assert isinstance(source, HubSource)
    snapshot = cached_snapshot(source.repo, source.revision, "model")
    revision = snapshot.name if snapshot else source.revision
    return Located(str(snapshot or source.repo), {"repo": source.repo, "revision": revision})
