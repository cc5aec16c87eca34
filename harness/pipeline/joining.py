"""Two systems' answers side by side: the same samples, or an error that says which are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.errors import DataError
from harness.host.text import one_line
from harness.pipeline.predictions import Predictions
from harness.records import Sample


@dataclass(frozen=True, slots=True)
class Joined:
    """The answers of A and of B to the same prompts, in the order of A, and those prompts' groups.

    how: "id", or why by order.
    """

    a: list[Sample]
    b: list[Sample]
    groups: list[str]
    how: str


def join(a: Predictions, b: Predictions) -> Joined:
    """Pair the samples by id where all of both have one, else by order.

    Both must have the same samples with equal references; prompts, assertions and groups may
    stand in one of them only. Raises DataError, which names a sample that does not pair.
    """
    if a.by_id and b.by_id:
        how, others = "id", _by_id(a, b)
    else:
        bare = " and ".join(each.name for each in (a, b) if not each.by_id)
        how = f"order, for {one_line(bare)} gives no ids"
        if len(a.samples) != len(b.samples):
            raise DataError(
                f"{_of(a)} has {len(a.samples):,} samples and {_of(b)} {len(b.samples):,}: give as "
                "many, in the same order, or an 'id' with each sample of both."
            )
        others = b.samples
    pairs = [_agreed(x, y, a, b) for x, y in zip(a.samples, others, strict=True)]
    # Labels of groups may be each file's own: one file's are taken for all.
    groups = dict(zip((s.id for s in b.samples), b.groups, strict=True))
    taken = a.groups if any(a.groups) else [groups[sample.id] for sample in others]
    return Joined([x for x, _ in pairs], [y for _, y in pairs], taken, how)


def _by_id(a: Predictions, b: Predictions) -> list[Sample]:
    """The samples of B in the order of A."""
    found = {sample.id: sample for sample in b.samples}
    known = {sample.id for sample in a.samples}
    lacking = [
        (_missing([i for i in known_here if i not in there]), one, other)
        for known_here, there, one, other in (
            ([s.id for s in a.samples], found.keys(), a, b),
            ([s.id for s in b.samples], known, b, a),
        )
    ]
    said = [f"{what} of {_of(one)} not in {_of(other)}" for what, one, other in lacking if what]
    if said:
        raise DataError(f"{' and '.join(said)}: give the same samples in both.")
    return [found[sample.id] for sample in a.samples]


def _missing(ids: Sequence[str]) -> str:
    if not ids:
        return ""
    first = f"'{one_line(ids[0], 60)}'"
    return f"the id {first} is" if len(ids) == 1 else f"{len(ids):,} ids, the first {first}, are"


def _agreed(x: Sample, y: Sample, a: Predictions, b: Predictions) -> tuple[Sample, Sample]:
    name = f"'{one_line(x.id, 60)}'" + ("" if x.id == y.id else f" (there '{one_line(y.id, 60)}')")
    if x.reference != y.reference:
        raise DataError(
            f"the references of sample {name} differ between {_of(a)} and {_of(b)}: "
            "give the same samples in both."
        )
    if x.assertions and y.assertions and x.assertions != y.assertions:
        raise DataError(
            f"the assertions of sample {name} differ between {_of(a)} and {_of(b)}: "
            "give the same in both, or in one of them only."
        )
    return _completed(x, y), _completed(y, x)


def _completed(own: Sample, other: Sample) -> Sample:
    assertions = own.assertions or other.assertions
    return replace(own, prompt=own.prompt or other.prompt, assertions=assertions)


def _of(predictions: Predictions) -> str:
    return one_line(predictions.name, 100)
