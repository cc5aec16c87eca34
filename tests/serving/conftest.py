"""A server that the tests of a file share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.serving.server import serve
from tests.support.serving import World, loaded


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    other = loaded()
    handle = serve(loaded, "127.0.0.1", 0, None, capacity=12, deadline=60.0).wait(60)
    yield World(handle, other.engine, other.answerers["base"].codec)
    handle.close(2)
