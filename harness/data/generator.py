"""A task's own generator: its folder imported as a package under a private name, and called."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Literal

from harness.config.schema import DataConfig
from harness.errors import DataError
from harness.host.text import one_line, quoted
from harness.records import Example

Side = Literal["train", "test"]

_numbers = itertools.count()


def generate(data: DataConfig, task_dir: Path, task: str) -> tuple[list[Side], list[Example]]:
    """The sides and examples that the generator yields for the table's seed, train and test.

    Raises DataError when it cannot be imported, fails, or yields anything else than
    ("train" or "test", Example) pairs in the numbers asked for.
    """
    module_name, _, function_name = (data.generator or "").partition(":")
    where = f"the generator '{one_line(data.generator)}' of task '{task}' in {quoted(task_dir)}"
    with _package(task_dir) as package:
        try:
            function = getattr(importlib.import_module(f"{package}.{module_name}"), function_name)
            pairs = list(function(seed=data.seed, train=data.train, test=data.test))
        except Exception as error:
            raise DataError(
                f"{where} failed ({type(error).__name__}: {one_line(error)}): "
                "mend it or data.generator."
            ) from error
    sides: list[Side] = []
    examples: list[Example] = []
    for pair in pairs:
        if not (
            isinstance(pair, tuple)
            and len(pair) == 2
            and pair[0] in ("train", "test")
            and isinstance(pair[1], Example)
        ):
            raise DataError(
                f"{where} yielded {one_line(repr(pair), 60)}: it must yield "
                "('train' or 'test', Example) pairs."
            )
        sides.append(pair[0])
        examples.append(pair[1])
    got = (sides.count("train"), sides.count("test"))
    if got != (data.train, data.test):
        raise DataError(
            f"{where} yielded {got[0]} train and {got[1]} test rows where {data.train} and "
            f"{data.test} were asked for: ask for fewer or mend it."
        )
    return sides, examples


@contextmanager
def _package(folder: Path) -> Iterator[str]:
    """The folder as a package, so that its modules import each other relatively; gone after.

    The name is new each time: two tasks, or two states of one, never share a module.
    """
    name = f"_harness_task_{next(_numbers)}"
    init = folder / "__init__.py"
    try:
        if init.is_file():
            spec = importlib.util.spec_from_file_location(
                name, init, submodule_search_locations=[str(folder)]
            )
            assert spec is not None
            assert spec.loader is not None
            sys.modules[name] = module = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
            except Exception as error:
                raise DataError(
                    f"{quoted(init)} cannot be imported ({type(error).__name__}: "
                    f"{one_line(error)}): mend it."
                ) from error
        else:
            sys.modules[name] = module = ModuleType(name)
            module.__path__ = [str(folder)]
        importlib.invalidate_caches()
        yield name
    finally:
        for loaded in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
            del sys.modules[loaded]
