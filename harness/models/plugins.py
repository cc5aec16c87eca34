"""Models that another package's backend answers for: whether it is installed, and which it is."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from harness.config.schema import PluginSource
from harness.errors import UsageError
from harness.host.text import listed, quoted

GROUP = "harness.backends"


def missing_backend(source: PluginSource) -> str | None:
    """Why the plug-in cannot be used, as the end of a sentence; None where it is installed."""
    try:
        plugin(source.backend)
    except UsageError as error:
        return str(error)
    return None


def plugin_identity(source: PluginSource) -> dict[str, str]:
    """What tells a plug-in's answers from others': its name, package and version."""
    return {"backend": source.backend, "package": package_of(plugin(source.backend))}


def plugin(name: str) -> EntryPoint:
    """The entry point of the backend `name`. Raises UsageError where there is not just one."""
    found = [entry for entry in _plugins() if entry.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        packages = listed(package_of(entry) for entry in found)
        raise UsageError(
            f"the backend {quoted(name, 60)} is of several packages ({packages}): uninstall all "
            "but one."
        )
    known = sorted({entry.name for entry in _plugins()})
    raise UsageError(
        f"no installed package has the backend {quoted(name, 60)} (there are {listed(known)}): "
        "install the one that has it."
    )


def package_of(entry: EntryPoint) -> str:
    """The package that an entry point is of, and its version."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module


@cache
def _plugins() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))
