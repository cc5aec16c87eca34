"""Models that another package's backend answers for: whether it is installed, and which it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.config.schema import PluginSource
from harness.errors import UsageError
from harness.host.plugins import package_of, plugins
from harness.host.text import listed, quoted

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

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
    known = plugins(GROUP)
    found = known.get(name, [])
    if len(found) == 1:
        return found[0]
    if found:
        packages = listed(map(package_of, found))
        raise UsageError(
            f"the backend {quoted(name, 60)} is of several packages ({packages}): uninstall all "
            "but one."
        )
    raise UsageError(
        f"no installed package has the backend {quoted(name, 60)} (there are "
        f"{listed(sorted(known))}): install the one that has it."
    )
