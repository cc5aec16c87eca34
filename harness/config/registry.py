"""The registries: TOML files shipped with the package, and a user's own beside them (--registry).

A registry folder holds models/NAME.toml, recipes/NAME.toml and tasks/NAME/task.toml. A user's
entry goes before a shipped one of the same name.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.errors import UsageError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from harness.config.schema import ModelConfig, RecipeConfig, TaskConfig

KINDS = ("models", "tasks", "recipes")
_HERE = Path(__file__).resolve().parent

Config = TypeVar("Config", "ModelConfig", "TaskConfig", "RecipeConfig")


def shipped_tasks() -> Path:
    """The folder of the shipped tasks: inside an installed package, at the top of a checkout."""
    packaged = _HERE.parent / "_tasks"
    return packaged if packaged.is_dir() else _HERE.parent.parent / "tasks"


@dataclass(frozen=True, slots=True)
class Registry:
    """Finds and reads entries by name. `extra`: the user's registry folder, or None."""

    extra: Path | None = None

    def __post_init__(self) -> None:
        if self.extra is not None and not self.extra.is_dir():
            raise UsageError(f"--registry {self.extra} is not a folder; give one that is.")

    def _files(self, kind: str) -> dict[str, Path]:
        """Name to file of every entry of `kind`; the user's own replace shipped ones."""
        shipped = shipped_tasks() if kind == "tasks" else _HERE / kind
        folders = [shipped, *([self.extra / kind] if self.extra else [])]
        pattern = "*/task.toml" if kind == "tasks" else "*.toml"
        files: dict[str, Path] = {}
        for folder in folders:
            for path in sorted(folder.glob(pattern)):
                files[path.parent.name if kind == "tasks" else path.stem] = path
        return files

    def names(self, kind: str) -> list[str]:
        """Names of all entries of "models", "tasks" or "recipes", sorted."""
        return sorted(self._files(kind))

    def path(self, kind: str, name: str) -> Path:
        """The file of an entry. UsageError, naming the nearest, where it is not there."""
        from harness.config.schema import valid_name

        if not valid_name(name):
            if hint := near(name.lower(), self._files(kind)):
                raise UsageError(f"there is no {kind[:-1]} named {printable(name)}; {hint}")
            raise UsageError(
                f"{printable(name)} cannot name a {kind[:-1]}: a name has 1 to 64 of a-z, 0-9, "
                f"'.', '_' and '-'; there are {', '.join(self.names(kind))}."
            )
        files = self._files(kind)
        if name not in files:
            hint = near(name, files) or f"there are {', '.join(sorted(files))}."
            raise UsageError(f"there is no {kind[:-1]} named {name}; {hint}")
        return files[name]

    def model(self, name: str) -> ModelConfig:
        """The registered model `name`. Raises UsageError."""
        from harness.config.schema import ModelConfig

        return _read(self.path("models", name), name, ModelConfig.model_validate)

    def recipe(self, name: str, overrides: Mapping[str, Any] | None = None) -> RecipeConfig:
        """The recipe `name` with `overrides` from the command line. Raises UsageError."""
        from harness.config.schema import RecipeConfig

        recipe = _read(self.path("recipes", name), name, RecipeConfig.model_validate)
        return RecipeConfig.model_validate({**recipe.model_dump(), **(overrides or {})})

    def task(self, name: str) -> TaskConfig:
        """The task `name`; a script that its scorers name begins at the task's folder.

        Raises UsageError.
        """
        from harness.config.schema import TaskConfig
        from harness.scorers.evaluate import resolve

        path = self.path("tasks", name)
        task = _read(path, name, TaskConfig.model_validate)
        scorers = [resolve(asked, path.parent) for asked in task.scorers]
        return task.model_copy(update={"scorers": scorers})


def _read(path: Path, name: str, validate: Callable[[Any], Config]) -> Config:
    from pydantic import ValidationError

    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as TOML ({one_line(error)}); mend it.") from error
    try:
        config = validate(values)
    except ValidationError as error:
        raise UsageError(f"{path}: {explain(error)}") from error
    if config.name != name:
        raise UsageError(
            f"{path}: name is {config.name!r} but the file is called {name}; make them alike."
        )
    return config


def explain(error: ValidationError) -> str:
    """The first fault that a schema found, as one sentence with the near key for an unknown one."""
    fault = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    kind, message = fault["type"], fault["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        key = str(fault["loc"][-1])
        hint = near(key, _known_keys(error.title, fault["loc"][:-1]))
        return f"unknown key {place}; {hint or 'remove it.'}"
    if kind == "missing":
        return f"the key {place} is missing; add it."
    value = fault.get("input")
    got = printable(value) if isinstance(value, str) else printable(str(value)).strip("'")
    if not place:  # of several values together
        return f"{message}; mend it."
    return f"{place} is {got}, but: {message[:1].lower()}{message[1:]}; mend it."


def _known_keys(title: str, place: tuple[int | str, ...]) -> list[str]:
    """The keys that the schema `title` knows at `place`."""
    from pydantic import BaseModel

    from harness.config import schema

    model: Any = getattr(schema, title, None)
    for part in place:
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            continue  # the tag of a union: the same model goes on
        model = fields[part].annotation
    found = [model, *getattr(model, "__args__", ())]
    return [
        key
        for m in found
        if isinstance(m, type) and issubclass(m, BaseModel)
        for key in m.model_fields
    ]


def near(name: str, known: Iterable[str]) -> str | None:
    """ "did you mean …?" for the nearest of `known`, or None where none is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {found[0]}?" if found else None


def printable(text: str, limit: int = 80) -> str:
    """`text` quoted so that it is one line and safe to print, cut after `limit` characters."""
    quoted = ascii(text) if not text.isprintable() else f"'{text}'"
    return quoted if len(quoted) <= limit else f"{quoted[:limit]}…'"


def one_line(error: BaseException) -> str:
    """An exception's message as one line, at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
