"""Edits: a page or fragment is given in the prompt, and one or two changes to it are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.records import Assertion

from ..choices import Choices
from ..family import Family, lines
from .drafts import DRAFTS, Change


@dataclass(frozen=True)
class Edit:
    before: str
    after: str
    changes: tuple[Change, ...]
    kept: tuple[Assertion, ...]


def _draw(c: Choices) -> Edit:
    draft = c.one(DRAFTS)(c)
    before = draft.write()
    needed = draft.needed()
    wanted = (*needed, *c.some(draft.changes(), c.between(1, 2) - len(needed)))
    changes = tuple(change(c) for change in wanted)
    return Edit(before, draft.write(), changes, tuple(draft.kept()))


def _write(x: Edit) -> str:
    return x.after


def _check(x: Edit) -> Sequence[Assertion]:
    return [*(check for change in x.changes for check in change.checks), *x.kept]


def _words(x: Edit, wording: Callable[[Change], str]) -> list[str]:
    return [wording(change) for change in x.changes]


def _order(x: Edit) -> str:
    return f"{' '.join(_words(x, lambda change: change.order))}\n\n{x.before}"


def _question(x: Edit) -> str:
    states = ", and ".join(_words(x, lambda change: change.state))
    return f"Can you edit this HTML so that {states}?\n{x.before}"


def _spec(x: Edit) -> str:
    count = "one change" if len(x.changes) == 1 else f"{len(x.changes)} changes"
    orders = lines(_words(x, lambda change: change.order))
    return f"input:\n{x.before}\noutput: the whole input with {count} made to it\n{orders}"


def _story(x: Edit) -> str:
    states = ", and ".join(_words(x, lambda change: change.state))
    return (
        f"This is what our site has today:\n{x.before}\nFrom tomorrow it must be otherwise: "
        f"{states}. All else stays as it is. Please send the new version."
    )


def _ticket(x: Edit) -> str:
    return (
        f"{x.before}\n\nReview of the above, to be worked in (the rest is approved):\n"
        f"{lines(_words(x, lambda change: change.terse), '* ')}"
    )


def _afterwards(x: Edit) -> str:
    states = " ".join(
        f"({i}) {state}." for i, state in enumerate(_words(x, lambda change: change.state), 1)
    )
    return (
        f"Below the line is an old version. In the one that replaces it, only this differs: "
        f"{states} Write the replacement in full.\n---\n{x.before}"
    )


EDITS = Family(
    "edit", _draw, _write, _check, (_order, _question, _spec, _story), (_ticket, _afterwards)
)
