"""Where results go: looked at before any work, and written all together or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from harness.errors import UsageError
from harness.host.files import replacing, sync_file
from harness.host.text import quoted
from harness.pipeline.preflight import writable


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
