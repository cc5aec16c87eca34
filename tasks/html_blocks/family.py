"""What a family of prompts is, and how one is read from its file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.records import Assertion

from . import sources  # noqa: F401 (what rules draw from)
from .choices import Choices
from .draws import draw
from .markup import escape, layout
from .template import Template, Values

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Family:
    """One kind of page or fragment. A content is what `draw` composes: values under names.

    write:    the reference answer for a content.
    check:    the assertions that follow from every phrasing of that content, 3 to 8 of them.
    trained:  phrasings that training rows and "seen-family" test rows use.
    reserved: phrasings that only "unseen-phrasing" test rows use.
    """

    name: str
    draw: Callable[[Choices], Values]
    write: Callable[[Values], str]
    check: Callable[[Values], Sequence[Assertion]]
    trained: tuple[Callable[[Values], str], ...]
    reserved: tuple[Callable[[Values], str], ...]


def read(path: str) -> dict[str, Any]:
    """A file of this folder, such as `families/card.toml`."""
    return tomllib.loads((_FOLDER / path).read_text("utf-8"))


def load(name: str) -> Family:
    """The family of `families/<name>.toml`."""
    return family(name, read(f"families/{name}.toml"))


def family(name: str, file: dict[str, Any]) -> Family:
    """The family that a file's tables and texts describe."""
    return Family(
        name,
        draw=lambda c: draw(c, file["draw"], {}),
        write=reference(file["markup"]),
        check=checks(file["checks"]),
        **phrasings(file),
    )


def phrasings(file: dict[str, Any]) -> dict[str, tuple[Template, ...]]:
    return {use: tuple(map(Template, file[use].values())) for use in ("trained", "reserved")}


def reference(markup: str) -> Callable[[Values], str]:
    template = Template(markup, escape)
    return lambda values: layout(template(values))


def checks(table: str) -> Callable[[Values], list[Assertion]]:
    """Of lines `selector | count | text | attribute | value`; what is empty is not asked."""
    template = Template(table)
    return lambda values: [_assertion(line) for line in template(values).splitlines()]


def _assertion(line: str) -> Assertion:
    selector, count, *others = (cell.strip() or None for cell in f"{line}|".split("|"))
    assert selector is not None
    return Assertion(selector, int(count) if count else None, *others[:3])
