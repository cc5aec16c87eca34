"""`--adapters NAME=DIR`: adapters that a run did not train and that answer as well."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.config.schema import ModelConfig, valid_name
from harness.errors import UsageError
from harness.host.files import digest, file_digest
from harness.host.links import refuse_links
from harness.host.paths import expanded, no_file, no_folder, read_text
from harness.host.text import listed, quoted
from harness.runs.run import GivenAdapter
from harness.systems import AS_GIVEN, systems

_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"


def given_adapters(
    folders: Mapping[str, str], models: Sequence[ModelConfig]
) -> dict[str, GivenAdapter]:
    """The adapters in these folders, each of PEFT's format, or a run's folder.

    Raises UsageError for a name that no system may have, for what is no LoRA adapter, and where
    not one model with weights is run.
    """
    if folders and (len(models) != 1 or not models[0].has_weights):
        raise UsageError(
            "--adapters are of one base: run one model that has weights, and give the others' in "
            "commands of their own."
        )
    taken = [*(system.name for system in systems()), AS_GIVEN]
    found = {}
    for name, text in folders.items():
        if not valid_name(name) or name in taken:
            raise UsageError(
                f"--adapters {quoted(name)}: a system's name has 1 to 64 of a-z, 0-9, '.', '_' and "
                f"'-', begins with a letter or digit, and is none of {listed(taken)}."
            )
        found[name] = given_adapter(f"--adapters {name}", expanded(text))
    return found


def given_adapter(option: str, folder: Path) -> GivenAdapter:
    """The adapter in a folder of PEFT's format, or in a run's. option: names it in errors.

    Raises UsageError for what is no LoRA adapter.
    """
    if fault := no_folder(folder):
        raise UsageError(f"{option}: {quoted(folder)} {fault}: give an adapter's folder.")
    if no_file(folder / "manifest.json") is None:
        refuse_links(folder)
        folder = folder / "adapter"
    for file in (_CONFIG, _TENSORS):
        if fault := no_file(folder / file):
            raise UsageError(
                f"{option}: {quoted(folder / file)} {fault}: give a folder that PEFT's "
                "save_pretrained made, or a run's that is trained."
            )
    try:
        config = json.loads(read_text(folder / _CONFIG))
        kind = config["peft_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{option}: {quoted(folder / _CONFIG)} is no configuration of an adapter "
            f"({type(error).__name__}): give a folder that PEFT's save_pretrained made."
        ) from error
    if kind != "LORA":
        raise UsageError(f"{option}: {quoted(folder)} is of the type {kind!r:.40}: give a LoRA.")
    tensors = file_digest(folder / _TENSORS, interruptible=True)
    return GivenAdapter(folder, digest({"config": config, "tensors": tensors}))
