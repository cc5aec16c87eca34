"""Fixtures that several test files share."""

from __future__ import annotations

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
