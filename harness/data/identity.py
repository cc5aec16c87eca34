"""What tells one state of a task's data from another, found without parsing a row."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from harness.config.schema import TaskConfig
from harness.data.hub import snapshot
from harness.errors import DataError
from harness.host.files import file_digest
from harness.host.paths import read_bytes, regular
from harness.host.signals import check
from harness.host.text import one_line, quoted

_BACKUPS = ("*~", "*.swp", "*.swo", "*.bak", "*.orig", "#*#", "Thumbs.db")
"""Files of editors and systems."""

_READ_NOTHING = {
    "__future__", "abc", "array", "bisect", "collections", "dataclasses", "datetime", "decimal",
    "enum", "fractions", "functools", "hashlib", "heapq", "html", "itertools", "json", "keyword",
    "math", "operator", "random", "re", "statistics", "string", "textwrap", "types", "typing",
    "unicodedata", "uuid", "harness",
}  # fmt: skip
"""Modules from which a generator gets no file of its folder."""

_READERS = {
    "open", "exec", "eval", "compile", "globals", "vars", "__import__", "__builtins__",
    "__loader__", "__spec__", "__file__", "__path__",
}  # fmt: skip


def identity(task: TaskConfig, task_dir: Path, path: str | None) -> dict[str, str]:
    """Hashes of the local data files, of the generator's source, or the hub's name and revision.

    Call after `load.available` found nothing amiss with `path`. Raises DataError where a file of
    the data cannot be read, OSError where one of the generator's cannot.
    """
    if path is not None:
        place = Path(os.path.expanduser(path))
        try:
            if not place.is_dir():
                return {place.suffix.lower(): data_digest(place)}
            return {f.relative_to(place).as_posix(): data_digest(f) for f in _data_files(place)}
        except OSError as error:
            raise DataError(
                f"{quoted(error.filename or place)} cannot be read "
                f"({one_line(error.strerror or error)}): change its permissions."
            ) from error
    if task.data.generator is not None:
        return {
            f.relative_to(task_dir).as_posix(): file_digest(f) for f in generator_files(task_dir)
        }
    found = snapshot(task)
    revision = found.name if found else task.data.revision or "main"
    return {"hub": task.data.hub or "", "revision": revision}


def data_digest(path: Path) -> str:
    """Hash of what is read of a data file: a text file's without what its readers pass over."""
    kind = {".json": "json", ".jsonl": "json", ".csv": "csv"}.get(path.suffix.lower())
    if path.name == "README.md":  # of a data set's folder: its header says which files are what
        return hashlib.sha256(_header(path)).hexdigest()
    return file_digest(path, interruptible=True) if kind is None else text_digest(path, kind)


def text_digest(path: Path, kind: str) -> str:
    """Hash of a "json" file without its byte order mark, blank lines and the spaces around lines;
    of a "csv" file, where a blank line may be in a cell, without mark and newlines at its ends."""
    digest = hashlib.sha256()
    with open(path, "rb", opener=regular) as file:
        if file.read(3) != b"\xef\xbb\xbf":
            file.seek(0)
        held = b""
        for line in file:
            check()
            if kind == "json":
                if stripped := line.strip(b" \t\r\n"):
                    digest.update(stripped + b"\n")
            elif body := line.rstrip(b"\r\n"):
                digest.update(held + body)
                held = line[len(body) :]
            elif held:
                held += line
    return digest.hexdigest()


def generator_files(task_dir: Path) -> list[Path]:
    """The files of a task's folder that its generator may read, sorted.

    Its modules; other files only where a module has the means to open one, which is told by what
    they import and call. Which of these it reads cannot be known, so all are among them but
    README files and those of editors and systems. The task's own settings are keyed apart.
    """
    files = sorted(f for f in task_dir.rglob("*") if f.is_file() and _may_be_read(f, task_dir))
    modules = [f for f in files if f.suffix == ".py"]
    return files if any(map(_may_open_files, modules)) else modules


def _may_be_read(file: Path, root: Path) -> bool:
    parts = file.relative_to(root).parts
    return (
        "__pycache__" not in parts
        and parts != ("task.toml",)
        and not any(part.startswith(".") for part in parts)
        and not any(fnmatchcase(file.name, pattern) for pattern in (*_BACKUPS, "README*", "*.pyc"))
    )


def _may_open_files(module: Path) -> bool:
    try:
        tree = ast.parse(read_bytes(module))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""] if node.level == 0 else []
        else:
            if isinstance(node, ast.Name) and node.id in _READERS:
                return True
            continue
        for name in names:
            if name.split(".")[0] not in _READ_NOTHING:
                return True
            if name.startswith("harness") and name != "harness.records":
                return True
    return False


def _data_files(folder: Path) -> Iterator[Path]:
    """What the hub's rules for folders may choose from: not what is hidden or an editor's."""
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        backup = any(fnmatchcase(file.name, pattern) for pattern in _BACKUPS)
        if file.is_file() and not hidden and not backup:
            yield file


def _header(readme: Path) -> bytes:
    """The YAML between the first two lines of three dashes, or nothing."""
    lines = read_bytes(readme).split(b"\n")
    marks = [at for at, line in enumerate(lines) if line.strip() == b"---"]
    return b"\n".join(lines[: marks[1]]) if len(marks) > 1 and marks[0] == 0 else b""
