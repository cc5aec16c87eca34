"""The words that content is made of, as words.toml gives them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

_WORDS = tomllib.loads(Path(__file__).with_name("words.toml").read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class Theme:
    """One little world; its name stands in paths."""

    name: str
    items: tuple[str, ...]
    places: tuple[str, ...]
    states: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


def _options(text: str) -> tuple[str, ...]:
    return tuple(option.strip() for option in text.split("|"))


THEMES = tuple(
    Theme(name, *map(_options, banks.splitlines())) for name, banks in _WORDS["themes"].items()
)
BANKS = {name: _options(text) for name, text in _WORDS["banks"].items()}
UNUSUAL, PEOPLE, COLOURS = BANKS["unusual"], BANKS["person"], BANKS["colour"]
WORDS, ACTIONS = BANKS["word"], BANKS["action"]

# Texts to be drawn: one pattern a name, or several.
PATTERNS: dict[str, str] = _WORDS["patterns"]
SENTENCES, TITLES, ENTRIES = (
    tuple(_WORDS["texts"][name].splitlines()) for name in ("sentence", "title", "entry")
)


def capital(text: str) -> str:
    """The text with a capital first letter; unusual texts stay as they are."""
    return text if text in UNUSUAL else text[:1].upper() + text[1:]
