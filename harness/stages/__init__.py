"""The stages of a run, one file each: what each reads, makes and is made by."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.runs.stage import Stage


@cache
def stages(adapters: tuple[str, ...] = ()) -> tuple[Stage, ...]:
    """All of them, in order: prepare, train, each system's generate and likelihood, score, compare.

    adapters: names of those that the run was given. None imports torch before it is made.
    """
    from harness.stages import compare, generate, likelihood, prepare, score, train
    from harness.systems import generating

    systems = generating(adapters)
    answered = (make(each) for each in systems for make in (generate.stage, likelihood.stage))
    return (prepare.STAGE, train.STAGE, *answered, score.stage(systems), compare.stage(systems))


def stage_names(adapters: tuple[str, ...] = ()) -> list[str]:
    """Their names, in order."""
    return [stage.name for stage in stages(adapters)]
