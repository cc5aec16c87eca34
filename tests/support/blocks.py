"""The generator of html_blocks, imported under a name of its own, and its rows."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from harness.records import Example

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tasks" / "html_blocks"
PACKAGE = "_html_blocks_under_test"
LOAD = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location(
    {PACKAGE!r}, {str(FOLDER / "__init__.py")!r}, submodule_search_locations=[{str(FOLDER)!r}]
)
module = importlib.util.module_from_spec(spec)
sys.modules[{PACKAGE!r}] = module
spec.loader.exec_module(module)
"""


def _load() -> ModuleType:
    if PACKAGE not in sys.modules:
        exec(LOAD, {})
    return importlib.import_module(f"{PACKAGE}.generator")


generator = _load()


def rows_of(side: str, seed: int, count: int) -> list[Example]:
    pairs = list(generator.generate(seed=seed, **{"train": 0, "test": 0, side: count}))
    assert {got for got, _ in pairs} <= {side}
    return [row for _, row in pairs]
