"""The registries: TOML files shipped with the package, and a user's own beside them (--registry).

A registry folder holds models/NAME.toml, recipes/NAME.toml and tasks/NAME/task.toml. A user's
entry goes before a shipped one of the same name.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.config.scripts import resolve
from harness.errors import UsageError
from harness.host.paths import expanded, no_file, no_folder
from harness.host.text import one_line, quoted

if TYPE_CHECKING:
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
        if self.extra is not None:
            _readable("--registry", self.extra)

    def _files(self, kind: str) -> dict[str, Path]:
        """Name to file of every entry of `kind`; the user's own replace shipped ones."""
        shipped = shipped_tasks() if kind == "tasks" else _HERE / kind
        folders = [shipped, *([self.extra / kind] if self.extra else [])]
        pattern = "*/task.toml" if kind == "tasks" else "*.toml"
        files: dict[str, Path] = {}
        for folder in folders:
            if os.path.lexists(folder):  # a user's registry need not have every kind
                _readable("the registry", folder)
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
                raise UsageError(f"there is no {kind[:-1]} named {quoted(name, 80)}; {hint}")
            raise UsageError(
                f"{quoted(name, 80)} cannot name a {kind[:-1]}: a name has 1 to 64 of a-z, 0-9, "
                f"'.', '_' and '-'; there are {', '.join(self.names(kind))}."
            )
        files = self._files(kind)
        if name not in files:
            hint = near(name, files) or f"there are {', '.join(sorted(files))}."
            raise UsageError(f"there is no {kind[:-1]} named {name}; {hint}")
        return files[name]

    def model(self, name: str) -> ModelConfig:
        """The registered model `name`, a `~` of its path expanded. Raises UsageError."""
        from harness.config.schema import ModelConfig

        model = _read(self.path("models", name), name, ModelConfig.model_validate)
        given = getattr(model.source, "path", None)
        if given is None:
            return model
        source = model.source.model_copy(update={"path": str(expanded(given))})
        return model.model_copy(update={"source": source})

    def recipe(self, name: str) -> RecipeConfig:
        """The recipe `name`. Raises UsageError."""
        from harness.config.schema import RecipeConfig

        return _read(self.path("recipes", name), name, RecipeConfig.model_validate)

    def task(self, name: str) -> TaskConfig:
        """The task `name`; a script that its scorers name begins at the task's folder.

        Raises UsageError.
        """
        from harness.config.schema import TaskConfig

        path = self.path("tasks", name)
        task = _read(path, name, TaskConfig.model_validate)
        scorers = [resolve(asked, path.parent) for asked in task.scorers]
        return task.model_copy(update={"scorers": scorers})


def _readable(what: str, folder: Path) -> None:
    if fault := no_folder(folder):
        raise UsageError(f"{what} {quoted(folder)} {fault}; give a folder of entries.")


def _read(path: Path, name: str, validate: Callable[[Any], Config]) -> Config:
    from pydantic import ValidationError

    from harness.config.faults import explain, too_large

    if fault := no_file(path):
        raise UsageError(f"{path} {fault}; a registry's entry is a TOML file.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(
            f"{path} cannot be read as TOML ({one_line(error, 200)}); mend it."
        ) from error
    except ValueError as error:  # more digits than Python converts
        raise UsageError(f"{path} has an integer of thousands of digits; mend it.") from error
    if key := too_large(values):
        raise UsageError(f"{path}: {key} is an integer of more than 64 bits; give a smaller one.")
    try:
        config = validate(values)
    except ValidationError as error:
        raise UsageError(
            "\n".join(f"{path}: {fault}" for fault in explain(error, values))
        ) from error
    except RecursionError as error:
        raise UsageError(f"{path} is nested too deeply; mend it.") from error
    if config.name != name:
        raise UsageError(
            f"{path}: name is {quoted(config.name, 80)} but the file is called {name}; make "
            "them alike."
        )
    return config


def near(name: str, known: Iterable[str]) -> str | None:
    """ "did you mean …?" for the nearest of `known`, or None where none is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {found[0]}?" if found else None
