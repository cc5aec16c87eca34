"""The thread that computes: what its clients get when memory runs out in between."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.serving.service import Ask, Service
from harness.serving.worker import Worker
from tests.support.serving import loaded


def test_an_answer_that_begins_anew_is_streamed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = loaded(slots=4)
    monkeypatch.setattr("harness.serving.worker.PACE", 0.0)
    worker = Worker(world.engine, 8, print)
    service = Service(60.0, world, worker)
    launch, count = world.engine.runner.launch, 0

    def failing(*words: Any) -> Any:
        nonlocal count
        count += 1
        if count in (9, 14):
            raise torch.OutOfMemoryError
        return launch(*words)

    worker.start()
    try:
        wanted = [service.answer(Ask(f"{i}"))["raw"] for i in range(3)]
        monkeypatch.setattr(world.engine.runner, "launch", failing)
        count = 0
        going = [service.begin(Ask(f"{i}")) for i in range(3)]
        for each, text in zip(going, wanted, strict=True):
            *pieces, whole = service.texts(each)
            assert isinstance(whole, dict)
            assert "".join(map(str, pieces)) == whole["raw"] == text
    finally:
        worker.close(5)
    assert count > 30
