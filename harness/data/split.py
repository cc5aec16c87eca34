"""Groups of near-duplicates, the split into train, validation and test, and what still leaks.

Two examples are near-duplicates when the Jaccard index of their targets' word 3-grams (of a
target of fewer than three words: its words) or of their prompts' words reaches a threshold, or
when their prompts or targets are the same text. A group is a connected component of that
relation. What a word is: `harness.data.words`; the prompt is the whole prompt, context
included. On html_alpaca (0.5 and 0.6) this gives 554 groups, the largest of 36.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from harness.config.schema import SplitConfig
from harness.data.similarity import Mask, alike_pairs
from harness.data.words import Positions, Sets, hashed_sets
from harness.errors import DataError
from harness.records import Example

Side = Literal["train", "test"]

TARGET_JACCARD = 0.5
PROMPT_JACCARD = 0.6


@dataclass(frozen=True, slots=True)
class Split:
    """The three parts; each example is in exactly one, and carries its group.

    raised: the Jaccard index from which on rows were grouped, where the thresholds asked for
            would have made one group of all rows.
    """

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    raised: float | None = None


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
    advance: Callable[[int], None] = lambda texts: None,
) -> list[int]:
    """For each example the position of the first example of its group.

    advance: told how many more texts are done, of four times as many as examples.
    """
    groups = _Groups(len(examples))
    for texts, n, threshold in (
        ([example.target for example in examples], 3, target_jaccard),
        ([example.prompt for example in examples], 1, prompt_jaccard),
    ):
        groups.join(*_equal(texts))
        sets = hashed_sets(texts, n, advance)
        keys = _set_keys(sets)
        groups.join(*_equal(keys))
        chosen = _distinct(keys)
        advance(len(keys) - len(chosen))
        for left, right in alike_pairs(sets, chosen, threshold, groups, advance):
            groups.join(left, right)
    labels: list[int] = groups.labels().tolist()
    return labels


def split(
    examples: Sequence[Example],
    config: SplitConfig,
    sides: Sequence[Side] | None = None,
    *,
    name: str = "the data",
    advance: Callable[[int], None] = lambda texts: None,
) -> Split:
    """Divide the examples as `config` says; `name` says in an error whose examples they are.

    advance: as of `near_duplicate_groups`.

    groups, random: units (groups of near-duplicates; single rows) are taken for test in an order
    that only the seed and the rows' ids decide, each if it still fits within config.test of the
    rows; where none fits, the smallest. The parts come in an order shuffled likewise, so that
    any beginning of one is a random sample of it. Where all rows are one group (prompts of one
    template), the thresholds are raised until the largest group is at most half of the rows.
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
    raised: float | None = None
    if config.method == "groups":
        firsts, raised = _grouped(examples, config, name, advance)
        grouped = [
            replace(example, group=examples[first].id)
            for example, first in zip(examples, firsts, strict=True)
        ]
    else:
        grouped = [replace(example, group=example.id) for example in examples]
    shuffled = sorted(grouped, key=lambda example: _order("row", config.seed, example.id))
    test, rest = _take(shuffled, config.test, "test", config.seed, at_least_one=True)
    validation, train = _take(rest, config.validation, "validation", config.seed)
    return Split(train, validation, test, raised)


def split_notes(parts: Split, config: SplitConfig) -> list[str]:
    """What the parts' sizes are and `config` did not ask for: one sentence each, with the mend."""
    notes = []
    rest = [*parts.train, *parts.validation]
    rows, held_out = len(rest) + len(parts.test), len(parts.test)
    asked = config.test * rows
    if parts.raised is not None:
        notes.append(
            f"by split.target_jaccard = {config.target_jaccard:g} and split.prompt_jaccard = "
            f"{config.prompt_jaccard:g} all {_rows(rows)} are near-duplicates of one another; rows "
            f"were grouped from a Jaccard index of {parts.raised:g} on instead, so held-out rows "
            "are closer to training rows than these settings allow (the contamination counts say "
            "how many); set both to choose, or give data that differs more."
        )
    bent = not 0.5 * asked <= held_out <= 1.5 * asked and abs(held_out - asked) > 1
    if config.method == "groups" and bent:
        largest = max(Counter(e.group for e in (*rest, *parts.test)).values())
        notes.append(
            f"{held_out:,} of {_rows(rows)} are held out ({held_out / rows:.0%}) where split.test "
            f"asks for {config.test:.0%}: groups of near-duplicates stay whole and the largest has "
            f"{_rows(largest)}; raise split.target_jaccard and split.prompt_jaccard, change "
            "split.test, or set split.method = 'random'."
        )
    if config.validation > 0 and not parts.validation:
        by_group = config.method == "groups"
        smallest = min(Counter(e.group for e in rest).values()) if by_group else 1
        least = math.ceil(100 * smallest / len(rest)) / 100
        mend = f"raise split.validation to {least:.2f}" if least < 1 else "give more data"
        notes.append(
            f"no row is left to validate on: split.validation = {config.validation:g} of "
            f"{_rows(len(rest))} is less than the smallest group, {_rows(smallest)}; {mend}, or "
            "set it to 0."
        )
    return notes


def _grouped(
    examples: Sequence[Example],
    config: SplitConfig,
    name: str,
    advance: Callable[[int], None],
) -> tuple[list[int], float | None]:
    """Groups by the thresholds asked for, or by raised ones where those leave one group only."""
    firsts = near_duplicate_groups(
        examples,
        target_jaccard=config.target_jaccard,
        prompt_jaccard=config.prompt_jaccard,
        advance=advance,
    )
    if len(set(firsts)) > 1:
        return firsts, None
    # The least of 0.01, 0.02, ... 1 at which the largest group is at most half: it only shrinks.
    low, high = 0, 100
    while low < high:
        raised = (low + high) // 2
        firsts = _from_on(raised / 100, examples, config)
        if 2 * max(Counter(firsts).values()) <= len(examples):
            high = raised
        else:
            low = raised + 1
    firsts = _from_on(low / 100, examples, config)
    if len(set(firsts)) < 2:
        raise DataError(
            f"all {len(examples)} rows of {name} are near-duplicates of one another, so none can "
            "be held out; at least 2 groups are needed: give data that differs more, or set "
            "split.method = 'random' in the task's file."
        )
    return firsts, low / 100


def _from_on(raised: float, examples: Sequence[Example], config: SplitConfig) -> list[int]:
    return near_duplicate_groups(
        examples,
        target_jaccard=max(raised, config.target_jaccard),
        prompt_jaccard=max(raised, config.prompt_jaccard),
    )


def contamination(
    train: Sequence[Example],
    test: Sequence[Example],
    *,
    target_jaccard: float = TARGET_JACCARD,
    prompt_jaccard: float = PROMPT_JACCARD,
    advance: Callable[[int], None] = lambda texts: None,
) -> Contamination:
    """Count the test examples that have an equal or a near training example (exact search).

    advance: told how many more texts are done, of four times as many as examples.
    """
    train_prompts, test_prompts = ([e.prompt for e in part] for part in (train, test))
    train_targets, test_targets = ([e.target for e in part] for part in (train, test))
    return Contamination(
        n_test=len(test),
        same_prompt=_count_same(train_prompts, test_prompts),
        same_target=_count_same(train_targets, test_targets),
        near_prompt=_count_near(train_prompts, test_prompts, 1, prompt_jaccard, advance),
        near_target=_count_near(train_targets, test_targets, 3, target_jaccard, advance),
    )


class _Groups:
    """Positions joined into groups; a group's label is its first position."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count, dtype=np.int64)

    def labels(self) -> Positions:
        return self._roots(np.arange(len(self._parent)))

    def join(self, left: Positions, right: Positions) -> None:
        """Put each of `left` into one group with its neighbour in `right`."""
        while True:
            a, b = self._roots(left), self._roots(right)
            apart = a != b
            if not apart.any():
                return
            left, right, a, b = left[apart], right[apart], a[apart], b[apart]
            np.minimum.at(self._parent, np.maximum(a, b), np.minimum(a, b))

    def wanted(self, left: Positions, right: Positions) -> Mask:
        """Pairs that are in one group are not compared."""
        wanted: Mask = self._roots(left) != self._roots(right)
        return wanted

    def settled(self, members: Positions) -> bool:
        roots = self._roots(members)
        return bool((roots == roots[0]).all())

    def _roots(self, positions: Positions) -> Positions:
        roots = self._parent[positions]
        while True:
            above = self._parent[roots]
            if (above == roots).all():
                self._parent[positions] = roots
                return roots
            roots = above


class _Found:
    """Which test texts have a training text that is near; training texts stand first."""

    def __init__(self, train: int, found: Mask) -> None:
        self._train, self.found = train, found

    def wanted(self, left: Positions, right: Positions) -> Mask:
        held_out = np.maximum(left, right)
        across = (held_out >= self._train) & (np.minimum(left, right) < self._train)
        wanted: Mask = across & ~self.found[held_out]
        return wanted

    def settled(self, members: Positions) -> bool:
        held_out = members[members >= self._train]
        return len(held_out) == len(members) or bool(self.found[held_out].all())


def _equal(keys: Sequence[Hashable]) -> tuple[Positions, Positions]:
    """Pairs that tie each key's later positions to its first; None is equal to nothing."""
    first: dict[Hashable, int] = {}
    firsts = np.fromiter(
        (at if key is None else first.setdefault(key, at) for at, key in enumerate(keys)),
        dtype=np.int64,
        count=len(keys),
    )
    later = np.flatnonzero(firsts != np.arange(len(keys)))
    return firsts[later], later


def _set_keys(sets: Sets) -> list[bytes | None]:
    """What tells sets apart: their hash; None for one without an element."""
    starts = sets.starts.tolist()
    return [
        hashlib.blake2b(sets.elements[a:b].data, digest_size=16).digest() if b > a else None
        for a, b in pairwise(starts)
    ]


def _distinct(keys: Sequence[Hashable]) -> Positions:
    """The first position of each key."""
    first: dict[Hashable, int] = {}
    for at, key in enumerate(keys):
        first.setdefault(key, at)
    return np.fromiter(first.values(), dtype=np.int64, count=len(first))


def _count_same(train: Sequence[str], test: Sequence[str]) -> int:
    known = set(train)
    return sum(text in known for text in test)


def _count_near(
    train: Sequence[str],
    test: Sequence[str],
    n: int,
    threshold: float,
    advance: Callable[[int], None],
) -> int:
    sets = hashed_sets((*train, *test), n, advance)
    keys = _set_keys(sets)
    known = {key for key in keys[: len(train)] if key is not None}
    near = np.array([key in known for key in keys])
    interest = _Found(len(train), near)
    # Of equal training texts one is enough; of equal held-out ones each counts.
    chosen = np.append(_distinct(keys[: len(train)]), np.arange(len(train), len(keys)))
    chosen = chosen[(chosen < len(train)) | ~near[chosen]]
    advance(len(keys) - len(chosen))
    for left, right in alike_pairs(sets, chosen, threshold, interest, advance):
        near[np.maximum(left, right)] = True
    return int(near[len(train) :].sum())


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
    return "1 row" if count == 1 else f"{count:,} rows"
