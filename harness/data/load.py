"""A task's rows as examples: from the hub, a local file or folder, or the task's generator."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.config.schema import ColumnsConfig, TaskConfig
from harness.data import generator, hub, local
from harness.data.rows import Rows, used_columns
from harness.data.text_files import REPLACEMENT, replace_surrogates
from harness.data.values import WrongType, as_text, is_conversation, turns_left_out
from harness.errors import DataError
from harness.host.signals import check
from harness.host.text import listed, quoted
from harness.records import Example

MAX_CHARACTERS = 1_000_000  # of one prompt or target; a longer one is skipped


@dataclass(frozen=True, slots=True)
class Loaded:
    """A task's usable rows.

    sides:    which side each example is on, where the generator says it, else None.
    digest:   SHA-256 over the examples, one canonical JSON line each (with its side, if any).
    skipped:  reason -> how many rows were left out for it.
    repaired: what was replaced inside kept or skipped rows -> how many characters.
    source:   the path, the hub's name or the generator that the rows came from.
    """

    examples: list[Example]
    sides: list[Literal["train", "test"]] | None
    digest: str
    skipped: dict[str, int]
    source: str
    repaired: dict[str, int] = field(default_factory=dict)


def load(
    task: TaskConfig,
    *,
    task_dir: Path,
    path: str | None = None,
    advance: Callable[[int], None] = lambda rows: None,
) -> Loaded:
    """Read the task's rows; `path` is a local file or folder to read instead of the hub.

    An example's id is its row's number in the source, six digits, from 0: skipped rows leave
    gaps. Line ends become "\\n", a leading byte order mark goes, NUL and lone surrogates become
    U+FFFD; `harness.data.values` says what is read as text. A row whose prompt or target is
    missing (absent or null), of a wrong type, empty (blank) or too long (over MAX_CHARACTERS) is
    skipped and counted. advance: told how many more rows are read.

    Raises DataError (unusable data), MissingError (hub data that cannot be had), StorageError.
    """
    _check_path_makes_sense(task, path)
    if task.data.generator is not None:
        return _load_generated(task, task_dir)
    columns, name = _columns(task), task.data.hub or ""
    if path is None:
        source = name
        folder = str(hub.fetch_snapshot(task, lambda line: None))
        rows = local.read(folder, columns, task.data.split, task.data.config)
    else:
        source = path
        rows = local.read(path, columns, task.data.split, task.data.config)
    skipped: Counter[str] = Counter()
    repaired: Counter[str] = Counter()
    examples = []
    for index, row in enumerate(rows.rows):
        check()
        advance(1)
        prompt = _prompt(row, columns, repaired)
        target = _clean(as_text(row.get(columns.target), "target"), repaired)
        texts = _usable(prompt, target, skipped)
        if texts is not None:
            examples.append(Example(_id(index), *texts))
    _check_columns(rows, columns, source, task.name)
    return _loaded(examples, None, skipped, repaired, source, quoted(source))


def available(task: TaskConfig, path: str | None = None) -> str | None:
    """Whether `load` has something to read: None, or one sentence why not. Reads no row.

    A local path is looked at; a data set of the hub is looked for in the cache, else the hub is
    asked for a connection, which takes 2 s at most.
    """
    try:
        _check_path_makes_sense(task, path)
        if path is not None:
            local.check(path)
    except DataError as error:
        return str(error)
    if path is None and task.data.hub is not None:
        return hub.problem(task)
    return None


def _check_path_makes_sense(task: TaskConfig, path: str | None) -> None:
    if path is not None and task.data.generator is not None:
        raise DataError(
            f"task '{task.name}' makes its own rows and cannot read {quoted(path)}: "
            f"leave out --data {task.name}=PATH."
        )


def _columns(task: TaskConfig) -> ColumnsConfig:
    if task.columns is None:  # the schema holds tasks of the hub to it
        raise DataError(f"task '{task.name}' has no [columns] table: add one to its task.toml.")
    return task.columns


def _check_columns(rows: Rows, columns: ColumnsConfig, source: str, task: str) -> None:
    if not rows.columns:
        raise DataError(f"{quoted(source)} has no rows: give a file with rows.")
    missing = [name for name in (columns.prompt, columns.target) if name not in rows.columns]
    if missing:
        raise DataError(
            f"{quoted(source)} lacks {listed(missing)}, which task '{task}' reads; its columns are "
            f"{listed(rows.columns)}: rename them, or name them in the task's file."
        )
    known = {*used_columns(columns), *columns.remove}
    other = [name for name in rows.columns if name not in known]
    if other:
        raise DataError(
            f"{quoted(source)} has columns that task '{task}' neither reads nor removes "
            f"({listed(other)}): name them in columns.remove in the task's file."
        )


def _prompt(
    row: dict[str, Any], columns: ColumnsConfig, repaired: Counter[str]
) -> str | WrongType | None:
    value = row.get(columns.prompt)
    if is_conversation(value) and (left_out := turns_left_out(value)):
        repaired["earlier, later or system turn of a conversation left out"] += left_out
    prompt = _clean(as_text(value, "prompt"), repaired)
    if columns.context is None:
        return prompt
    context = _clean(as_text(row.get(columns.context), "context"), repaired)
    if isinstance(context, WrongType):
        return context
    # A context does not stand in for a prompt: a row without one is skipped.
    if isinstance(prompt, str) and prompt.strip() and context and context.strip():
        return prompt + columns.join + context
    return prompt


def _clean(text: str | WrongType | None, repaired: Counter[str]) -> str | WrongType | None:
    if not isinstance(text, str):
        return text
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    nuls = text.count("\0")
    if nuls:
        repaired["NUL replaced by U+FFFD"] += nuls
        text = text.replace("\0", REPLACEMENT)
    return replace_surrogates(text, repaired)


def _usable(
    prompt: str | WrongType | None, target: str | WrongType | None, skipped: Counter[str]
) -> tuple[str, str] | None:
    """Both texts, or None with the reason counted in `skipped`."""
    for what, text in (("prompt", prompt), ("target", target)):
        if text is None:
            skipped[f"{what} missing"] += 1
        elif isinstance(text, WrongType):
            skipped[f"{what} of a wrong type: is {text.kind}, text is needed"] += 1
        elif not text.strip():
            skipped[f"{what} empty"] += 1
        elif len(text) > MAX_CHARACTERS:
            skipped[f"{what} too long"] += 1
        else:
            continue
        return None
    assert isinstance(prompt, str)
    assert isinstance(target, str)
    return prompt, target


def _id(index: int) -> str:
    return f"{index:06d}"


def _load_generated(task: TaskConfig, task_dir: Path) -> Loaded:
    sides, made = generator.generate(task.data, task_dir, task.name)
    repaired: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    examples, kept = [], []
    for index, (side, example) in enumerate(zip(sides, made, strict=True)):
        prompt, target = (
            _clean(as_text(text, "prompt"), repaired) for text in (example.prompt, example.target)
        )
        texts = _usable(prompt, target, skipped)
        if texts is None:
            continue
        examples.append(replace(example, id=_id(index), prompt=texts[0], target=texts[1]))
        kept.append(side)
    source = task.data.generator or ""
    return _loaded(examples, kept, skipped, repaired, source, f"task '{task.name}'")


def _loaded(
    examples: list[Example],
    sides: list[Literal["train", "test"]] | None,
    skipped: Counter[str],
    repaired: Counter[str],
    source: str,
    name: str,
) -> Loaded:
    if not examples:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
        raise DataError(
            f"{name} has no usable row ({reasons or 'no rows at all'}): "
            "give rows with a prompt and a target."
        )
    return Loaded(
        examples=examples,
        sides=sides,
        digest=_digest(examples, sides),
        skipped=dict(sorted(skipped.items())),
        source=source,
        repaired=dict(sorted(repaired.items())),
    )


def _digest(examples: Iterable[Example], sides: list[Literal["train", "test"]] | None) -> str:
    digest = hashlib.sha256()
    for index, example in enumerate(examples):
        row = example.to_json()
        if sides is not None:
            row["side"] = sides[index]
        line = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
