"""A GGUF file carried in chunks by a Python package, into safetensors: once a machine."""

from __future__ import annotations

import hashlib
import importlib
import os
from pathlib import Path
from typing import Any

from harness.config.schema import GgufPackageSource
from harness.errors import MissingError, StorageError
from harness.host.checksums import Seal, write_seal
from harness.host.locks import hold
from harness.host.signals import check
from harness.host.temporary import MAKING, making_folder, remove, sweep
from harness.models.locate import CONVERTED_SEAL, converted_folder, is_converted


def ensure_converted(source: GgufPackageSource, say: Any, *, verify: bool = False) -> Path:
    """The folder with safetensors and tokenizer made from `source`, made now if it is not there.

    The GGUF file is checked against the hash that our registry pins, not the one that the
    package carries. What was converted before is checked against its seal, and made again where
    it is damaged; verify: by the hash of every file, whatever its times say. Two processes at
    once: one converts, the other waits for it.
    Raises MissingError for a file that is not the pinned one, StorageError for a full disk,
    RunError where this version of transformers makes another tokenizer than the file's.
    """
    target = converted_folder(source)
    sweep(target.parent, MAKING)
    try:
        if is_converted(source) and not _damaged(target, verify):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with hold(Path(f"{target}.lock")):
            faulty = _damaged(target, verify) if is_converted(source) else []
            if faulty:
                say(
                    f"{target / faulty[0]} was changed or damaged since it was converted; what was "
                    "made with it since then may be wrong"
                )
            if faulty or not is_converted(source):
                say(f"converting {source.file} to safetensors, once, into {target}")
                with making_folder(target.parent) as scratch:
                    gguf = scratch / source.file
                    _join_chunks(source, gguf)
                    made = scratch / "made"
                    _convert(gguf, made)
                    names = sorted(
                        f.relative_to(made).as_posix() for f in made.rglob("*") if f.is_file()
                    )
                    write_seal(made / CONVERTED_SEAL, target, made, names)
                    remove(target)
                    os.replace(made, target)
    except OSError as error:
        raise StorageError(
            f"{target} could not be written ({error.strerror or error}); "
            "free some disk, or set HARNESS_CACHE to another folder."
        ) from error
    return target


def _damaged(target: Path, verify: bool) -> list[str]:
    """The files that are not as converted; an unreadable seal is one of them."""
    seal = Seal(target / CONVERTED_SEAL, target)
    faulty = seal.damaged(sorted(seal.names()), verify=verify) if seal else [CONVERTED_SEAL]
    seal.save()
    return faulty


def _join_chunks(source: GgufPackageSource, target: Path) -> None:
    try:
        package = importlib.import_module(source.module)
    except ImportError as error:
        raise MissingError(
            f"the Python package {source.package} is missing; pip install {source.package}."
        ) from error
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for chunk in package.chunk_paths():
            with Path(chunk).open("rb") as part:
                while block := part.read(1 << 20):
                    check()
                    digest.update(block)
                    out.write(block)
    if digest.hexdigest() != source.sha256:
        raise MissingError(
            f"the file in the package {source.package} is not the pinned one "
            f"(sha256 {digest.hexdigest()[:12]}…, wanted {source.sha256[:12]}…); reinstall it."
        )


def _convert(gguf: Path, target: Path) -> None:
    """Read through transformers, write bf16 safetensors (the file's own values, rounded once)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils

    from harness.models.complete import check_complete
    from harness.models.gguf_tokens import check_tokenizer
    from harness.models.quiet import quiet
    from harness.models.saving import saving

    # The reader's own progress bar heeds no switch.
    modeling_gguf_pytorch_utils.tqdm = lambda tensors, **_: tensors
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        check_tokenizer(tokenizer, gguf)
        model, found = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, output_loading_info=True
        )
        check_complete(gguf.name, str(gguf), model, found)
        model = model.to(torch.bfloat16)
        # A model marked as quantised by GGUF refuses to be saved; its weights are plain by now.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.config._name_or_path = ""
        with saving():
            model.save_pretrained(target)
            tokenizer.save_pretrained(target)
