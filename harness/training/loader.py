"""The samples of each optimiser step, as a PyTorch DataLoader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch.utils.data import DataLoader

from harness.config.schema import RecipeConfig
from harness.data.tokens import TokenSample
from harness.training.schedule import examples_of_step

if TYPE_CHECKING:
    from collections.abc import Iterator


def step_loader(
    samples: Sequence[TokenSample], recipe: RecipeConfig, seed: int, first: int, total: int
) -> DataLoader[list[TokenSample]]:
    """The samples of optimiser steps `first` to `total` - 1 (0-based), a list for each step.

    The order is the schedule's, a function of (seed, step): a resumed training is given the same.
    """
    return DataLoader(
        samples,  # type: ignore[arg-type]  # a sequence is a map-style data set
        batch_sampler=_Steps(recipe, [len(sample.ids) for sample in samples], seed, first, total),
        collate_fn=list,
    )


class _Steps:
    """Yields the indices of the examples of each step."""

    def __init__(
        self, recipe: RecipeConfig, lengths: Sequence[int], seed: int, first: int, total: int
    ) -> None:
        self._recipe, self._lengths, self._seed = recipe, lengths, seed
        self._steps = range(first, total)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            yield examples_of_step(self._recipe, self._lengths, self._seed, step)
