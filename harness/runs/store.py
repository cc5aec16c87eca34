"""A run's folder: its key, its stages published atomically, its lock, its manifest.

    runs/<model>/<task>/<recipe>-seed<k>-<key>/
        manifest.json   what made the run, its status, its finished stages with a hash of each file
        ...             the stages' files
        tmp/            partial work of unfinished stages, kept when the process is killed
        .lock           held by the one process that works on the run

A stage is done when the manifest says so *and* every file it lists has the hash it lists. Files
come first (each to a temporary name, fsync, rename, fsync of the folder), the manifest last; so a
process killed at any moment leaves the stage either whole or not done.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from harness.errors import BusyError, StorageError, UsageError
from harness.host.files import (
    cached_digest,
    digest,
    digest_or_none,
    mend,
    replacing,
    storing,
    sync_file,
    sync_folder,
    write_json,
)
from harness.host.links import first_link, refuse_links
from harness.host.locks import sign, signed, timestamp
from harness.host.paths import read_bytes
from harness.host.progress import write
from harness.host.temporary import TEMPORARY, remove

Status = Literal["started", "done", "diverged", "failed"]

SCHEMA = 1
STATUSES = ("started", "done", "diverged", "failed")
MANIFEST = "manifest.json"

_SCRATCH = "tmp"
_LOCK, _HOLDER = ".lock", ".lock.json"


class RunFolder:
    """The folder of one run (model, task, recipe, seed), keyed by everything that makes it.

    root:     the folder of all runs.
    identity: what can change the run's results, as plain JSON data; its digest's first 12 digits
              are the key in the folder's name.
    notice:   called with one line for each thing found damaged and made again.

    Reading needs no lock. `publish`, `adopt`, `stage_dir` and `finish` need `lock()` to be held
    and raise RuntimeError without it. Making the object writes nothing; it raises UsageError
    where anything in the folder is a link.
    """

    def __init__(
        self,
        root: Path,
        model: str,
        task: str,
        recipe: str,
        seed: int,
        identity: dict[str, Any],
        *,
        notice: Callable[[str], None] = write,
    ) -> None:
        self.model, self.task, self.recipe, self.seed = model, task, recipe, seed
        self.identity: dict[str, Any] = json.loads(json.dumps(identity, allow_nan=False))
        self.key = digest(self.identity)[:12]
        self.root = Path(os.path.realpath(root))
        self.path = (
            self.root / _part(model) / _part(task) / _part(f"{recipe}-seed{seed}-{self.key}")
        )
        if os.path.realpath(self.path) != str(self.path):
            raise UsageError(
                f"the run's folder {self.path} leads out of {self.root} through a link; "
                "remove the link or choose another folder for runs"
            )
        refuse_links(self.path)
        self._notice = notice
        self._said: set[str] = set()
        self._held = False
        self._manifest = self._load()

    @classmethod
    def open_existing(cls, path: Path, *, notice: Callable[[str], None] = write) -> RunFolder:
        """The run in the folder `path`, whatever that is called.

        Raises UsageError where there is none, or a link in it.
        """
        path = Path(os.path.realpath(path))
        refuse_links(path)
        manifest = _read_manifest(path / MANIFEST, notice)
        if manifest is None:
            raise UsageError(
                f"{path} holds no run that can be read; give the folder of a run, in which "
                f"{MANIFEST} stands"
            )
        recipe, seed, identity = (manifest[name] for name in ("recipe", "seed", "identity"))
        model, task, root = manifest["model"], manifest["task"], path.parent.parent.parent
        run = cls(root, model, task, recipe, seed, identity, notice=notice)
        run.path, run._manifest = path, manifest
        return run

    @property
    def label(self) -> str:
        """`model/task/folder`, as messages name the run."""
        return f"{self.model}/{self.task}/{self.path.name}"

    @property
    def manifest(self) -> dict[str, Any]:
        """What `manifest.json` says, or would say for a new run. To read, not to change."""
        return self._manifest

    @property
    def status(self) -> Status:
        status: Status = self._manifest["status"]
        return status

    @contextmanager
    def lock(self) -> Iterator[RunFolder]:
        """Hold the run for this process: make its folder and manifest, clear what a kill left.

        The operating system ends the hold with the process, however that ends.
        Raises BusyError, naming the holder, at once where another process (or this one) holds it;
        UsageError where the folder cannot be made; StorageError.
        """
        from filelock import FileLock, Timeout

        refuse_links(self.path)
        lock = FileLock(self.path / _LOCK, timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            for folder in (self.path.parent, self.path.parent.parent, self.root):
                sync_folder(folder)
        except Timeout:
            raise BusyError(self._busy()) from None
        except OSError as error:
            problem = UsageError if error.errno in _UNUSABLE else StorageError
            raise problem(
                f"cannot use {self.path} for a run: {error.strerror}; {mend(error.errno)}"
            ) from error
        try:
            self._held = True
            self._sweep()
            sign(self.path / _HOLDER)
            self._manifest = self._load()
            if not (self.path / MANIFEST).is_file():
                self._save()
            yield self
        finally:
            self._held = False
            with suppress(OSError):
                (self.path / _HOLDER).unlink()
            lock.release()

    # stages ------------------------------------------------------------------

    def stage(self, name: str) -> dict[str, Any] | None:
        """The manifest's entry of a stage: `key`, `files`, `facts`, `seconds`; None without one."""
        entry: dict[str, Any] | None = self._manifest["stages"].get(name)
        return entry

    def is_done(self, name: str, key: str) -> bool:
        """Whether stage `name` was finished under `key` and every file of it is intact.

        A damaged or missing file is told through `notice`, and the stage's entry dropped.
        """
        entry = self.stage(name)
        if entry is None or entry["key"] != key:
            return False
        for relative, expected in entry["files"].items():
            if digest_or_none(self.path / relative) != expected:
                missing = not os.path.lexists(self.path / relative)
                what = "is missing" if missing else "was changed or damaged"
                self._say(f"{relative} of {self.label} {what}; made again")
                del self._manifest["stages"][name]
                if self._held:
                    self._manifest["status"] = "started"
                    self._save()
                return False
        return True

    def publish(
        self,
        name: str,
        key: str,
        files: Iterable[Path],
        facts: dict[str, Any] | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Record stage `name` as done under `key`, with its files, forced to the disk and hashed.

        files:   what the stage made, in the run's folder: absolute or relative to it; a folder
                 stands for all files in it. Files of the stage's earlier entry that are no longer
                 among them are removed, and so is its partial work.
        facts:   plain data about the stage; NaN and infinity become null.
        seconds: how long the stage took.
        Raises StorageError; ValueError for a file outside of the run's folder or in `tmp/`.
        """
        self._need_lock()
        listed = self._listed(files)
        with storing(self.path):
            folders = {folder for file in listed for folder in PurePosixPath(file).parents}
            for folder in sorted(folders, reverse=True):
                sync_folder(self.path / folder)
        self._record(
            name, {"key": key, "files": listed, "facts": _plain(facts), "seconds": seconds}
        )

    def adopt(self, name: str, key: str) -> bool:
        """Take stage `name` from another run of the same model and task that finished it under
        the same `key`; True if one was found with every file intact.

        Files are copied, not linked, so that damage to one run stays there.
        Raises StorageError where the copy cannot be written.
        """
        self._need_lock()
        for folder, entry in self.elsewhere(name, key):
            files = entry["files"]
            if all(self._copy(folder / file, self.path / file, files[file]) for file in files):
                self._record(name, {**entry, "adopted_from": folder.name})
                return True
        return False

    def elsewhere(self, name: str, key: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The other runs that `adopt` may take the stage from: folder and manifest's entry."""
        for path in sorted(self.path.parent.glob(f"*/{MANIFEST}")):
            folder = path.parent
            manifest = None if folder == self.path else _read_manifest(path)
            entry = manifest and manifest["stages"].get(name)
            if not entry or entry["key"] != key or first_link(folder) is not None:
                continue
            files = entry["files"]
            if all(digest_or_none(folder / file) == files[file] for file in files):
                yield folder, entry

    def stage_dir(self, name: str, key: str) -> Path:
        """A folder for the partial work of stage `name` under `key` (journals, checkpoints).

        It outlives a kill and goes when the stage is published. What was there under another key
        is removed, so that work of two keys never mixes. Raises StorageError.
        """
        self._need_lock()
        folder = self.scratch(name, key)
        with storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for other in folder.parent.iterdir():
                if other != folder:
                    remove(other)
        return folder

    def scratch(self, name: str, key: str) -> Path:
        """Where `stage_dir` is, or would be; nothing is made."""
        return self.path / _SCRATCH / _part(name) / _part(key[:16])

    def finish(self, status: Status, facts: dict[str, Any] | None = None) -> None:
        """Set the run's status and add to its facts; partial work goes once the run is done.

        facts: plain data; NaN and infinity become null. Raises StorageError.
        """
        self._need_lock()
        if status not in STATUSES:
            raise ValueError(f"no such status: {status!r}")
        self._manifest["status"] = status
        self._manifest["finished"] = timestamp()
        self._manifest["facts"].update(_plain(facts))
        self._save()
        if status == "done":
            remove(self.path / _SCRATCH)

    def discard(self) -> None:
        """Remove the folder of a run that has no finished stage, and folders that this empties."""
        if self._held or self._load()["stages"]:
            return
        remove(self.path)
        with suppress(OSError):
            for folder in (self.path.parent, self.path.parent.parent, self.root):
                folder.rmdir()

    # inside ------------------------------------------------------------------

    def _say(self, line: str) -> None:
        if line not in self._said:  # a look before the lock and one under it find the same
            self._said.add(line)
            self._notice(line)

    def _need_lock(self) -> None:
        if not self._held:
            raise RuntimeError("a run is changed only inside `with run.lock():`")

    def _load(self) -> dict[str, Any]:
        path = self.path / MANIFEST
        manifest = _read_manifest(path, self._say)
        if manifest is not None and manifest["key"] == self.key:
            return manifest
        if manifest is not None:
            self._say(f"{path} belongs to another run; not used")
        return {
            "schema": SCHEMA,
            "status": "started",
            "model": self.model,
            "task": self.task,
            "recipe": self.recipe,
            "seed": self.seed,
            "key": self.key,
            "created": timestamp(),
            "identity": self.identity,
            "stages": {},
            "facts": {},
        }

    def _save(self) -> None:
        content = {name: value for name, value in self._manifest.items() if name != "digest"}
        self._manifest = {**content, "digest": digest(content)}
        write_json(self.path / MANIFEST, self._manifest)

    def _record(self, name: str, entry: dict[str, Any]) -> None:
        stages: dict[str, Any] = self._manifest["stages"]
        before = stages.pop(name, {"files": {}})["files"]
        # A file has one owner: another stage that lists it cannot be intact any more.
        for other in [other for other in stages if stages[other]["files"].keys() & entry["files"]]:
            del stages[other]
        stages[name] = entry
        self._manifest["status"] = "started"
        self._manifest.pop("finished", None)
        self._save()
        owned = {file for stage in stages.values() for file in stage["files"]}
        for file in set(before) - owned:
            remove(self.path / file)
        remove(self.path / _SCRATCH / name)

    def _listed(self, files: Iterable[Path]) -> dict[str, str]:
        """Every file with its hash, forced to the disk, by path relative to the run's folder."""
        listed: dict[str, str] = {}
        for given in files:
            path = self.path / given
            with storing(path):
                found = [file for file in path.rglob("*") if file.is_file()]
                for file in found if path.is_dir() else [path]:
                    relative = Path(os.path.relpath(file, self.path)).as_posix()
                    if not _is_inside(relative) or relative.split("/")[0] == _SCRATCH:
                        raise ValueError(f"{file} is no place for a stage's result")
                    sync_file(file)
                    listed[relative] = cached_digest(file)
        return dict(sorted(listed.items()))

    def _copy(self, source: Path, target: Path, expected: str) -> bool:
        from shutil import copyfile

        with replacing(target) as temporary:
            copyfile(source, temporary)
            sync_file(temporary)
        return digest_or_none(target) == expected

    def _sweep(self) -> None:
        # Whosever they were: only who holds the lock writes here.
        for left in self.path.rglob(f"{TEMPORARY}*"):
            remove(left)

    def _busy(self) -> str:
        # The holder writes its name just after it has the lock: give it a moment.
        for _ in range(10):
            if who := signed(self.path / _HOLDER):
                break
            time.sleep(0.02)
        else:
            who = "another process"
        return (
            f"the run {self.label} is being worked on by {who}; "
            "wait for it to end or stop it, then give the same command again"
        )


def list_runs(root: Path) -> list[dict[str, Any]]:
    """The manifests of all runs under `root`, each with its folder as `path`, sorted by it.

    What is no run, or cannot be read, is passed over.
    """
    runs = []
    with suppress(OSError):
        for path in sorted(Path(root).glob(f"*/*/*/{MANIFEST}")):
            manifest = _read_manifest(path)
            if manifest is not None:
                runs.append({**manifest, "path": str(path.parent)})
    return runs


def is_held(folder: Path) -> bool:
    """Whether a process works on the run in `folder`, as far as this machine can tell.

    Nothing is held or written by asking. A process of another machine counts as working.
    """
    return signed(folder / _HOLDER) is not None


# --- helpers ---------------------------------------------------------------------------------

_UNUSABLE = frozenset(
    [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG]
)


def _read_manifest(
    path: Path, notice: Callable[[str], None] = lambda _: None
) -> dict[str, Any] | None:
    """The manifest in `path`, or None where it is missing or, with a notice, damaged."""
    if not os.path.lexists(path):
        return None
    try:
        plain = path.is_file() and not path.is_symlink()
        manifest: Any = json.loads(read_bytes(path)) if plain else None
        if _is_manifest(manifest):
            return dict(manifest)
    except (OSError, ValueError, RecursionError):
        pass
    notice(f"{path} is damaged and treated as absent; its stages are made again")
    return None


def _is_manifest(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        return False
    content = {name: part for name, part in value.items() if name != "digest"}
    if value.get("digest") != digest(content):
        return False
    # The digest says that it is as it was written; the rest, that we can work with it.
    try:
        return (
            {"status", "model", "task", "recipe", "seed", "key", "identity", "facts"}
            <= value.keys()
            and value["status"] in STATUSES
            and all(
                isinstance(entry["key"], str) and all(map(_is_inside, entry["files"].keys()))
                for entry in value["stages"].values()
            )
        )
    except (AttributeError, KeyError, TypeError):
        return False


def _is_inside(relative: str) -> bool:
    """Whether a relative path, in POSIX form, stays in the folder that it is relative to."""
    path = PurePosixPath(relative)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _part(name: str) -> str:
    """`name`, checked to be one part of a path. Raises UsageError."""
    if name in ("", ".", "..") or any(char in name for char in "/\\\0"):
        raise UsageError(f"{name!r} cannot name a folder; use a name of letters and digits")
    return name


def _plain(facts: dict[str, Any] | None) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(facts or {}), parse_constant=lambda _: None)
    return plain
