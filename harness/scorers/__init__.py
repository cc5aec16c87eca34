"""The registry of scorers. Importing it imports none of them."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence

from harness.errors import UsageError
from harness.records import Sample
from harness.scorers.base import Scorer

__all__ = ["Scorer", "describe", "get", "names", "score_all"]

# name → (where its class is, one line for `harness list scorers`)
_SCORERS: dict[str, tuple[str, str]] = {
    "exact_match": (
        "harness.scorers.exact:ExactMatch",
        "answer and reference are equal after strip()",
    ),
    "rouge": (
        "harness.scorers.rouge:Rouge",
        "ROUGE-1, -2, -L and -Lsum F1, equal to rouge-score 0.1.2; blind to markup",
    ),
    "validity": (
        "harness.scorers.validity:Validity",
        "HTML validity with and without the doctype, parse errors, balance of tags",
    ),
    "assertions": (
        "harness.scorers.assertions:Assertions",
        "share of the task's DOM assertions that the answer passes, and whether all do",
    ),
    "answers": (
        "harness.scorers.answers:Answers",
        "whether the answer is empty, cut off by the token limit, or has a code fence",
    ),
}


def names() -> list[str]:
    """The names that a task's `scorers` may hold."""
    return list(_SCORERS)


def describe(name: str) -> str:
    """One line on what `name` measures. Raises UsageError on an unknown name."""
    return _SCORERS[_known(name)][1]


def get(names: Sequence[str]) -> list[Scorer]:
    """The scorers of these names, in order, each once. Raises UsageError on an unknown name."""
    places = [_SCORERS[_known(name)][0].split(":") for name in dict.fromkeys(names)]
    return [getattr(importlib.import_module(module), cls)() for module, cls in places]


def score_all(
    samples: Sequence[Sample],
    scorers: Sequence[Scorer],
    progress: Callable[[int], None] | None = None,
) -> list[dict[str, float | None]]:
    """All metrics of all scorers for each sample, in the order of `samples`.

    progress: called after each sample with the number that are done.
    """
    rows: list[dict[str, float | None]] = []
    for sample in samples:
        row: dict[str, float | None] = {}
        for scorer in scorers:  # all scorers of one sample together: they share its parse
            row.update(scorer.score(sample))
        rows.append(row)
        if progress is not None:
            progress(len(rows))
    return rows


def _known(name: str) -> str:
    if name in _SCORERS:
        return name
    near = difflib.get_close_matches(name, _SCORERS, n=1)
    mend = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_SCORERS)}."
    raise UsageError(f"there is no scorer {name!r}: {mend}")
