"""What answers prompts for the systems of a run, found by what a model's source says.

Weights are answered by `local`, a script by `scripted`. Another package adds a backend through the
entry-point group `harness.backends`: a name, and a function that makes a `backend.Backend` of a
run's context. A model names it with `[source] kind = "plugin"`, `backend = "NAME"`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from harness.config.schema import ModelConfig, PluginSource, ScriptedSource
from harness.errors import HarnessError, UsageError
from harness.host.text import listed, one_line, quoted

if TYPE_CHECKING:
    from harness.backends.backend import Backend
    from harness.runs.context import Context

GROUP = "harness.backends"


def modules_of_model(model: ModelConfig) -> list[str]:
    """The modules of this project that answer for `model`; of a plug-in none."""
    if isinstance(model.source, PluginSource):
        return []
    return [f"{__name__}.{'scripted' if isinstance(model.source, ScriptedSource) else 'local'}"]


def backend_of(context: Context) -> Backend:
    """What answers for the context's run. Raises what making it raises."""
    source = context.run.model.source
    backend: Backend
    if isinstance(source, PluginSource):
        make = _plugin(source.backend)
        try:
            backend = make.load()(context)
        except HarnessError:
            raise
        except Exception as error:
            raise UsageError(
                f"the backend {quoted(source.backend, 60)} of the package {_package(make)} cannot "
                f"be made ({type(error).__name__}: {one_line(error)}): mend it, or uninstall the "
                "package."
            ) from error
    else:
        (module,) = modules_of_model(context.run.model)
        backend = import_module(module).make(context)
    return backend


def missing_backend(source: PluginSource) -> str | None:
    """Why the plug-in cannot be used, as the end of a sentence; None where it is installed."""
    try:
        _plugin(source.backend)
    except UsageError as error:
        return str(error)
    return None


def plugin_identity(source: PluginSource) -> dict[str, str]:
    """What tells a plug-in's answers from others': its name, package and version."""
    return {"backend": source.backend, "package": _package(_plugin(source.backend))}


def _plugin(name: str) -> EntryPoint:
    found = [entry for entry in _plugins() if entry.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        packages = listed(_package(entry) for entry in found)
        raise UsageError(
            f"the backend {quoted(name, 60)} is of several packages ({packages}): uninstall all "
            "but one."
        )
    known = sorted({entry.name for entry in _plugins()})
    raise UsageError(
        f"no installed package has the backend {quoted(name, 60)} (there are {listed(known)}): "
        "install the one that has it."
    )


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module


@cache
def _plugins() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))
