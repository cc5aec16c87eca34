"""The base that a stored run was made with, found again and loaded as it was held."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.schema import HubSource, LocalSource, ModelConfig
from harness.errors import MissingError, UsageError
from harness.host.paths import read_text
from harness.host.text import quoted
from harness.models.locate import Located, ensure, locate
from harness.pipeline.stored import StoredRun

if TYPE_CHECKING:
    from harness.models.load import Base


def base_of(run: StoredRun, say: Callable[[str], None]) -> Base:
    """The run's base, without the adapter.

    Raises UsageError where nothing was trained, MissingError where the base is not on this machine
    or not what the run began with, RunError, AdapterError.
    """
    run.need("train")
    if not run.view.facts("train").get("trained", True):
        raise UsageError(
            f"the run {run.folder.label} trained no adapter, for its model has no weights: give a "
            "run of a model that has."
        )
    from harness.models.load import load_base

    weights = run.folder.identity["weights"]
    config, located = _located(
        run.folder.manifest["model"], run.view.files.adapter, weights["identity"], say
    )
    return load_base(config, located, weights["quantization"], weights["precision"], say)


def _located(
    name: str, adapter: Path, identity: dict[str, str], say: Callable[[str], None]
) -> tuple[ModelConfig, Located]:
    """The base that an adapter is for: its configuration, where it is.

    identity: what told its weights from others when the run was made. Raises MissingError.
    """
    saved: dict[str, Any] = json.loads(read_text(adapter / "adapter_config.json"))
    origin = saved["base_model_name_or_path"]
    source: HubSource | LocalSource = LocalSource(kind="local", path=origin)
    if "repo" in identity:
        source = HubSource(kind="hub", repo=identity["repo"], revision=identity["revision"])
    config = ModelConfig(name=name, parameters=0, source=source)
    if "gguf" in identity:  # converted here once, and named by its hash
        if not Path(origin).is_dir():
            raise MissingError(
                f"model {name}: {quoted(origin)}, which was made of its embedded weights, is gone; "
                f"`python -m harness run --models {name}` makes it again."
            )
        return config, Located(origin, {})
    ensure(config, None, say)
    located = locate(config, None)
    if located.identity != identity:
        raise MissingError(
            f"model {name}: the weights in {quoted(origin)} are not those that the run began with; "
            "put them back, or run again."
        )
    return config, located
