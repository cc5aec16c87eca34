"""Pages that a model wrote, at addresses of their own, where they can neither run nor reach out.

A policy inside a page would still let it leave by a meta refresh or by `location`, and so does a
header where the page is the whole tab. So it is always in a frame whose surroundings let frames be
of this server only: the page to try the model on, or the one that is made here.
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

_AROUND = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_FRAME = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>A page by a model</title>'
    "<style>html,body,iframe{{margin:0;border:0;width:100%;height:100%;display:block}}</style>"
    '</head><body><iframe title="the page" sandbox="{allow}" src="{source}"></iframe></body></html>'
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

    def response(self, name: str, scripts: bool, dest: str | None) -> Response:
        """The page. scripts: let it run its own, still in a sandbox and without any network.
        dest: what the browser asks it for (Sec-Fetch-Dest): a tab gets it in a frame, and scripts
        run in a frame only. Raises Problem 404."""
        with self._lock:
            page = self._pages.get(name)
        if page is None:
            raise Problem(404, "unknown_page", "this page is no longer kept; ask again.")
        scripts = scripts and dest in ("iframe", "document")
        policy = _STILL.format(
            allow=" allow-scripts" if scripts else "",
            scripts="script-src 'unsafe-inline'; " if scripts else "",
        )
        if dest == "document":
            query = "?scripts=1" if scripts else ""
            allow = "allow-scripts" if scripts else ""
            page, policy = _FRAME.format(allow=allow, source=f"/shown/{name}{query}"), _AROUND
        text = page.encode("utf-8", "replace")
        response = Response(text, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = policy
        return response
