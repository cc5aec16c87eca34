"""What is wrong with an entry of the registry: all of it at once, each fault with its mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from harness.config import schema
from harness.host.text import one_line, quoted

_Key = tuple[str, ...]  # ("lora", "r")

# What others call some of our keys, word by word, where neither holds the other.
_ALSO = {"rank": "r", "lr": "learning_rate", "optimizer": "optim", "quantisation": "quantization"}
_TABLE = ("model_type", "model_attributes_type", "dict_type")


def explain(error: ValidationError, values: Any) -> list[str]:
    """The faults that a schema found in `values`, a sentence each, in the order of the schema.

    An unknown key comes with the nearest right one, at whatever level of the schema that is.
    """
    root = getattr(schema, error.title)
    known = list(keys_of([root], values))
    found: dict[tuple[str | int, ...], list[Any]] = {}
    for fault in error.errors(include_url=False):
        found.setdefault(_place(root, fault), []).append(fault)
    return [_sentence(place, faults, known) for place, faults in found.items()]


def too_large(values: Any) -> str | None:
    """The key of an integer beyond the 64 bits that TOML has, or None."""
    waiting: list[tuple[str, Any]] = [("", values)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{place}.{key}".lstrip("."), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(place, inner) for inner in value]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            return one_line(place, 80)
    return None


def _sentence(place: tuple[str | int, ...], faults: Sequence[Any], known: Sequence[_Key]) -> str:
    dotted = one_line(".".join(map(str, place)), 80)
    kind, value = faults[0]["type"], faults[0].get("input")
    if kind == "extra_forbidden":
        near = nearest(tuple(map(str, place)), known)
        hint = f"did you mean {' or '.join(near)}?" if near else "remove it."
        return f"unknown key {dotted}; {hint}"
    if kind == "union_tag_not_found":
        return f"the key {dotted}.kind is missing; add it."
    if kind == "union_tag_invalid":
        context = faults[0]["ctx"]
        given = quoted(context["tag"], 80)
        return f"{dotted}.kind is {given}, but: it is one of {context['expected_tags']}; mend it."
    if kind == "missing":
        return f"the key {dotted} is missing; add it."
    messages = [
        "it should be a table" if fault["type"] in _TABLE else _message(fault["msg"])
        for fault in faults
    ]
    told = ", or ".join(dict.fromkeys(text[:1].lower() + text[1:] for text in messages))
    if not place:  # of several values together
        return f"{told}; mend it."
    if kind == "value_error" and isinstance(value, dict):
        return f"{dotted}: {told}; mend it."
    return f"{dotted} is {_shown(value)}, but: {told}; mend it."


def _message(text: str) -> str:
    return " ".join(text.removeprefix("Value error, ").split())[:300]


def _shown(value: Any) -> str:
    try:
        return quoted(value, 80) if isinstance(value, str) else one_line(value, 80)
    except (RecursionError, ValueError):  # nested too deeply, too many digits
        return f"a {type(value).__name__}"


# --- where a fault is ------------------------------------------------------------------------


def _place(root: type[BaseModel], fault: Any) -> tuple[str | int, ...]:
    """The keys that lead to a fault, without pydantic's names for the members of a union."""
    location = list(fault["loc"])
    unknown = [location.pop()] if fault["type"] == "extra_forbidden" else []
    models: list[type[BaseModel]] = [root]
    place: list[str | int] = []
    for part in location:
        fields = {name: field for m in models for name, field in m.model_fields.items()}
        if isinstance(part, int):
            place.append(part)
        elif part in fields:
            place.append(part)
            models = _models(fields[part].annotation)
    return (*place, *unknown)


def keys_of(models: Iterable[type[BaseModel]], values: Any, above: _Key = ()) -> Iterator[_Key]:
    """Every key that a schema knows; of a union of tables the one that `values` has by its kind."""
    given = values if isinstance(values, dict) else {}
    every = list(models)
    kind = given.get("kind")
    chosen = [m for m in every if kind in _kinds(m)] or every
    for model in chosen:
        for name, field in model.model_fields.items():
            yield (*above, name)
            yield from keys_of(_models(field.annotation), given.get(name), (*above, name))


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    field = model.model_fields.get("kind")
    return get_args(field.annotation) if field else ()


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


# --- the near key ----------------------------------------------------------------------------


def nearest(place: _Key, known: Sequence[_Key]) -> list[str]:
    """The keys that an unknown one may have meant, most likely one; [] where none is near."""
    name, beside = place[-1], [key for key in known if key[:-1] == place[:-1]]
    same = [key for key in known if key[-1] == name]  # at another level
    words = _words(_ALSO.get(name, name).split("."))
    holding = [key for key in beside or known if words <= _words(key)]
    holding = holding or [key for key in known if words <= _words(key)]
    found = (
        same
        or _alike(name, beside, 0.8)
        or sorted(holding, key=lambda key: len(".".join(key)))[:1]
        or _alike(name, beside, 0.6)
        or _alike(name, known, 0.7)
    )
    return [".".join(key) for key in dict.fromkeys(found[:2])]


def _words(parts: Iterable[str]) -> set[str]:
    """The words of a key: "lora_rank" and "lora.r" have the same."""
    words = {word for part in parts for word in part.lower().replace("-", "_").split("_")}
    return {_ALSO.get(word, word) if word == "rank" else word for word in words}


def _alike(name: str, keys: Sequence[_Key], cutoff: float) -> list[_Key]:
    close = difflib.get_close_matches(name, [key[-1] for key in keys], n=1, cutoff=cutoff)
    return [next(key for key in keys if key[-1] == close[0])] if close else []
