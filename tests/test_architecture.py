"""docs/architecture.md against the imports of the code, and tests that import no other test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "harness"
FOR_EVERYONE = frozenset(["config", "records", "host", "errors"])
TOP = "harness"  # __init__.py and __main__.py
Graph = Mapping[str, frozenset[str]]


# --- the code ----------------------------------------------------------------------------------


def package_of(file: Path) -> str:
    """The folder or single module of harness/ that a file is of."""
    first = file.relative_to(PACKAGE).with_suffix("").parts[0]
    return TOP if first.startswith("__") else first


def imported(tree: ast.AST, type_checking: bool = False) -> Iterator[str]:
    """The names that are imported anywhere; those that only a type checker reads if asked for."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            if type_checking:
                yield from imported(node)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imported(node, type_checking)


@cache
def imports() -> Graph:
    """Each package with those that it imports."""
    files = sorted(PACKAGE.rglob("*.py"))
    found: dict[str, set[str]] = {package_of(file): set() for file in files}
    for file in files:
        # The top imports its names when they are first used, and declares them for type checkers.
        lazy = file == PACKAGE / "__init__.py"
        for name in imported(ast.parse(file.read_bytes()), type_checking=lazy):
            first, _, rest = name.partition(".")
            to = rest.split(".")[0]
            if first == TOP and to in found and to != package_of(file):
                found[package_of(file)].add(to)
    return {package: frozenset(others) for package, others in found.items()}


def reached(graph: Graph, package: str) -> set[str]:
    """What `package` imports, and all that this imports in turn."""
    found: set[str] = set()
    waiting = [*graph[package]]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += graph[each]
    return found


def shown(graph: Graph) -> Graph:
    """Without what is for everyone, and without arrows that a longer path implies."""
    kept = {p: others - FOR_EVERYONE for p, others in graph.items() if p not in FOR_EVERYONE}
    return {
        package: frozenset(
            to for to in others if not any(to in reached(kept, by) for by in others - {to})
        )
        for package, others in kept.items()
    }


# --- the page ----------------------------------------------------------------------------------


def page() -> str:
    return (ROOT / "docs" / "architecture.md").read_text("utf-8")


def picture() -> tuple[set[str], list[tuple[str, str]]]:
    """The packages and the arrows of the Mermaid graph."""
    (text,) = re.findall(r"```mermaid\n(.*?)```", page(), re.DOTALL)
    arrows = re.findall(r"^ *(\w+) --> (\w+)$", text, re.MULTILINE)
    alone = re.findall(r"^ *(\w+)(?:\[.*\])?$", text, re.MULTILINE)
    return {*alone, *(end for arrow in arrows for end in arrow)} - {"end"}, arrows


def table() -> dict[str, frozenset[str]]:
    """The last column of the packages' table by its first."""
    (rows,) = re.findall(r"\| package \|.*?\n\| ---.*?\n(.*?)\n\n", page(), re.DOTALL)
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows.splitlines()]
    assert all(what for _, what, _ in cells)
    return {name: frozenset(filter(None, others.split(", "))) for name, _, others in cells}


def test_the_picture_has_the_packages_and_arrows_of_the_code() -> None:
    packages, arrows = picture()
    assert packages == set(imports())
    wanted = {(a, b) for a, others in shown(imports()).items() for b in others}
    assert len(arrows) == len(set(arrows))
    lacking = sorted(f"{a} --> {b}" for a, b in wanted - set(arrows))
    extra = sorted(f"{a} --> {b}" for a, b in set(arrows) - wanted)
    assert not lacking, f"add to the picture: {lacking}"
    assert not extra, f"not in the imports, or implied by a longer path: {extra}"


def test_the_table_has_all_that_each_package_imports() -> None:
    found = table()
    assert set(found) == set(imports())
    for package, others in imports().items():
        wanted = others if package in FOR_EVERYONE else others - FOR_EVERYONE
        assert found[package] == wanted, f"{package} imports: {', '.join(sorted(wanted))}"


def test_arrows_run_one_way() -> None:
    for package in imports():
        assert package not in reached(imports(), package), f"{package} imports itself in a circle"
    for package in FOR_EVERYONE:
        assert imports()[package] <= FOR_EVERYONE


def test_scorers_import_no_model_inference_no_training_and_nothing_the_command_line() -> None:
    for heavy in ("models", "decoder", "training", "inference", "kernels", "backends"):
        assert heavy not in reached(imports(), "scorers")
    assert "training" not in reached(imports(), "inference")
    assert [package for package, others in imports().items() if "cli" in others] == [TOP]


def test_an_import_that_the_picture_lacks_is_found() -> None:
    other = {**imports(), "scorers": imports()["scorers"] | {"statistics"}}
    assert ("scorers", "statistics") in {(a, b) for a, bs in shown(other).items() for b in bs}
    assert shown(other) != shown(imports())


# --- the tests ---------------------------------------------------------------------------------


def test_tests_import_of_one_another_only_what_stands_in_support() -> None:
    """tests/faults is a program of several modules, no test."""
    for file in sorted((ROOT / "tests").rglob("*.py")):
        folder = file.relative_to(ROOT).parts[1]
        for name in imported(ast.parse(file.read_bytes()), type_checking=True):
            parts = name.split(".")
            if parts[0] == "tests":
                allowed = {"support", "faults"} if folder == "faults" else {"support"}
                assert parts[1] in allowed, f"{file.name} imports {name}: move it to tests/support"
