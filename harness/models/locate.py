"""Where a model's weights are, and what the machine lacks for it. Imports no torch.

`missing` is asked before any work; `locate` gives the folder to load from
and the identity of the weights, which keys every stage that depends on them.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.config.schema import (
    GgufPackageSource,
    HubSource,
    LocalSource,
    ModelConfig,
    PluginSource,
)
from harness.data.identity import text_digest
from harness.errors import MissingError
from harness.host.checksums import cached_seal
from harness.host.files import digest
from harness.host.machine import cache_dir, has_gpu, version_of
from harness.host.paths import no_file, no_folder
from harness.host.text import one_line, quoted
from harness.hub import (
    cache_folder,
    cached_snapshot,
    checked_snapshot,
    damaged,
    fetch,
    incomplete,
    reachable,
    token,
    unfit,
)
from harness.model_folder import UnfitError, read_files, weight_files
from harness.models.plugins import missing_backend, plugin_identity

CPU_PARAMETER_LIMIT = 2_000_000_000
"""Above this, training on a CPU takes days: weights so large need a GPU."""

CONVERTED_LAYOUT = 2
"""Raised when the conversion of embedded weights changes what it writes."""

CONVERTERS = ("gguf", "transformers", "torch", "safetensors", "tokenizers")
"""Libraries whose version decides what a conversion writes."""

CONVERTED_SEAL = "seal.json"
"""In the converted folder: what its files held when they were written."""


@dataclass(frozen=True, slots=True)
class Located:
    """path: a local folder (or a script's file). identity: what tells these weights from others."""

    path: str
    identity: dict[str, str]


def converted_folder(source: GgufPackageSource) -> Path:
    """Where the safetensors made from an embedded GGUF file by today's libraries are kept."""
    made_by = digest([[name, version_of(name)] for name in CONVERTERS])[:8]
    name = f"{source.package}-{source.sha256[:12]}-v{CONVERTED_LAYOUT}-{made_by}"
    return cache_dir() / "models" / name


def is_converted(source: GgufPackageSource) -> bool:
    """Whether the converted weights are there; whole or not is seen when they are loaded."""
    return (converted_folder(source) / CONVERTED_SEAL).is_file()


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
        what = fault if path is None else f"{quoted(path)} {fault}"
        return f"model {model.name}: {what}; give one with --weights {model.name}=FILE.jsonl."
    if isinstance(source, PluginSource):
        if weights is not None:
            return f"model {model.name} has no weights: leave out --weights {model.name}=…."
        fault = missing_backend(source)
        return None if fault is None else f"model {model.name}: {fault}"
    lacks: list[str] = []
    mends: list[str] = []
    folder = weights or (source.path if isinstance(source, LocalSource) else None)
    if folder is not None:
        return _folder_fault(model.name, Path(folder).expanduser())
    if isinstance(source, GgufPackageSource):
        if not is_converted(source):
            if importlib.util.find_spec(source.module) is None:
                lacks.append(f"the Python package {source.package}")
                mends.append(f"pip install {source.package}")
            elif fault := _disk_fault(cache_dir(), 4 * model.parameters):
                return f"model {model.name}: {fault}"
    elif isinstance(source, HubSource):
        if fault := _snapshot_fault(source):
            return f"model {model.name}: {fault}"
        _hub_needs(model, source, lacks, mends)
    if model.needs_gpu and not has_gpu():
        lacks.append("a CUDA GPU")
        mends.append("run on a machine that has one")
    if lacks:
        joined = " and ".join([", ".join(lacks[:-1]), lacks[-1]] if lacks[1:] else lacks)
        return f"model {model.name} needs {joined}, which this machine lacks; {', '.join(mends)}."
    return None


def _snapshot_fault(source: HubSource) -> str | None:
    """Why the snapshot that is in the cache cannot be used, where a download will not mend it."""
    snapshot = cached_snapshot(source.repo, source.revision, "model")
    if snapshot is None:  # nothing there, or a part, or other formats only
        return None if reachable() else incomplete(source.repo, source.revision)
    fault = unfit(source.repo, source.revision)
    # A damaged file makes a folder unfit too; `ensure` tells of that one, or mends it.
    return None if fault is None or damaged(snapshot, "model") else fault


def _hub_needs(model: ModelConfig, source: HubSource, lacks: list[str], mends: list[str]) -> None:
    if cached_snapshot(source.repo, source.revision, "model") is not None:
        return
    local = f"give a local copy with --weights {model.name}=DIR"
    if not reachable():
        where = f"not in the cache {cache_folder()}, and no hub within reach"
        lacks.append(f"the weights of {source.repo} ({where})")
        mends.append(local)
        return
    if source.gated and token() is None:
        lacks.append(f"a token for the gated repository {source.repo}")
        mends.append(
            f"accept the licence at https://huggingface.co/{source.repo} and set HF_TOKEN, "
            f"or {local}"
        )
        return
    if fault := _disk_fault(cache_folder(), 2 * model.parameters):
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
        read_files(folder)
        size = sum((folder / f).stat().st_size for f in weight_files(folder))
    except UnfitError as unfit_for:
        return f"{where} {unfit_for}"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or error
        return f"{where} cannot be read ({why}); make it readable or give another folder."
    if size > 2 * CPU_PARAMETER_LIMIT and not has_gpu():
        return f"{where} holds {size / 2**30:.1f} GiB of weights, which need a CUDA GPU."
    return None


def ensure(
    model: ModelConfig,
    weights: str | None,
    say: Callable[[str], None],
    *,
    verify: bool = False,
    dry: bool = False,
) -> None:
    """Have a hub model's weights where they are not given: downloaded if need be, and whole.

    verify: hash all files that are kept between commands, the converted weights too; what is
    damaged is made or fetched again. dry: say so and do nothing.
    Raises MissingError or StorageError.
    """
    source = model.source
    if weights is not None:
        return
    if isinstance(source, HubSource):
        option = f"--weights {model.name}=DIR"
        have = checked_snapshot if dry else fetch
        have(source.repo, source.revision, "model", option, say, verify=verify)
    elif isinstance(source, GgufPackageSource) and verify and not dry and is_converted(source):
        from harness.models.convert import ensure_converted

        ensure_converted(source, say, verify=True)


def locate(model: ModelConfig, weights: str | None, *, verify: bool = False) -> Located:
    """Where to load `model` from, and the identity of its weights.

    Local weights are identified by the hash of what loading reads of them, a hub's by their
    commit (call `ensure` before, so that it is known and the files are what it says).
    verify: hash local weights though size and times are as they were when last hashed.
    Raises MissingError with the sentence of `missing` where something is lacking.
    """
    if fault := missing(model, weights):
        raise MissingError(fault)
    source = model.source
    if source.kind == "scripted":
        path = weights or source.path
        assert path is not None  # `missing` saw to it
        return Located(path, {"answers": text_digest(Path(path), "json")})
    if isinstance(source, PluginSource):
        return Located("", plugin_identity(source) | {"options": digest(source.options)})
    folder = weights or (source.path if isinstance(source, LocalSource) else None)
    if folder is not None:
        root = Path(folder).expanduser()
        seal = cached_seal(root)
        identity = seal.digests(read_files(root), verify=verify)
        seal.save()
        return Located(str(root), identity)
    if isinstance(source, GgufPackageSource):
        identity = {"gguf": source.sha256, "layout": str(CONVERTED_LAYOUT)}
        return Located(str(converted_folder(source)), identity)
    assert isinstance(source, HubSource)
    snapshot = cached_snapshot(source.repo, source.revision, "model")
    revision = snapshot.name if snapshot else source.revision
    return Located(str(snapshot or source.repo), {"repo": source.repo, "revision": revision})
