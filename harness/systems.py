"""Systems: whatever answers prompts. A comparison is of system B against system A.

A system either generates, through a backend and perhaps with the run's adapter, or its answers are
made from what the run's folder holds already: `texts`. One of either kind is an entry here. One
that asks with other prompts also needs them where examples become requests
(`inference/answering.py`), and in the inputs of `stages/generate.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.runs.view import RunView

Texts = Callable[[RunView], list[str]]


@dataclass(frozen=True, slots=True)
class System:
    """What answers prompts.

    name:    in files and tables.
    adapter: it answers with the adapter that the run trains, or with a given one of its name.
    texts:   of a system without a model, its answers to what is asked, in order.
    """

    name: str
    adapter: bool = False
    texts: Texts | None = None

    @property
    def generates(self) -> bool:
        """Whether a backend answers for it."""
        return self.texts is None


def _nearest(view: RunView) -> list[str]:
    from harness.data.nearest import nearest

    return [each.target for each in nearest(view.examples("test"), view.examples("train"))]


BASE = System("base")
TUNED = System("tuned", adapter=True)
REFERENCE = System("reference", texts=RunView.written_references)
"""The references, as the tokenizer can write them: the ceiling."""
NEAREST = System("nearest", texts=_nearest)
"""The training answer whose prompt is nearest: the floor of an adapter that has learnt to copy."""

COMPARED = (BASE, TUNED)
"""A and B of a run's comparison."""

AS_GIVEN = "reference_as_given"
"""Scores of the references as the data has them, where the tokenizer cannot write some of them."""


def generating(adapters: Iterable[str] = ()) -> tuple[System, ...]:
    """The systems of a run that a backend answers for. adapters: names of those that it was
    given beside its own."""
    return (BASE, TUNED, *(System(name, adapter=True) for name in adapters))


def systems(adapters: Iterable[str] = ()) -> tuple[System, ...]:
    """All systems of a run."""
    return (*generating(adapters), REFERENCE, NEAREST)
