"""The local API over the engine, and the page to try a model on: `harness serve`.

`start` serves in the background of this process, as beside a notebook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.serving.server import Handle, start

__all__ = ["Handle", "start"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from harness.serving import server

        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
