"""Predictions to score: one system's answers, and how a file of them is read and checked."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from harness.data.local import MAX_BYTES
from harness.data.text_files import read_json_lines
from harness.errors import DataError, UsageError
from harness.host.files import file_digest
from harness.host.paths import no_file
from harness.host.text import one_line, quoted
from harness.records import Assertion, FinishReason, Sample
from harness.reports.rows import Origin

KEYS = ("prediction", "reference", "id", "prompt", "assertions", "finish_reason", "group")
_ASSERTION_KEYS = tuple(f.name for f in fields(Assertion))
_KINDS = {str: "a string", bool: "true or false", int: "a number", float: "a number"} | {
    list: "a list",
    dict: "an object",
    type(None): "null",
}


@dataclass(frozen=True, slots=True)
class Predictions:
    """One system's answers, a sample each, in order.

    name:    what to call it: a file's name, or a run's folder and its system.
    groups:  a label a sample; samples of one group are near-duplicates, "" stands alone.
    by_id:   whether every sample came with an id, so that it can be joined by it.
    source:  what the answers are, as plain data: name, sha256, rows and the like.
    origin:  the columns of the tables that tell where a run's answers come from.
    """

    name: str
    samples: list[Sample]
    groups: list[str]
    by_id: bool
    source: dict[str, Any]
    origin: Origin


def read_predictions(path: Path) -> Predictions:
    """The answers in a file, one JSON object a line; blank lines are passed over.

    prediction, reference: strings, needed.
    id:            a string or whole number; without it a line's number stands in.
    prompt:        a string. group: a string or whole number, alike in near-duplicates.
    assertions:    a list of objects with the fields of harness.records.Assertion.
    finish_reason: "stop" or "length".
    null is as good as no key, where a key may be left out; other keys are ignored.
    Raises DataError, which names the line.
    """
    digest = _check(path)
    samples, groups, by_id = _samples(read_json_lines(path), f"{quoted(path)} line")
    if not samples:
        raise DataError(f"{quoted(path)} holds no sample: give one JSON object a line.")
    source = {"name": path.name, "sha256": digest, "rows": len(samples)}
    origin = Origin(path.stem, "predictions", "as given", 0, path.name)
    return Predictions(path.name, samples, groups, by_id, source, origin)


def predictions_of(name: str, columns: Mapping[str, Iterable[Any] | None]) -> Predictions:
    """The answers in lists, one value a sample, under the keys that a file's lines have.

    name: what to call them. columns: None for a key that is not given; what a value may be
    `read_predictions` says. Raises DataError, which names the sample, from 1 on.
    """
    lists: dict[str, list[Any]] = {}
    for key, values in columns.items():
        if values is None:
            continue
        if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
            raise DataError(f"{name}: {key!r} is {_kind(values)}: give a list, a value a sample.")
        lists[key] = list(values)
    counts = {len(values) for values in lists.values()}
    if len(counts) > 1:
        told = ", ".join(f"{len(values):,} of {key!r}" for key, values in lists.items())
        raise DataError(f"{name}: there are {told}: give one of each for every sample.")
    rows = (dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True))
    samples, groups, by_id = _samples(enumerate(rows, start=1), f"{name}: sample")
    if not samples:
        raise DataError(f"{name}: there is no sample: give one answer and reference at least.")
    origin = Origin(name, "predictions", "as given", 0, name)
    return Predictions(name, samples, groups, by_id, {"name": name, "rows": len(samples)}, origin)


def _samples(rows: Iterable[tuple[int, Any]], place: str) -> tuple[list[Sample], list[str], bool]:
    """The samples in numbered rows, their groups, and whether all came with an id.

    place: what a row's number follows, as "'answers.jsonl' line". Raises DataError.
    """
    samples: list[Sample] = []
    groups: list[str] = []
    numbers: dict[str, int] = {}
    given = 0
    unit = place.rpartition(" ")[2]
    for number, row in rows:
        where = f"{place} {number}"
        if not isinstance(row, dict):
            raise DataError(f"{where} is {_kind(row)}: give one JSON object a line.")
        sample, group, has_id = _sample(row, number, where)
        if sample.id in numbers:
            raise DataError(
                f"{where} has the id '{one_line(sample.id)}' of {unit} {numbers[sample.id]}: "
                "give each sample an id of its own."
            )
        numbers[sample.id] = number
        samples.append(sample)
        groups.append(group)
        given += has_id
    return samples, groups, given == len(samples)


def _check(path: Path) -> str:
    """SHA-256 of a regular file of bounded size. Raises DataError."""
    fault = no_file(path)
    if fault == "does not exist":
        raise DataError(f"{quoted(path)} does not exist: check the path.")
    if fault:
        raise DataError(f"{quoted(path)} {fault}: give a JSONL file of predictions.")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(
            f"{quoted(path)} is larger than {MAX_BYTES >> 20} MiB, the most that is read: "
            "give a part of it."
        )
    try:
        return file_digest(path)
    except OSError as error:  # a disk that fails
        reason = one_line(error.strerror or error)
        raise DataError(f"{quoted(path)} cannot be read ({reason}): check the disk.") from None


def _sample(row: Mapping[str, Any], number: int, where: str) -> tuple[Sample, str, bool]:
    """The sample, its group, and whether it came with an id."""
    for key in ("prediction", "reference"):
        if row.get(key) is None:
            raise DataError(f"{where} has no {key!r}: {_near(key, row)}")
    name = _label(row, "id", where)
    finish_reason = row.get("finish_reason")
    if finish_reason is not None and finish_reason not in get_args(FinishReason):
        raise DataError(
            f"{where}: finish_reason is {_shown(finish_reason)}: give 'stop', or 'length' for an "
            "answer that was cut off, or leave it out."
        )
    sample = Sample(
        id=str(number) if name is None else name,
        prompt=_text(row, "prompt", where),
        reference=_text(row, "reference", where),
        prediction=_text(row, "prediction", where),
        assertions=_assertions(row.get("assertions"), where),
        finish_reason=finish_reason,
    )
    return sample, _label(row, "group", where) or "", name is not None


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: {key!r} is {_kind(value)}: give a string.")
    return value


def _label(row: Mapping[str, Any], key: str, where: str) -> str | None:
    value = row.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{where}: {key!r} is {_kind(value)}: give a string or a whole number.")


def _assertions(value: Any, where: str) -> tuple[Assertion, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise DataError(f"{where}: 'assertions' is {_kind(value)}: give a list of objects.")
    return tuple(
        _assertion(each, f"{where}, assertion {at}") for at, each in enumerate(value, start=1)
    )


def _assertion(value: Any, where: str) -> Assertion:
    if not isinstance(value, dict):
        raise DataError(f"{where}: it is {_kind(value)}: give an object with a 'selector'.")
    for key in value:
        if key not in _ASSERTION_KEYS:
            near = difflib.get_close_matches(key, _ASSERTION_KEYS, n=1)
            known = ", ".join(_ASSERTION_KEYS)
            mend = f"did you mean {near[0]!r}?" if near else f"known are {known}."
            raise DataError(f"{where}: unknown key '{one_line(key, 40)}': {mend}")
    if value.get("selector") is None:
        raise DataError(f"{where} has no 'selector': give a CSS selector.")
    count = value.get("count")
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        raise DataError(f"{where}: 'count' is {_shown(count)}: give a whole number from 0 on.")
    texts = {
        key: _text(value, key, where) if value.get(key) is not None else None
        for key in ("text", "attribute", "value")
    }
    assertion = Assertion(_text(value, "selector", where), count, **texts)
    if assertion.value is not None and assertion.attribute is None:
        raise DataError(f"{where} has a 'value' but no 'attribute': name the attribute.")
    from harness.scorers.html.assertions import check

    try:
        check("", assertion)  # a selector that is none is told here, with its line
    except UsageError as error:
        raise DataError(f"{where}: {one_line(error, 300)}") from None
    return assertion


def _near(key: str, row: Mapping[str, Any]) -> str:
    if key in row:
        return "it is null where a string belongs."
    others = [name for name in row if name not in KEYS]
    near = difflib.get_close_matches(key, others, n=1)
    if near:
        return f"'{one_line(near[0], 40)}' is there, did you mean {key!r}?"
    return "each line needs 'prediction' and 'reference'."


def _kind(value: Any) -> str:
    return _KINDS.get(type(value)) or f"of the type {type(value).__name__}"


def _shown(value: Any) -> str:
    return f"'{one_line(value, 40)}'" if isinstance(value, str | int | float) else _kind(value)
