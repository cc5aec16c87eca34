"""What code makes a stage's files: the modules that it imports, and what of them can change a file.

A module counts as its syntax tree without comments and docstrings. Imports are followed wherever
they stand, in functions too, but for those that only a type checker reads.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness.host.files import digest

NO_PART: dict[str, str] = {
    "harness.config": "what a setting is: its value is in the keys",
    "harness.errors": "what is said and raised",
    **{
        f"harness.host.{module}": "how bytes are read and written, and the machine watched"
        for module in (
            *("checksums", "console", "exchange", "files", "links", "locks", "machine", "paths"),
            *("plugins", "progress", "signals", "temporary"),
        )
    },
    "harness.hub": "where files come from: what they hold is in the keys",
    "harness.pipeline": "what is asked for, and in which order",
    **{
        f"harness.runs.{module}": "where files are kept, and what belongs to a key"
        for module in ("code", "context", "environment", "journal", "run", "stage", "store")
    },
    "harness.tracking": "where a training is shown",
}
"""Packages and modules that no stage's code includes: nothing in a stage's files is theirs."""

_PACKAGE = Path(__file__).resolve().parents[1]
_TOP = "harness"


def modules_of(
    roots: Iterable[str], apart: Iterable[str] = ()
) -> tuple[frozenset[str], frozenset[str]]:
    """The modules of this project that `roots` import, themselves included, and the names of all
    other packages that those import.

    apart: modules that are not followed where they are imported.
    """
    left_out = (*NO_PART, *apart)
    found: set[str] = set()
    packages: set[str] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        for name in _meaning(module).imports:
            if name.split(".")[0] != _TOP:
                packages.add(name)
            elif not any(name == part or name.startswith(f"{part}.") for part in left_out):
                waiting.append(name)
    return frozenset(found), frozenset(packages)


def code_digest(modules: Iterable[str]) -> str:
    """Hash of what the modules do."""
    return digest({module: _meaning(module).code for module in modules})


# --- one module ------------------------------------------------------------------------------


def file_of(module: str) -> Path | None:
    """The source file of a module of this project, or None where there is none of the name."""
    place = _PACKAGE.joinpath(*module.split(".")[1:])
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if module.split(".")[0] == _TOP and file.is_file():
            return file
    return None


def source_of(module: str) -> bytes:
    """The source text of a module of this project. Raises LookupError."""
    file = file_of(module)
    if file is None:
        raise LookupError(f"there is no module {module}")
    return file.read_bytes()


class _Meaning(NamedTuple):
    """imports: the modules of this project, and the first names of other packages, that a module
    imports. code: the hash of what it does."""

    imports: tuple[str, ...]
    code: str


@cache
def _meaning(module: str) -> _Meaning:
    text = source_of(module)
    # A tree is many objects and no cycle; collecting in between takes longer than parsing.
    collects = gc.isenabled()
    gc.disable()
    try:
        tree = ast.parse(text)
        imports = tuple(sorted(set(_imported(tree))))
        waiting: list[ast.AST] = [tree]
        while waiting:
            node = waiting.pop()
            if hasattr(node, "body"):
                node.body = [each for each in node.body if not _is_text(each)]
            waiting.extend(_parts(node))
        code = ast.dump(tree, annotate_fields=False)
    finally:
        if collects:
            gc.enable()
    return _Meaning(imports, hashlib.sha256(code.encode()).hexdigest())


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
        return
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        below = [f"{node.module}.{alias.name}" for alias in node.names]
        names = [name if file_of(name) else str(node.module) for name in below]
    for name in names:
        first = name.split(".")[0]
        if first == _TOP:
            yield name
        elif first not in sys.stdlib_module_names:
            yield first
    for part in _parts(node):
        yield from _imported(part)


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """What stands right within `node` and may hold statements: no expression does."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        yield from getattr(node, field, ())


def _is_text(node: object) -> bool:
    """Whether a statement is a string alone: a docstring, or a note below a name."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
