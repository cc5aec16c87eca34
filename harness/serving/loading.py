"""What a server answers with: one base, and the adapters of the runs that it was given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from harness.config.schema import DecodingConfig
from harness.data.tokens import Codec
from harness.errors import UsageError
from harness.host.files import file_digest
from harness.host.text import listed
from harness.inference.engine import Engine
from harness.inference.local import decoder_of, engine_of
from harness.inference.request import Request, Sampling
from harness.models.adapter import Adapter
from harness.models.load import Base
from harness.pipeline.given_adapters import given_adapter
from harness.pipeline.stored import StoredRun, open_run
from harness.pipeline.stored_model import base_of
from harness.runs.store import list_runs
from harness.systems import BASE, TUNED

Say = Callable[[str], None]

LENGTH = 2048
"""Tokens of a prompt and its answer together, at most, unless another length is asked for."""
SLOTS = {"cuda": 64, "cpu": 16}
"""Requests that are answered together, by device."""
FEW = 4
"""Answers at a time that a CPU computes by themselves in float32: whoever tries a model alone waits
half as long. In bfloat16 that would be no faster, and near ties are many."""


@dataclass(frozen=True, slots=True)
class Answerer:
    """Something that answers, under the name that requests give.

    name: what it calls itself; it may be asked for under others. system: its name in the engine.
    adapter: the digest of its adapter, None of the base. examples: held-out prompts to try.
    """

    name: str
    system: str
    codec: Codec
    adapter: str | None
    run: str | None
    task: str
    decoding: DecodingConfig
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """model: the base's registered name. answerers: by every name that requests may give."""

    model: str
    engine: Engine
    answerers: dict[str, Answerer]
    length: int

    @property
    def listed(self) -> list[Answerer]:
        """Each answerer once."""
        return list({each.system: each for each in self.answerers.values()}.values())


def newest_run(root: Path) -> Path | None:
    """The folder of the newest finished run that trained an adapter."""
    done = [each for each in list_runs(root) if each["status"] == "done"]
    trained = [
        Path(each["path"])
        for each in done
        if (Path(each["path"]) / "adapter" / "adapter_config.json").is_file()
    ]
    return max(trained, key=lambda path: (path / "manifest.json").stat().st_mtime, default=None)


def load_runs(paths: Sequence[Path], say: Say, length: int = LENGTH) -> Loaded:
    """The base and the adapters of runs, which must be of one base. length: as `ready` has it.

    Raises UsageError, MissingError, RunError and AdapterError, as loading a run does.
    """
    runs = [open_run(path) for path in paths]
    first = runs[0]
    for run in runs[1:]:
        if run.folder.identity["weights"] != first.folder.identity["weights"]:
            raise UsageError(
                f"the runs {first.folder.label} and {run.folder.label} are not of one base, held "
                "in one way: serve them apart."
            )
    names = [run.name for run in runs]
    if len({*names}) < len(names):
        raise UsageError(f"the runs {listed(names)} are called alike: name each once.")
    base = base_of(first, say)
    adapters = {names[0]: Adapter.load(base, first.view.files.adapter)}
    for run in runs[1:]:
        run.need("train")
        adapters[run.name] = adapters[names[0]].beside(run.view.files.adapter)
    shown = [TUNED.name] if len(runs) == 1 else names
    answerers = [_answerer(run, n, run.name, base) for run, n in zip(runs, shown, strict=True)]
    bare = _answerer(first, BASE.name, BASE.name, base)
    found = {BASE.name: bare, first.folder.manifest["model"]: bare, TUNED.name: answerers[0]}
    found |= dict(zip(names, answerers, strict=True))
    return ready(first.folder.manifest["model"], base, adapters, found, say, length)


def load_model(
    name: str,
    adapter: Path | None,
    say: Say,
    registry_dir: Path | None = None,
    length: int = LENGTH,
) -> Loaded:
    """A registered model on the task that it names, bare and with an adapter of PEFT's format or
    a run's folder. registry_dir: where models of one's own are registered. length: as `ready` has
    it.

    Raises UsageError, MissingError, RunError and AdapterError.
    """
    from harness.config.registry import Registry
    from harness.models.load import load_base
    from harness.models.locate import ensure, locate
    from harness.pipeline.options import Options

    registry = Registry(registry_dir)
    model = registry.model(name)
    task = registry.task(Options().tasks_of(model)[0])
    recipe = registry.recipe(Options().recipe_of(model))
    given = None if adapter is None else given_adapter("--adapter", adapter)
    ensure(model, None, say)
    quantization = recipe.quantization_of(model.parameters)
    base = load_base(model, locate(model, None), quantization, recipe.precision, say)
    codec = base.codec(task.template)
    bare = Answerer(BASE.name, BASE.name, codec, None, None, task.name, task.decoding, ())
    found = {BASE.name: bare, name: bare}
    adapters = {}
    if given is not None:
        adapters[TUNED.name] = Adapter.load(base, given.folder)
        digest = file_digest(given.folder / "adapter_model.safetensors")
        found[TUNED.name] = replace(bare, name=TUNED.name, system=TUNED.name, adapter=digest)
    return ready(name, base, adapters, found, say, length)


def _answerer(run: StoredRun, name: str, system: str, base: Base) -> Answerer:
    task: dict[str, Any] = run.folder.identity["task"]
    digest = None
    if system != BASE.name:
        digest = run.folder.manifest["stages"]["train"]["files"][
            "adapter/adapter_model.safetensors"
        ]
    examples = tuple(example.prompt for example in run.view.asked[:6])
    return Answerer(
        name=name,
        system=system,
        codec=base.codec(task["template"]),
        adapter=digest,
        run=run.folder.label if digest else None,
        task=task["name"],
        decoding=DecodingConfig.model_validate(task["decoding"]),
        examples=examples,
    )


def ready(
    model: str,
    base: Base,
    adapters: Mapping[str, Adapter],
    answerers: dict[str, Answerer],
    say: Say,
    length: int = LENGTH,
) -> Loaded:
    """Base and adapters in one engine, which has its slots already. The rest as `Loaded` has it.

    length: tokens of a prompt and its answer together, at most; the context may allow fewer. Where
    memory has no room for all slots of that length, there are fewer.
    """
    slots = SLOTS[base.device.type]
    systems: dict[str, Adapter | None] = {BASE.name: None, **adapters}
    few = FEW if (base.device.type, base.dtype) == ("cpu", torch.float32) else 0
    engine = engine_of(base, systems, say, decoder_of(base, *adapters.values()), slots, few)
    length = min(length, base.context)
    # Room for the longest at once: a server cannot wait until it is idle to make more.
    longest = Request("", (0,), Sampling(length - 1), BASE.name)
    engine.reserve([longest] * slots)
    if engine.slots < slots:
        say(
            f"memory has room for {engine.slots} answers of {length} tokens at a time; with a "
            f"smaller --length for up to {slots}"
        )
    return Loaded(model, engine, answerers, length)
