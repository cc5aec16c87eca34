"""Groups of near-duplicates, the split into train, validation and test, and what still leaks.

Two examples are near-duplicates when the Jaccard index of their targets' word 3-grams (of a
target of fewer than three words: its words) or of their prompts' words reaches a threshold, or
when their prompts or targets are the same text. A group is a connected component of that
relation. What a word is: `harness.data.similarity`; the prompt is the whole prompt, context
included. On html_alpaca (0.5 and 0.6) this gives 554 groups, the largest of 36.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from harness.config.schema import SplitConfig
from harness.data.similarity import JaccardIndex, Positions, word_ngrams, words
from harness.errors import DataError
from harness.records import Example

Side = Literal["train", "test"]

TARGET_JACCARD = 0.5
PROMPT_JACCARD = 0.6


@dataclass(frozen=True, slots=True)
class Split:
    """The three parts; each example is in exactly one, and carries its group."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]


@dataclass(frozen=True, slots=True)
class Contamination:
    """How many of the `n_test` held-out examples have a training example that is ...

    same_prompt, same_target: equal in that text;
    near_prompt: of prompt words with a Jaccard index of at least the threshold (0.6);
    near_target: of target word 3-grams with one of at least the threshold (0.5).
    The near ones include the equal ones, where the text has any word.
    """

    n_test: int
    same_prompt: int
    same_target: int
    near_prompt: int
    near_target: int

    def to_json(self) -> dict[str, Any]:
        """Each count, and under `<count>_share` its share of the test examples (0.0 of none)."""
        row: dict[str, Any] = {"n_test": self.n_test}
        for name in ("same_prompt", "same_target", "near_prompt", "near_target"):
            count = getattr(self, name)
            row[name] = count
            row[f"{name}_share"] = count / self.n_test if self.n_test else 0.0
        return row


def near_duplicate_groups(
    examples: Sequence[Example],
    *,
    target_jaccard: float = TARGET_JACCARD,
    prompt_jaccard: float = PROMPT_JACCARD,
) -> list[int]:
    """For each example the position of the first example of its group."""
    labels = np.arange(len(examples), dtype=np.int64)
    targets = [example.target for example in examples]
    prompts = [example.prompt for example in examples]
    for texts, as_set, threshold in (
        (targets, word_ngrams, target_jaccard),
        (prompts, _word_set, prompt_jaccard),
    ):
        _join_equal(labels, texts)
        _join_similar(labels, texts, as_set, threshold)
    return [int(label) for label in labels]


def split(
    examples: Sequence[Example],
    config: SplitConfig,
    sides: Sequence[Side] | None = None,
    *,
    name: str = "the data",
) -> Split:
    """Divide the examples as `config` says; `name` says in an error whose examples they are.

    groups, random: units (groups of near-duplicates; single rows) are taken for test in an order
    that only the seed and the rows' ids decide, each if it still fits within config.test of the
    rows; where none fits, the smallest. The parts come in an order shuffled likewise, so that
    any beginning of one is a random sample of it.
    provided: `sides` says it; rows stay in their order. The validation part is taken from the
    rest in the same way as the test part (row by row under random and provided); it may be
    empty, train and test never are. Orders are those of SHA-256 digests, the same everywhere.

    Raises DataError when a side would be empty.
    """
    if config.method == "provided":
        return _split_provided(examples, config, sides, name)
    if len(examples) < 2:
        raise DataError(
            f"{name} has {_rows(len(examples))} that can be used; at least 2 are needed, "
            "one to train on and one to test on: give more data or a higher --limit."
        )
    if config.method == "groups":
        firsts = near_duplicate_groups(
            examples, target_jaccard=config.target_jaccard, prompt_jaccard=config.prompt_jaccard
        )
        if len(set(firsts)) < 2:
            raise DataError(
                f"all {len(examples)} rows of {name} are near-duplicates of one another, so none "
                "can be held out; at least 2 groups are needed: give data that differs more, or "
                "set split.method = 'random' in the task's file."
            )
        grouped = [
            replace(example, group=examples[first].id)
            for example, first in zip(examples, firsts, strict=True)
        ]
    else:
        grouped = [replace(example, group=example.id) for example in examples]
    shuffled = sorted(grouped, key=lambda example: _order("row", config.seed, example.id))
    test, rest = _take(shuffled, config.test, "test", config.seed, at_least_one=True)
    validation, train = _take(rest, config.validation, "validation", config.seed)
    return Split(train, validation, test)


def contamination(
    train: Sequence[Example],
    test: Sequence[Example],
    *,
    target_jaccard: float = TARGET_JACCARD,
    prompt_jaccard: float = PROMPT_JACCARD,
) -> Contamination:
    """Count the test examples that have an equal or a near training example (exact search)."""
    train_prompts = {example.prompt for example in train}
    train_targets = {example.target for example in train}
    return Contamination(
        n_test=len(test),
        same_prompt=sum(example.prompt in train_prompts for example in test),
        same_target=sum(example.target in train_targets for example in test),
        near_prompt=_count_near(
            train_prompts, [example.prompt for example in test], _word_set, prompt_jaccard
        ),
        near_target=_count_near(
            train_targets, [example.target for example in test], word_ngrams, target_jaccard
        ),
    )


def _word_set(text: str) -> frozenset[str]:
    return frozenset(words(text))


_AsSet = Callable[[str], frozenset[Any]]


def _join_equal(labels: Positions, keys: Sequence[Hashable]) -> None:
    """Give examples of equal keys one label."""
    first_seen: dict[Hashable, int] = {}
    for position, key in enumerate(keys):
        first = first_seen.setdefault(key, position)
        if labels[first] != labels[position]:
            _merge(labels, np.array([labels[first], labels[position]]))


def _join_similar(labels: Positions, texts: Sequence[str], as_set: _AsSet, share: float) -> None:
    """Give examples whose texts' sets are alike one label; pairs that have one are not compared."""
    sets = [as_set(text) for text in texts]
    distinct: dict[frozenset[Any], int] = {}
    for position, members in enumerate(sets):
        if members:
            distinct.setdefault(members, position)
    # An empty set (no word at all) is like nothing; its own position keeps the keys apart.
    _join_equal(labels, [distinct.get(s, ~position) for position, s in enumerate(sets)])
    owners = np.fromiter(distinct.values(), dtype=np.int64, count=len(distinct))
    index = JaccardIndex(list(distinct), share)
    for position, members in enumerate(distinct):
        owned = labels[owners]
        wanted = owned != owned[position]
        wanted[position:] = False
        found = index.matches(members, wanted)
        if len(found):
            _merge(labels, np.append(owned[found], owned[position]))


def _merge(labels: Positions, joined: Positions) -> None:
    labels[np.isin(labels, joined)] = joined.min()


def _count_near(train: Iterable[str], test: Sequence[str], as_set: _AsSet, threshold: float) -> int:
    index = JaccardIndex(list({as_set(text) for text in train}), threshold)
    return sum(len(index.matches(as_set(text))) > 0 for text in test)


def _split_provided(
    examples: Sequence[Example], config: SplitConfig, sides: Sequence[Side] | None, name: str
) -> Split:
    if sides is None or len(sides) != len(examples):
        raise DataError(
            f"{name} does not say which side each row is on, as split.method = 'provided' needs: "
            "set split.method = 'groups' in the task's file."
        )
    own = [replace(example, group=example.group or example.id) for example in examples]
    test = [example for example, side in zip(own, sides, strict=True) if side == "test"]
    rest = [example for example, side in zip(own, sides, strict=True) if side == "train"]
    for part, what in ((rest, "train"), (test, "test")):
        if not part:
            raise DataError(
                f"{name} has no {what} row among its {_rows(len(examples))}; at least 1 on each "
                "side is needed: mend the task's generator or give a higher --limit."
            )
    validation, train = _take(rest, config.validation, "validation", config.seed)
    return Split(train, validation, test)


def _take(
    examples: list[Example], share: float, what: str, seed: int, *, at_least_one: bool = False
) -> tuple[list[Example], list[Example]]:
    """Groups of at most `share` of the examples, and the rest; both keep the order given."""
    groups: dict[str, int] = {}
    for example in examples:
        groups[example.group] = groups.get(example.group, 0) + 1
    order = sorted(groups, key=lambda group: _order(what, seed, group))
    # The small addend keeps a product such as 0.7 * 10 = 6.999... at the 7 that is meant.
    room = min(math.floor(share * len(examples) + 1e-9), len(examples) - 1)
    taken: set[str] = set()
    for group in order:
        if groups[group] <= room:
            taken.add(group)
            room -= groups[group]
    if not taken and at_least_one:
        taken.add(min(order, key=lambda group: groups[group]))
    return (
        [example for example in examples if example.group in taken],
        [example for example in examples if example.group not in taken],
    )


def _order(what: str, seed: int, key: str) -> tuple[bytes, str]:
    return hashlib.sha256(f"{what}:{seed}:{key}".encode()).digest(), key


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
