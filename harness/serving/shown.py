"""Pages that a model wrote, at addresses of their own, where they can neither run nor reach out.

A policy inside a page would still let it leave by a meta refresh or by `location`; a header on an
address of its own leaks nothing, framed or opened alone.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict

from flask import Response

from harness.serving.problems import Problem

MOST = 256
"""Pages that are kept, the newest."""

_STILL = (
    "sandbox{allow}; default-src 'none'; {scripts}style-src 'unsafe-inline'; img-src data:; "
    "font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


class Shown:
    """The last pages, by random names."""

    def __init__(self) -> None:
        self._pages: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, page: str) -> str:
        """The name that a page is kept under."""
        name = uuid.uuid4().hex
        with self._lock:
            self._pages[name] = page
            while len(self._pages) > MOST:
                self._pages.popitem(last=False)
        return name

    def response(self, name: str, scripts: bool) -> Response:
        """The page. scripts: let it run its own, still in a sandbox and without any network.
        Raises Problem 404."""
        with self._lock:
            page = self._pages.get(name)
        if page is None:
            raise Problem(404, "unknown_page", "this page is no longer kept; ask again.")
        policy = _STILL.format(
            allow=" allow-scripts" if scripts else "",
            scripts="script-src 'unsafe-inline'; " if scripts else "",
        )
        text = page.encode("utf-8", "replace")
        response = Response(text, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = policy
        return response
