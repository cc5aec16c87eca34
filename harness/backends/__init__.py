"""What answers prompts for the systems of a run, found by what a model's source says.

Weights are answered by `local`, a script by `scripted`. Another package adds a backend through the
entry-point group `harness.backends`: a name, and a function that makes a `backend.Backend` of a
run's context. A model names it with `[source] kind = "plugin"`, `backend = "NAME"`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from harness.config.schema import ModelConfig, PluginSource, ScriptedSource
from harness.errors import HarnessError, UsageError
from harness.host.plugins import package_of
from harness.host.text import one_line, quoted
from harness.models.plugins import plugin

if TYPE_CHECKING:
    from harness.backends.backend import Backend
    from harness.runs.context import Context


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
        make = plugin(source.backend)
        try:
            backend = make.load()(context)
        except HarnessError:
            raise
        except Exception as error:
            raise UsageError(
                f"the backend {quoted(source.backend, 60)} of the package {package_of(make)} "
                f"cannot be made ({type(error).__name__}: {one_line(error)}): mend it, or "
                "uninstall the package."
            ) from error
    else:
        (module,) = modules_of_model(context.run.model)
        backend = import_module(module).make(context)
    return backend
