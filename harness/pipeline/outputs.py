"""Where results go: looked at before any work, and written all together or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from harness.errors import UsageError
from harness.host.files import replacing, sync_file
from harness.host.text import quoted

# As long as what is written below a folder of runs: model, task, recipe with seed and key, a file.
_DEEPEST = "/".join("x" * length for length in (64, 64, 100, 64))


def writable(option: str, folder: Path) -> None:
    """Check that `folder` is one that can be written to, or could be made: nothing is.

    option: what names it on the command line. Raises UsageError.
    """
    try:
        # What is too long for the files is found now, not after hours.
        os.lstat(os.path.abspath(folder / _DEEPEST))
    except (FileNotFoundError, NotADirectoryError):
        pass  # it can be made, or what is in its way is named below
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{option} {quoted(folder)}: {reason}; give another folder.") from error
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UsageError(
            f"{option} {quoted(folder)}: {quoted(place)} is not a folder; give another."
        )
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(
            f"{option} {quoted(folder)}: {quoted(place)} cannot be written to; give another folder."
        )


def check_out(out: Path, names: Iterable[str], inputs: Iterable[Path] = ()) -> None:
    """Whether the files `names` can be written in the folder `out`, over none of `inputs`.

    Raises UsageError.
    """
    writable("--out", out)
    for place in (out / name for name in names):
        writable("--out", place.parent)
        if place.exists() and not place.is_file():
            raise UsageError(
                f"--out {quoted(out)}: {quoted(place)} is in the way and no regular file; "
                "move it or give another folder."
            )
        if any(place.exists() and place.samefile(path) for path in inputs):
            raise UsageError(
                f"--out {quoted(out)}: {quoted(place)} is what is to be scored and would be "
                "overwritten; give another folder."
            )


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write all files, then give them their names, in the order given.

    Every file is whole on the disk before the first one gets its name; so a refusal of
    the disk, or a signal, leaves what was there before. Raises StorageError.
    """
    with ExitStack() as stack:
        for path, payload in reversed(list(files.items())):  # what is entered last is named first
            temporary = stack.enter_context(replacing(path))
            temporary.write_bytes(payload)
            sync_file(temporary)
