"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import (
    LIGHT_IMPORTS,
    MODEL_IMPORTS,
    Commands,
    make_registry,
    run_of,
    write_script,
)

# Before torch is imported: threads of several workers wait for one another on the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers, the model libraries are imported by one for commands, by one for
    itself: it takes seconds, and most tests need none of them."""
    for item in items:
        if "model_commands" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("commands with models"))
        elif hasattr(getattr(item, "module", None), "torch"):
            item.add_marker(pytest.mark.xdist_group("models"))


def _environment(folder: Path) -> dict[str, str]:
    """No hub, no GPU, caches of our own, whatever the machine has."""
    return {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hub"),
        "HARNESS_CACHE": str(folder / "cache"),
        "CUDA_VISIBLE_DEVICES": "",
    }


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Commands in processes that have imported no model library."""
    served = Commands(LIGHT_IMPORTS, _environment(tmp_path_factory.mktemp("home")))
    yield served
    served.close()


@pytest.fixture(scope="session")
def model_commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Commands in processes that have imported torch and its company, single-threaded."""
    served = Commands(MODEL_IMPORTS, _environment(tmp_path_factory.mktemp("home")))
    yield served
    served.close()


@pytest.fixture(scope="session")
def tiny_weights(
    model_commands: Commands, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Family to a folder with a tiny model of it."""
    root = tmp_path_factory.mktemp("weights")
    return {
        family: model_commands.save_tiny(root / family, family)
        for family in ("falcon", "llama", "gemma3")
    }


@pytest.fixture
def scripted(tmp_path: Path) -> list[str]:
    """A command that needs no model, on a small task, its files beside the working folder."""
    registry = make_registry(tmp_path / "registry")
    return run_of(registry, {"scripted": write_script(tmp_path / "says.jsonl")})
