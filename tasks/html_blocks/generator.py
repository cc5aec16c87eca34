"""html_blocks: prompts for pages and fragments, each with a reference and checks on its DOM.

A row is a *combination* (a family and the content drawn for it, see `families/`) in a phrasing.
Sides: the SHA-256 of the family's name and the reference says on which side a combination is, one
in four on test, whatever the seed and the sizes; so no combination is ever on both.
Phrasings: each family has four that training uses and two that it never sees. Test rows alternate
between "seen-family" (a trained phrasing, new content) and "unseen-phrasing" (a reserved one).
Order: families take turns, so any prefix of a side is a fair sample of it, and a longer side begins
with the shorter one's rows. Choices are read from SHA-256 (`choices.py`): same seed, same bytes.

Each family composes at least 10**9 contents (`combinations` counts them), so prompts never run out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Literal

from harness.records import Example

from .choices import Choices, CountingChoices
from .edits import load_edits
from .family import load

Side = Literal["train", "test"]

SEEN = "seen-family"
UNSEEN = "unseen-phrasing"

# In the order in which rows take turns, page and fragment kinds mixed. An odd number, so that the
# two kinds of test rows (which alternate) meet every family in turn.
FAMILIES = (
    *map(load, ("headings", "form", "list", "page")),
    load_edits("form", "nav", "figure", "list", "table", "page"),
    *map(load, ("table", "navigation", "card", "nested-list")),
    *map(load, ("figure", "definitions", "article", "details")),
)

_TEST_ONE_IN = 4
_ATTEMPTS = 10_000


def generate(*, seed: int, train: int, test: int) -> Iterator[tuple[Side, Example]]:
    """`train` training rows, then `test` held-out rows, all prompts and references different.

    Example.group is the combination's key; Example.kind is "" in training, SEEN or UNSEEN in test.
    Raises ValueError where a family has no new combination left for a side of that size.
    """
    for row in _side("train", seed, train):
        yield "train", row
    for row in _side("test", seed, test):
        yield "test", row


def combinations() -> dict[str, int]:
    """How many contents each family can compose, at least (both sides, one phrasing)."""
    counts = {}
    for family in FAMILIES:
        counting = CountingChoices()
        family.draw(counting)
        counts[family.name] = counting.total
    return counts


def side_of(family: str, reference: str) -> Side:
    """The side of a combination, the same for every seed."""
    digest = _digest(family, reference)
    return "test" if int(digest[:8], 16) % _TEST_ONE_IN == 0 else "train"


def _side(side: Side, seed: int, rows: int) -> Iterator[Example]:
    references: set[str] = set()
    prompts: set[str] = set()
    for index in range(rows):
        family = FAMILIES[index % len(FAMILIES)]
        kind = "" if side == "train" else (SEEN, UNSEEN)[index % 2]
        for attempt in range(_ATTEMPTS):
            c = Choices(f"{seed}/{side}/{index}/{attempt}")
            # Drawn before the content, so that a change to a family's content keeps its phrasings.
            phrasing = c.one(family.reserved if kind == UNSEEN else family.trained)
            content = family.draw(c)
            target = family.write(content)
            if side_of(family.name, target) != side or target in references:
                continue
            prompt = phrasing(content)
            if prompt not in prompts:
                break
        else:
            raise ValueError(
                f"html_blocks has no new {family.name!r} for row {index} of {side}; "
                f"ask for fewer rows"
            )
        references.add(target)
        prompts.add(prompt)
        yield Example(
            id=f"{side}-{index:05d}-{family.name}",
            prompt=prompt,
            target=target,
            kind=kind,
            group=f"{family.name}-{_digest(family.name, target)[:16]}",
            assertions=tuple(family.check(content)),
        )


def _digest(family: str, reference: str) -> str:
    return hashlib.sha256(f"{family}\n{reference}".encode()).hexdigest()
