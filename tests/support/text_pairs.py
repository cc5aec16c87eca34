"""Pairs of texts for the scorers that compare texts, real and made up, and hostile texts."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

_ALPACA = Path(__file__).parents[3] / "shared/data/ttbui_html_alpaca/data_finetune_html.json"
_ALPHABETS = (
    "ab",
    "abc .,-1 2",
    "<skipped>&lt;gt;amp&quot;<>-\n\t",
    "漢字かなабвäé \ud800\0\x1c\x85\xa0\u2028",
    "x-1,.\n' ",
    "".join(map(chr, range(1, 256))),
)
_PIECES = (
    "<p>",
    "</p>",
    '<a class="x y" href="/z.html">',
    "</a>",
    "<br/>",
    "word",
    " two words",
    "\n",
    "&nbsp;",
    "&amp;",
    "1,000.5",
    "font-size:12px;",
    "-\n",
    "<!-- x -->",
)
_LONG = 400_000


def made_up(rng: random.Random) -> str:
    """A short text of any sort: words, signs, any code, pieces of HTML, nothing."""
    sort = rng.randrange(8)
    if sort == 0:
        return "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randrange(30)))
    if sort == 1:
        return "".join(rng.choices(_PIECES, k=rng.randrange(40)))
    alphabet = rng.choice(_ALPHABETS)
    return "".join(rng.choices(alphabet, k=rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 12, 60])))


def pairs(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """`count` pairs (reference, prediction); one in eight is equal, one in eight begins equal."""
    rng = random.Random(seed)
    for at in range(count):
        a, b = made_up(rng), made_up(rng)
        yield a, (a, a + b, b, b, b, b, b, b)[at % 8]


@lru_cache(maxsize=1)
def _outputs() -> tuple[str, ...] | None:
    if not _ALPACA.exists():
        return None
    return tuple(row["output"] for row in json.loads(_ALPACA.read_text(encoding="utf-8")))


def html_alpaca() -> tuple[str, ...]:
    """The outputs of html_alpaca; skips the test where the data set is not there."""
    outputs = _outputs()
    if outputs is None:
        pytest.skip(f"{_ALPACA.name} of html_alpaca is not there")
    return outputs


def real_pairs(count: int) -> list[tuple[str, str]]:
    """`count` pairs of different outputs of html_alpaca."""
    rng = random.Random(1)
    outputs = html_alpaca()
    return [(rng.choice(outputs), rng.choice(outputs)) for _ in range(count)]


def _any_codes(size: int) -> str:
    rng = random.Random(2)
    return "".join(chr(rng.randrange(0x110000)) for _ in range(size))


HOSTILE = {
    "empty": "",
    "white space": " \n\t" * (_LONG // 3),
    "NUL": "\0" * _LONG,
    "surrogates": "\ud800" * _LONG,
    "div": "<div>" * (_LONG // 5),
    "open": "<" * _LONG,
    "attributes": "<a " + "b " * (_LONG // 2 - 2),
    "equals": "<a " + "= " * (_LONG // 2 - 2),
    "comments": "<!--" * (_LONG // 4),
    "scripts": "<script></" * (_LONG // 10),
    "quotes": "<a '<a \"" * (_LONG // 8),
    "points": ".,-" * (_LONG // 3),
    "words": " ".join(map(str, range(_LONG // 7))),
    "any codes": _any_codes(_LONG),
    "fences": "```x`\n" * (_LONG // 6),
    "loop": "<p>spam" * (_LONG // 7),
    "too long": "<p>" * _LONG,
}
