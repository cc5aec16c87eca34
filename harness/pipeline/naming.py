"""What the folder of a command's tables is called: by the user, or by what the command asks for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from harness.config.schema import valid_name
from harness.errors import UsageError
from harness.host.files import digest
from harness.pipeline.options import Options

INCOMPLETE = ".incomplete"  # after the name, where a run of the command is not done
LATEST = "latest"
LONGEST = 64

# What else stands in the folder of results.
_TAKEN = re.compile(
    r"latest|bench|scores|compare|curves|earlier(-\d+)?"
    r"|(comparison|predictions|manifests|systems|command)\.\w+"
)
# The end of a name that could be taken for an option of the command.
_LIKE_OPTIONS = re.compile(
    r"-(seeds?\d[\d+]*|limit\d+|steps\d+|epochs[\d.e-]+|nf4|int8|none|auto|bf16|fp16|fp32"
    r"|[0-9a-f]{6})$"
)

# Fields that have an option, and how a name says what they are set to.
_WORDS = {
    "recipe.max_steps": "steps",
    "recipe.num_train_epochs": "epochs",
    "recipe.quantization": "",
    "recipe.precision": "",
}


def name_of(options: Options) -> str:
    """The name of the command's tables: the one that it gives, or `asked`. Raises UsageError."""
    return asked(options) if options.name is None else checked(options.name)


def asked(options: Options) -> str:
    """What a command asks for, as a name of at most 64 characters: "gemma3-270m-limit8".

    Alike for commands that ask for the same, another for every other: the models, then the tasks
    after "@", the recipe after ",", and the options that were given. Paths, and fields that only
    `--set` sets, are told apart by six hex digits at the end. "default" for a command without
    options.
    """
    plain = Options()
    name = "+".join(options.models)
    if options.tasks is not None:
        name += f"@{'+'.join(options.tasks)}"
    if options.recipe is not None:
        name += f",{options.recipe}"
    doubtful = not _free(name) or name == "default" or _LIKE_OPTIONS.search(name) is not None
    fields = {field: _shortest(options.overrides[field]) for field in sorted(options.overrides)}
    others = {field: value for field, value in fields.items() if field not in _WORDS}
    if fields.get("recipe.quantization") == "auto":  # a precision is called so too
        others["recipe.quantization"] = "auto"
    given = (
        ("seed" if len(options.seeds) == 1 else "seeds", _other(options.seeds, plain.seeds)),
        ("limit", options.limit),
        *((word, fields.get(field)) for field, word in _WORDS.items()),
        *((field.split(".", 1)[1], value) for field, value in others.items()),
    )
    parts = [f"{word}{_word(value)}" for word, value in given if value is not None]
    paths = [_absolute(options.data), _absolute(options.weights)]
    if options.adapters:
        paths.append(_absolute(options.adapters))
    if options.registry is not None:
        paths.append({"": os.path.abspath(options.registry)})
    if not parts and not any(paths) and name == "+".join(plain.models):
        return "default"
    whole = "-".join([name, *parts])
    if any(paths) or doubtful or others:
        # The parts one by one: what a dash joins could be read in two ways.
        known: list[Any] = [options.models, options.tasks, options.recipe, parts, paths]
        known += [others] if others else []
        whole += f"-{digest(known)[:6]}"
    return whole if len(whole) <= LONGEST else f"{whole[: LONGEST - 7]}-{digest(whole)[:6]}"


def checked(name: str) -> str:
    """`name` as the user gave it. Raises UsageError where it cannot name a folder of tables."""
    from harness.host.text import quoted

    if not valid_name(name):
        raise UsageError(
            f"--name {quoted(name, 80)}: a name has 1 to {LONGEST} of a-z, 0-9, '.', '_' and '-', "
            "begins with a letter or digit, and has no '..'."
        )
    if not _free(name):
        raise UsageError(
            f"--name {name}: something else in the folder of results is called so; give another "
            "name."
        )
    return name


def _free(name: str) -> bool:
    return _TAKEN.fullmatch(name) is None and not name.endswith(INCOMPLETE)


def _other(seeds: tuple[int, ...], plain: tuple[int, ...]) -> str | None:
    return None if seeds == plain else "+".join(map(str, seeds))


def _shortest(value: Any) -> Any:
    """A number's shortest text, alike for 8 and 8.0; any other value as it is."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return value
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _word(value: Any) -> str:
    """A value in a name; nothing where it has other characters, or many."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if re.fullmatch(r"[\w.+-]{1,24}", text, re.ASCII) else ""


def _absolute(pairs: Mapping[str, str]) -> dict[str, str]:
    return {name: os.path.abspath(path) for name, path in pairs.items()}
