"""`--set FIELD=VALUE`: fields of recipe and task, in place of what the registry's files say.

Overrides map the whole name of a field, "recipe.lora.r" or "task.split.test", to its value.
"""

from __future__ import annotations

import datetime
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.config.faults import explain, keys_of, nearest, too_large
from harness.config.schema import RecipeConfig, TaskConfig
from harness.config.scripts import resolve
from harness.errors import UsageError
from harness.host.text import one_line, quoted

Config = TypeVar("Config", RecipeConfig, TaskConfig)

_SCHEMAS: dict[str, type[BaseModel]] = {"recipe": RecipeConfig, "task": TaskConfig}


def parse(assignments: Sequence[str], short: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """The overrides of a command: what `--set` was given, "FIELD=VALUE" each, and short forms.

    short: a field's whole name to the option that sets it too, such as "--max-steps", and that
    option's value, None where it is not given.
    Raises UsageError for a field that is not known, or set twice, and for a value that begins
    like one of TOML and is none; whether a value fits its field is for `override` to say.
    """
    pairs = (assignment.partition("=") for assignment in assignments)
    return _overrides(((name.strip(), text) for name, _, text in pairs), _value, short)


def of_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides that `values` are: by a field's name, as `--set` takes it, its value.

    A value is plain data: text, a number, True or False, None, a list or tuple of them.
    Raises UsageError for a field that is not known, or set twice, and for other data.
    """
    return _overrides(values.items(), _plain, {})


def _overrides(
    given: Iterable[tuple[str, Any]],
    read: Callable[[str, Any], Any],
    short: Mapping[str, tuple[str, Any]],
) -> dict[str, Any]:
    found = {field: value for field, (_, value) in short.items() if value is not None}
    named: set[str] = set()
    for name, value in given:
        field = whole_name(name)
        if field in named:
            raise UsageError(f"--set names {name} twice; name it once.")
        if field in found:
            raise UsageError(f"{short[field][0]} and --set {name} set one field; give one.")
        named.add(field)
        found[field] = read(name, value)
    if isinstance(scorers := found.get("task.scorers"), list):
        # A script's path begins where the command is given.
        found["task.scorers"] = [resolve(s, Path()) if isinstance(s, str) else s for s in scorers]
    return found


def override(config: Config, overrides: Mapping[str, Any]) -> Config:
    """`config`, a recipe or a task, with those of the overrides that are of its kind.

    Epochs do away with a recipe's own max_steps, which would go before them.
    Raises UsageError with a sentence, a line each, for all that the schema finds.
    """
    kind = "recipe" if isinstance(config, RecipeConfig) else "task"
    given = {name: value for name, value in overrides.items() if name.startswith(f"{kind}.")}
    if "recipe.num_train_epochs" in given:
        given = {"recipe.max_steps": None, **given}
    values = config.model_dump()
    for name, value in given.items():
        _, *above, last = name.split(".")
        table = values
        for part in above:
            table[part] = table[part] or {}  # a task need not have [columns]
            table = table[part]
        table[last] = value
    try:
        return type(config).model_validate(values)
    except ValidationError as error:
        where = f"--set for {kind} {config.name}"
        raise UsageError(
            "\n".join(f"{where}: {fault}" for fault in explain(error, values))
        ) from error


def whole_name(name: str) -> str:
    """A field's name with whose it is: "lora.r" is "recipe.lora.r". Raises UsageError."""
    known = [(kind, *key) for kind, schema in _SCHEMAS.items() for key in keys_of([schema], None)]
    parts = tuple(name.split("."))
    found = [key for key in known if parts in (key, key[1:])]
    told = f"--set {quoted(name, 80)[1:-1]}"
    if parts[-1] == "name":
        raise UsageError(f"{told}: an entry is called as its file; choose --recipe and --tasks.")
    if not found:
        kinds, place = (parts[:1], parts[1:]) if parts[0] in _SCHEMAS else (_SCHEMAS, parts)
        near = nearest(place or parts, [key[1:] for key in known if key[0] in kinds])
        hint = f"did you mean {' or '.join(near)}?" if near else "see harness/config/schema.py."
        raise UsageError(f"{told}: no recipe or task has this field; {hint}")
    if len(found) > 1:
        both = " or ".join(".".join(key) for key in found)
        raise UsageError(f"{told}: recipe and task both have this field; set {both}.")
    (whole,) = found
    below = [key for key in known if key[:-1] == whole]
    if below:
        first = ".".join(below[0][1:])
        raise UsageError(f"{told}: it is a table; set its fields one by one, such as {first}.")
    return ".".join(whole)


def _value(name: str, text: str) -> Any:
    """A value as in TOML; what is none, or a date, is text. Raises UsageError."""
    _check_text(name, text)
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # ValueError: also of more digits than Python converts
        if text.strip().startswith(("[", "{", '"', "'")):
            told = quoted(text, 40)[1:-1]
            raise UsageError(
                f"--set {name}: {told} is no value of TOML; it takes texts in a list in quotes, "
                f'as ["a", "b"].'
            ) from None
        values = {}
    value = values.get("value")
    if len(values) != 1 or isinstance(value, datetime.date | datetime.time):
        return text
    _check_size(name, value)
    return value


def _plain(name: str, given: Any) -> Any:
    """A value of Python's as plain data, tuples as lists. Raises UsageError."""
    try:
        text = json.dumps(given, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise UsageError(
            f"--set {name}: {one_line(repr(given), 60)} is no plain data; give text, a number, "
            "True or False, None, or a list of them."
        ) from None
    _check_text(name, text)
    value = json.loads(text)
    _check_size(name, value)
    return value


def _check_text(name: str, text: str) -> None:
    if not text.isascii() and text != text.encode("utf-8", "replace").decode():
        raise UsageError(f"--set {name} is not text in UTF-8; give it as such.")


def _check_size(name: str, value: Any) -> None:
    if too_large({name: value}):
        raise UsageError(f"--set {name} is an integer of more than 64 bits; give a smaller one.")
