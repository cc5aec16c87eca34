"""The tables of a command, published together: a folder of their own in the folder of results.

    results/
        NAME/            comparison.md, comparison.csv, systems.csv, predictions.csv,
                         manifests.json, curves/ and command.json: what was asked for
        NAME.incomplete/ the same of a command some of whose runs are not done
        latest           a link to the NAME that was published last
        comparison.md    and its like: links to what stands there in latest/
        earlier/         what stood in the place of those links when they were made
        .lock            held by the one process that publishes

A folder is written beside the old one, forced to the disk, and takes its place in one step, so
that a process killed at any moment leaves the old tables or the new ones. Incomplete tables leave
NAME and latest as they are.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import BusyError, StorageError, UsageError
from harness.host import exchange
from harness.host.files import storing, sync_folder, write_atomic, write_json
from harness.host.locks import hold, sign, signed
from harness.host.paths import read_bytes
from harness.host.temporary import TEMPORARY, remove
from harness.host.text import quoted
from harness.pipeline.naming import INCOMPLETE, LATEST

FILES = ("comparison.md", "comparison.csv", "predictions.csv", "manifests.json", "systems.csv")
CURVES, COMMAND = "curves", "command.json"
EARLIER = "earlier"
PATIENCE = 60.0
"""Seconds to wait for another process to publish."""

_LOCK, _HOLDER = ".lock", ".lock.json"


@dataclass(frozen=True, slots=True)
class Tables:
    """What is to be published. files: content by path relative to the folder.

    name: of the folder. asked: what the command asks for; tables of the same replace each other
    whatever their size. manifests: of the runs in them. complete: whether every run is done.
    """

    name: str
    asked: str
    command: str
    files: Mapping[str, bytes]
    manifests: Sequence[Mapping[str, Any]]
    complete: bool


@dataclass(frozen=True, slots=True)
class Published:
    """Where tables went. results: the folder above. latest: whether they stand there, too, by
    links. last: of incomplete tables, the folder of the last complete ones, if there are any."""

    folder: Path
    results: Path
    complete: bool
    latest: bool
    last: Path | None = None

    def text(self) -> str:
        """For a terminal: what was written and where to look; ends in a newline."""
        place = self.results if self.latest else self.folder
        lines = [
            f"written: {self.folder}",
            f"report: {place / FILES[0]}",
            f"tables: {place / FILES[1]}, {place / FILES[2]}",
        ]
        if not self.complete:
            lines[0] += " (incomplete: not every run is done)"
            if self.last is not None:
                lines.append(f"the last complete tables stand in {self.last}")
        return "\n".join(lines) + "\n"


def publish(tables: Tables, results: Path, say: Callable[[str], None]) -> Published:
    """Publish the tables in `results`: all of them, or (an error) none.

    Raises StorageError; BusyError when another process publishes there for a minute; UsageError
    where the name is not free, or has the tables of a larger run (see `refuse`).
    """
    name = tables.name if tables.complete else f"{tables.name}{INCOMPLETE}"
    place = results / name
    record = {"asked": tables.asked, "command": tables.command}
    with writing(results):
        with storing(results):
            exchange.recover(results)
        if tables.complete:
            refuse(results, tables.name, tables.asked, *size(tables.manifests))
        new = exchange.temporary(results)
        try:
            with storing(place):
                (new / CURVES).mkdir(parents=True)
                for relative, payload in tables.files.items():
                    write_atomic(new / relative, payload)
                write_json(new / COMMAND, record)
                _keep_others(place, new)
                sync_folder(new)
                linked = _link_files(results, say)
                exchange.replace(new, place)
        except BaseException:
            remove(new)
            raise
        with storing(results / LATEST):
            if not linked:
                latest = _copy(tables, results)
            elif tables.complete or _is_incomplete(results):
                latest = exchange.link(results / LATEST, name)
            else:
                latest = False
        if tables.complete:
            remove(results / f"{tables.name}{INCOMPLETE}")
    last = None if tables.complete else _last(results, tables.name)
    return Published(place, results, tables.complete, latest, last)


def refuse(results: Path, name: str, asked: str, prompts: int | None, steps: int | None) -> None:
    """Refuse a name that tables of `asked` may not take.

    prompts, steps: of all runs, as many at most; None while they are not known. Raises UsageError
    where `name` is no folder of tables, or has the tables of another command that asked more
    prompts, or trained for more steps.
    """
    place = results / name
    if not os.path.lexists(place):
        return
    try:
        entries = set(os.listdir(place))
    except OSError:
        entries = {""}
    if entries and not {FILES[1], FILES[3]} <= entries:
        raise UsageError(
            f"{quoted(place)} is in the way and no folder of tables; give another name with --name."
        )
    if _asked(place) == asked:
        return
    try:
        there = size(json.loads(read_bytes(place / FILES[3])))
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return
    now = (prompts, steps)
    for at, what in enumerate(("answers to compare", "training steps")):
        number = now[at]
        if number is not None and number < there[at]:
            raise UsageError(
                f"{quoted(place)} holds the tables of a larger run, {there[at]:,} {what}, "
                f"and this command has {number:,}: give another --name, or remove that folder."
            )


def size(manifests: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """How many prompts the runs compare in all, and their training steps."""
    stages = [manifest["stages"] for manifest in manifests]
    return (
        sum(stage["compare"]["facts"]["prompts"] for stage in stages),
        sum(stage["train"]["facts"].get("steps", 0) for stage in stages),
    )


def tidy(results: Path) -> None:
    """Put right what killed commands left in `results`, unless somebody is publishing there."""
    if results.is_dir() and exchange.unfinished(results):
        with suppress(BusyError), writing(results, patience=0.0), storing(results):
            exchange.recover(results)


@contextmanager
def writing(results: Path, patience: float | None = None) -> Iterator[None]:
    """Be the only one who publishes in `results`, which is made.

    patience: seconds to wait for another, PATIENCE unless given. The system ends the hold with the
    process. Raises BusyError, StorageError, Interrupted.
    """
    with ExitStack() as held:
        try:
            results.mkdir(parents=True, exist_ok=True)
            held.enter_context(hold(results / _LOCK, PATIENCE if patience is None else patience))
        except TimeoutError:
            who = signed(results / _HOLDER) or "another process"
            raise BusyError(
                f"{results} is being written to by {who}; the runs are kept: wait for it to end or "
                "stop it, then give the same command again."
            ) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(
                f"{results} cannot be used for tables ({reason}); give another folder with "
                "--results."
            ) from error
        held.callback(remove, results / _HOLDER)
        sign(results / _HOLDER)
        yield


def _asked(place: Path) -> str | None:
    """What the tables in a folder were asked for, None where it does not say."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(read_bytes(place / COMMAND))["asked"])
    return None


def _keep_others(place: Path, new: Path) -> None:
    """What a user put beside the tables in `place` is copied to the folder that replaces it."""
    ours = {*FILES, CURVES, COMMAND}
    for entry in sorted(place.iterdir()) if place.is_dir() else ():
        if entry.name in ours or entry.name.startswith(TEMPORARY):
            continue
        _copy_entry(entry, new / entry.name)


def _copy_entry(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


# --- the links ---------------------------------------------------------------------------------


def _link_files(results: Path, say: Callable[[str], None]) -> bool:
    """Make the tables' usual paths links through latest/; False where links cannot be made.

    What stands in their place is kept in earlier/, which becomes the latest where there is none:
    so every path reads the same before and after. Raises OSError.
    """
    latest = results / LATEST
    if os.path.lexists(latest) and not latest.is_symlink():
        return False
    probe = exchange.temporary(results)
    if not exchange.link(probe, LATEST):
        return False
    remove(probe)
    names = (*FILES, CURVES)
    real = [n for n in names if os.path.lexists(results / n) and not (results / n).is_symlink()]
    if any(not _same(results / name, latest / name) for name in real):
        new = exchange.temporary(results)
        new.mkdir()
        for name in real:
            _copy_entry(results / name, new / name)
        earlier = _free_name(results, EARLIER)
        exchange.replace(new, earlier)
        say(f"{results}: the tables of before are kept in {earlier}")
        if not os.path.lexists(latest):
            exchange.link(latest, earlier.name)
    for name in names:
        exchange.link(results / name, f"{LATEST}/{name}")
    return True


def _same(one: Path, other: Path) -> bool:
    """Whether two files, or all files of two folders, have the same content."""

    def content(place: Path) -> dict[str, bytes]:
        files = [file for file in place.rglob("*") if not file.is_dir()]
        found = files if place.is_dir() else [place]
        return {os.path.relpath(file, place): read_bytes(file) for file in found}

    try:
        return content(one) == content(other)
    except OSError:
        return False


def _free_name(results: Path, name: str) -> Path:
    place, number = results / name, 1
    while os.path.lexists(place):
        number += 1
        place = results / f"{name}-{number}"
    return place


def _is_incomplete(results: Path) -> bool:
    """Whether latest leads to nothing, or to tables that are not complete themselves."""
    latest = results / LATEST
    return not latest.exists() or os.readlink(latest).endswith(INCOMPLETE)


def _copy(tables: Tables, results: Path) -> bool:
    """Where links cannot be made: each file once more, at its usual path."""
    if not tables.complete and (results / FILES[1]).exists():
        return False
    for relative, payload in tables.files.items():
        write_atomic(results / relative, payload)
    return True


def _last(results: Path, name: str) -> Path | None:
    for place in (results / name, results / LATEST):
        real = Path(os.path.realpath(place))
        if (real / FILES[1]).is_file() and not real.name.endswith(INCOMPLETE):
            return results / real.name if place.is_symlink() else place
    return None
