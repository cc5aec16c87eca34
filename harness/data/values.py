"""A cell of the data as text: what is text, what can be read as text, and what cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

Part = Literal["prompt", "target", "context"]

_KINDS = {list: "a list", dict: "an object", bool: "true or false", float: "a fraction"}


@dataclass(frozen=True, slots=True)
class WrongType:
    """What stands where text is needed, such as "a list"."""

    kind: str


def as_text(value: Any, part: Part) -> str | WrongType | None:
    """The text of a cell, None where it has none (absent or null), or what it is instead.

    A whole number is its digits. A conversation, a list of {"role": ..., "content": ...}, has as
    target the last assistant's turn and as prompt the user's turn before it.
    """
    if value is None or isinstance(value, str | WrongType):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if is_conversation(value):
        return _content(_turn(value, part))
    return WrongType(_KINDS.get(type(value), type(value).__name__))


def is_conversation(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    """Whether a cell is a list of turns with a role."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in value)
    )


def turns_left_out(turns: list[dict[str, Any]]) -> int:
    """How many turns of a conversation are neither prompt nor target: earlier, later, a system's.

    (Of a column that holds prompts or targets alone, all but the one.)
    """
    used = [_turn(turns, "prompt"), _turn(turns, "target")]
    return len(turns) - sum(turn is not None for turn in used)


def _turn(turns: list[dict[str, Any]], part: Part) -> dict[str, Any] | None:
    answers = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
    if part == "target":
        return turns[answers[-1]] if answers else None
    before = turns[: answers[-1]] if answers else turns
    asked = [turn for turn in before if turn["role"] == "user"]
    return asked[-1] if asked else None


def _content(turn: dict[str, Any] | None) -> str | WrongType | None:
    content = None if turn is None else turn["content"]
    if content is None or isinstance(content, str):
        return content
    return WrongType(f"a conversation whose content is {_KINDS.get(type(content), 'no text')}")
