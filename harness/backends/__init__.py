"""What answers prompts for the systems of a run, found by the name that a model's source gives."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from harness.config.schema import ModelConfig

if TYPE_CHECKING:
    from harness.backends.backend import Backend
    from harness.runs.context import Context

_BACKENDS = {"local": "harness.backends.local", "scripted": "harness.backends.scripted"}


def module_of(model: ModelConfig) -> str:
    """The module whose `make(context)` gives the backend that answers for `model`."""
    return _BACKENDS["scripted" if model.source.kind == "scripted" else "local"]


def backend_of(context: Context) -> Backend:
    """What answers for the context's run. Raises what making it raises."""
    backend: Backend = import_module(module_of(context.run.model)).make(context)
    return backend
