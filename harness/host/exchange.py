"""A whole folder, or a link, takes the place of another in one step.

Linux exchanges two names at once. Elsewhere the old folder steps aside (`.replaced-NAME`) and the
new one takes its name; killed in between, `recover` puts the old one back.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

from harness.host.files import sync_folder
from harness.host.temporary import TEMPORARY, owned, remove

ASIDE = ".replaced-"

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux' fcntl.h
_UNSUPPORTED = frozenset([errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM])


def temporary(folder: Path) -> Path:
    """A name in `folder` that nothing has, which `recover` clears away."""
    return folder / owned(TEMPORARY)


def replace(new: Path, place: Path) -> None:
    """Give `new` (a folder, or a link) the name `place`; what stood there is removed.

    Both are in one folder. A process that is killed leaves the old or the new in `place`, whole;
    without an exchange by the system, possibly nothing until `recover`. Raises OSError, `place`
    being as it was.
    """
    left = new
    if not os.path.lexists(place):
        os.rename(new, place)
    elif not exchange(new, place):
        left = place.with_name(f"{ASIDE}{place.name}")
        remove(left)
        os.rename(place, left)
        try:
            os.rename(new, place)
        except BaseException:
            os.rename(left, place)
            raise
    sync_folder(place.parent)
    if os.path.lexists(left):
        remove(left)


def exchange(one: Path, other: Path) -> bool:
    """Swap two names that exist, in one step; False where this system or disk cannot.

    Raises OSError.
    """
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # a C library without it
        return False
    names = os.fsencode(one), os.fsencode(other)
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(other))


def link(place: Path, target: str) -> bool:
    """Make `place` a symbolic link to `target`, relative to its folder, in the place of what is
    there; False, and nothing changed, where links cannot be made. Raises OSError.
    """
    if place.is_symlink() and os.readlink(place) == target:
        return True
    made = temporary(place.parent)
    try:
        os.symlink(target, made)
    except NotImplementedError:
        return False
    except OSError as error:
        # Windows without the right to make links has an error number of its own.
        if error.errno in _UNSUPPORTED or sys.platform == "win32":
            return False
        raise
    try:
        if place.is_dir() and not place.is_symlink():
            replace(made, place)
        else:
            os.replace(made, place)
            sync_folder(place.parent)
    except BaseException:
        remove(made)
        raise
    return True


def recover(folder: Path) -> None:
    """Put right what killed writers left in `folder`; for the one who may write there."""
    for aside in folder.glob(f"{ASIDE}*"):
        place = folder / aside.name.removeprefix(ASIDE)
        if os.path.lexists(place):
            remove(aside)
        else:
            os.rename(aside, place)
    for left in folder.glob(f"{TEMPORARY}*"):
        remove(left)


def unfinished(folder: Path) -> bool:
    """Whether there is something for `recover` to do."""
    return any(any(folder.glob(f"{start}*")) for start in (ASIDE, TEMPORARY))
