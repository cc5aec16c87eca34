"""Paths that a user gave or can reach: opened so that no pipe in their place can hang us."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def expanded(text: str) -> Path:
    """The path, with a leading `~` as the home folder, where the shell has left it."""
    return Path(os.path.expanduser(text))


def no_file(path: Path) -> str | None:
    """Why `path` is no regular file that can be read, as words after its name; None where it is.

    "does not exist", "is a folder", "is a named pipe", "cannot be read (Permission denied)".
    """
    mode = _mode(path)
    if isinstance(mode, str):
        return mode
    if stat.S_ISDIR(mode):
        return "is a folder"
    if not stat.S_ISREG(mode):
        return "is a named pipe" if stat.S_ISFIFO(mode) else "is no regular file"
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        return _refused(error)
    return None


def no_folder(path: Path) -> str | None:
    """Why `path` is no folder that can be read, as words after its name; None where it is."""
    mode = _mode(path)
    if isinstance(mode, str):
        return mode
    if not stat.S_ISDIR(mode):
        return "is not a folder"
    try:
        os.scandir(path).close()
    except OSError as error:
        return _refused(error)
    return None


def regular(path: str, flags: int) -> int:
    """An opener for `open`: a regular file, and an OSError for whatever else has the name."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", path)


def read_bytes(path: Path) -> bytes:
    """What a regular file holds. Raises OSError."""
    with open(path, "rb", opener=regular) as file:
        return file.read()


def read_text(path: Path) -> str:
    """The UTF-8 text that a regular file holds. Raises OSError, UnicodeDecodeError."""
    return read_bytes(path).decode("utf-8")


def _mode(path: Path) -> int | str:
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return _refused(error)


def _refused(error: OSError | ValueError) -> str:
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"
