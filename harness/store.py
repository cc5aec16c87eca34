"""A run's folder: keys, atomic publish, journal, lock, manifest.

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
import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Literal

from harness.errors import BusyError, StorageError, UsageError
from harness.progress import write

Status = Literal["started", "done", "diverged", "failed"]

SCHEMA = 1
STATUSES = ("started", "done", "diverged", "failed")
MANIFEST = "manifest.json"

_SCRATCH = "tmp"
_LOCK, _HOLDER = ".lock", ".lock.json"
_TEMPORARY = ".tmp-"
_BIG_FILE = 64 * 1024 * 1024  # bytes; larger files are hashed once a process, not at every look
_big_digests: dict[tuple[str, int, int, int, int], str] = {}


# --- keys ------------------------------------------------------------------------------------


def digest(value: Any) -> str:
    """SHA-256, as 64 hex digits, of `value` as canonical JSON (sorted keys, ASCII, no spaces).

    Raises ValueError on NaN or infinity, TypeError on what JSON cannot say.
    """
    text = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits. Raises OSError where it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- writing files ---------------------------------------------------------------------------


def write_atomic(path: Path, data: str | bytes) -> None:
    """Make `path` hold exactly `data`; whoever looks sees the old content or the new, never a part.

    Text is written as UTF-8; a lone surrogate, which UTF-8 cannot say, as its escape `\\udc80`
    (inside a JSON string that is the same character). Folders are made as needed.
    Raises StorageError; the old content then stands, and no temporary file is left.
    """
    payload = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    with _replacing(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            _write_all(descriptor, payload)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """`write_atomic` of `value` as indented JSON. Raises StorageError; ValueError on NaN."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path`; what the block writes there replaces `path`."""
    temporary = path.parent / f"{_TEMPORARY}{os.urandom(8).hex()}"
    try:
        with _storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
            _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _write_all(descriptor: int, payload: bytes) -> None:
    view = memoryview(payload)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    if sys.platform == "win32":  # folders cannot be opened there
        return
    try:
        _sync_file(path)
    except OSError as error:
        # A file system that cannot sync a folder, or a folder that may be used but not listed.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):
            raise


@contextmanager
def _storing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that names `path` and the mend."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StorageError(f"cannot write {path}: {reason}; {_mend(error.errno)}") from error


def _mend(number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "free some space and give the same command again"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "make its folder writable or choose another one"
    if number in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP):
        return "move what is in its place out of the way"
    if number == errno.ENAMETOOLONG:
        return "choose a folder with a shorter path"
    return "check the disk and give the same command again"


# --- journal ---------------------------------------------------------------------------------


class Journal:
    """An append-only file of JSON objects, one a line, that outlives a kill at any moment.

    dropped: lines that the last `read` (or the first `append`) found unusable and left out.
    damaged: whether that was more than one torn last line, so that whole records were lost.
    """

    def __init__(
        self,
        path: Path,
        *,
        sync_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path)
        self.dropped = 0
        self.damaged = False
        self._sync_seconds, self._clock = sync_seconds, clock
        self._descriptor: int | None = None
        self._end: int | None = None  # bytes of whole lines; None: not known
        self._synced = 0.0

    def read(self) -> list[dict[str, Any]]:
        """All whole records, in order; a missing file has none.

        From the first line on that is not a JSON object with its newline, everything is left out
        (a torn last line; NULs after a power cut). Nothing is written.
        Raises StorageError where the file is there but cannot be read.
        """
        return self._scan()[0]

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record; when this returns, a kill of the process cannot lose it.

        A power cut can lose about the last `sync_seconds`. What `read` leaves out is cut off
        before the first append, so that it never ends up in the middle.
        Raises StorageError (the file then still ends in a whole line), ValueError on NaN.
        """
        line = json.dumps(dict(record), ensure_ascii=False, allow_nan=False) + "\n"
        payload = line.encode("utf-8", "backslashreplace")
        with _storing(self.path):
            descriptor = self._open()
            end = self._repair(descriptor) if self._end is None else self._end
            # Until the line is whole its end is not known: an interruption in between is
            # mended by the next append, or by the next process.
            self._end = None
            try:
                _write_all(descriptor, payload)
                self._sync_now_and_then(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, end)
                raise
            self._end = end + len(payload)

    def close(self) -> None:
        """Force what was appended to the disk and close. Raises StorageError."""
        descriptor, self._descriptor, self._end = self._descriptor, None, None
        if descriptor is None:
            return
        with _storing(self.path):
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> int:
        if self._descriptor is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # O_NONBLOCK: a FIFO in its place is an error, not a wait.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
            self._descriptor = os.open(self.path, flags, 0o666)
            self._synced = self._clock()
            _sync_folder(self.path.parent)
        return self._descriptor

    def _repair(self, descriptor: int) -> int:
        end = self._scan()[1]
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_size > end:
            os.ftruncate(descriptor, end)
            os.fsync(descriptor)
        return end

    def _scan(self) -> tuple[list[dict[str, Any]], int]:
        """The whole records, and how many bytes from the beginning they take."""
        records: list[dict[str, Any]] = []
        end = self.dropped = 0
        try:
            if self.path.is_file():  # not a folder, a FIFO or a device without end
                with open(self.path, "rb") as file:
                    for line in file:
                        record = _object(line)
                        if record is None:
                            self.dropped = 1 + sum(1 for _ in file)
                            break
                        records.append(record)
                        end += len(line)
        except OSError as error:
            raise StorageError(
                f"cannot read {self.path}: {error.strerror}; make it readable or remove it"
            ) from error
        self.damaged = self.dropped > 1
        return records, end

    def _sync_now_and_then(self, descriptor: int) -> None:
        now = self._clock()
        if now - self._synced >= self._sync_seconds:
            os.fsync(descriptor)
            self._synced = now


def _object(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


# --- run folder ------------------------------------------------------------------------------


class RunFolder:
    """The folder of one run (model, task, recipe, seed), keyed by everything that makes it.

    root:     the folder of all runs.
    identity: what can change the run's results, as plain JSON data; its digest's first 12 digits
              are the key in the folder's name.
    notice:   called with one line for each thing found damaged and made again.

    Reading needs no lock. `publish`, `adopt`, `stage_dir` and `finish` need `lock()` to be held
    and raise RuntimeError without it. Making the object writes nothing.
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
        self._notice = notice
        self._said: set[str] = set()
        self._held = False
        self._manifest = self._load()

    @classmethod
    def open_existing(cls, path: Path, *, notice: Callable[[str], None] = write) -> RunFolder:
        """The run in the folder `path`, whatever that is called. Raises UsageError without one."""
        path = Path(os.path.realpath(path))
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

        lock = FileLock(self.path / _LOCK, timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            for folder in (self.path.parent, self.path.parent.parent, self.root):
                _sync_folder(folder)
        except Timeout:
            raise BusyError(self._busy()) from None
        except OSError as error:
            problem = UsageError if error.errno in _UNUSABLE else StorageError
            raise problem(
                f"cannot use {self.path} for a run: {error.strerror}; {_mend(error.errno)}"
            ) from error
        try:
            self._held = True
            self._sweep()
            write_json(self.path / _HOLDER, _holder())
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
            if _digest_or_none(self.path / relative) != expected:
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
        with _storing(self.path):
            folders = {folder for file in listed for folder in PurePosixPath(file).parents}
            for folder in sorted(folders, reverse=True):
                _sync_folder(self.path / folder)
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
        for path in sorted(self.path.parent.glob(f"*/{MANIFEST}")):
            folder = path.parent
            manifest = None if folder == self.path else _read_manifest(path)
            entry = manifest and manifest["stages"].get(name)
            if not entry or entry["key"] != key:
                continue
            files = entry["files"]
            if all(_digest_or_none(folder / file) == files[file] for file in files) and all(
                self._copy(folder / file, self.path / file, files[file]) for file in files
            ):
                self._record(name, {**entry, "adopted_from": folder.name})
                return True
        return False

    def stage_dir(self, name: str, key: str) -> Path:
        """A folder for the partial work of stage `name` under `key` (journals, checkpoints).

        It outlives a kill and goes when the stage is published. What was there under another key
        is removed, so that work of two keys never mixes. Raises StorageError.
        """
        self._need_lock()
        folder = self.path / _SCRATCH / _part(name) / _part(key[:16])
        with _storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for other in folder.parent.iterdir():
                if other != folder:
                    _remove(other)
        return folder

    def finish(self, status: Status, facts: dict[str, Any] | None = None) -> None:
        """Set the run's status and add to its facts; partial work goes once the run is done.

        facts: plain data; NaN and infinity become null. Raises StorageError.
        """
        self._need_lock()
        if status not in STATUSES:
            raise ValueError(f"no such status: {status!r}")
        self._manifest["status"] = status
        self._manifest["finished"] = _now()
        self._manifest["facts"].update(_plain(facts))
        self._save()
        if status == "done":
            _remove(self.path / _SCRATCH)

    def discard(self) -> None:
        """Remove the folder of a run that has no finished stage, and folders that this empties."""
        if self._held or self._load()["stages"]:
            return
        _remove(self.path)
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
            "created": _now(),
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
            _remove(self.path / file)
        _remove(self.path / _SCRATCH / name)

    def _listed(self, files: Iterable[Path]) -> dict[str, str]:
        """Every file with its hash, forced to the disk, by path relative to the run's folder."""
        listed: dict[str, str] = {}
        for given in files:
            path = self.path / given
            with _storing(path):
                found = [file for file in path.rglob("*") if file.is_file()]
                for file in found if path.is_dir() else [path]:
                    relative = Path(os.path.relpath(file, self.path)).as_posix()
                    if not _is_inside(relative) or relative.split("/")[0] == _SCRATCH:
                        raise ValueError(f"{file} is no place for a stage's result")
                    _sync_file(file)
                    listed[relative] = _digest(file)
        return dict(sorted(listed.items()))

    def _copy(self, source: Path, target: Path, expected: str) -> bool:
        from shutil import copyfile

        with _replacing(target) as temporary:
            copyfile(source, temporary)
            _sync_file(temporary)
        return _digest_or_none(target) == expected

    def _sweep(self) -> None:
        for left in self.path.rglob(f"{_TEMPORARY}*"):
            with suppress(OSError):
                left.unlink()

    def _busy(self) -> str:
        # The holder writes its name just after it has the lock: give it a moment.
        for _ in range(10):
            with suppress(OSError, ValueError, KeyError, TypeError):
                holder = json.loads((self.path / _HOLDER).read_bytes())
                if holder["host"] != _host() or _is_alive(holder["pid"]):
                    who = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
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


# --- helpers of the run folder ---------------------------------------------------------------

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
        manifest: Any = json.loads(path.read_bytes()) if path.is_file() else None
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


def _digest(path: Path) -> str:
    status = path.stat()
    if status.st_size < _BIG_FILE:
        return file_digest(path)
    seen = (str(path), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if seen not in _big_digests:
        _big_digests[seen] = file_digest(path)
    return _big_digests[seen]


def _digest_or_none(path: Path) -> str | None:
    try:
        return _digest(path) if path.is_file() else None
    except OSError:
        return None


def _plain(facts: dict[str, Any] | None) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(facts or {}), parse_constant=lambda _: None)
    return plain


def _remove(path: Path) -> None:
    """Remove a file or a whole folder; what cannot be removed stays (it is only in the way)."""
    from shutil import rmtree

    if path.is_dir() and not path.is_symlink():
        rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _host() -> str:
    import socket

    return socket.gethostname()


def _holder() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": _host(), "since": _now()}


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":  # signal 0 would end it there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
