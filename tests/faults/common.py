"""Commands that are watched while they run, what they should have left, and what is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.commands import (
    MODEL_IMPORTS,
    ROOT,
    Commands,
    Fault,
    Outcome,
    files_under,
    make_registry,
    run_folders,
    run_of,
    write_script,
)

LIMIT = 60.0
"""Seconds that a command may take, where nobody else wants the processors; those here take two."""

MEMORY = 2000
"""MB that a command may take beyond what its process had before it."""

TABLES = ("comparison.csv", "comparison.md", "predictions.csv")
WORDS_OF_PROBLEMS = ("Traceback (most recent", "Exception ignored", "the trace is in")


@dataclass(frozen=True)
class Ended:
    """How a watched command ended: `outcome`, after how many seconds, at how many MB; hung: it
    was killed at LIMIT or at MEMORY."""

    outcome: Outcome
    seconds: float
    peak: float
    hung: bool

    @property
    def status(self) -> int:
        return self.outcome.status

    def said(self, pattern: str) -> bool:
        return re.search(pattern, self.outcome.output) is not None


@dataclass
class Running:
    """A command under way. pid: its process. ended: waits for it and says how it ended."""

    pid: int
    folder: Path
    ended: Callable[[], Ended]


@dataclass(frozen=True)
class Peace:
    """What an undisturbed command leaves in `folder`, and in how many seconds."""

    work: dict[str, Any]
    seconds: float
    folder: Path

    def copy(self, cwd: Path) -> None:
        """Have `cwd` be as after the command."""
        shutil.copytree(self.folder, cwd, symlinks=True, dirs_exist_ok=True)


class Shared:
    """What all workers use: registries, tiny models, and what undisturbed commands leave."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._peace: dict[tuple[str, ...], Peace] = {}
        self._locks: dict[tuple[str, ...], threading.Lock] = {}
        self._lock = threading.Lock()
        self.registry = make_registry(root / "registry", train=16, test=8)
        watch: dict[str, Any] = {"eval_steps": 2, "eval_samples": 1, "load_best_model_at_end": True}
        self.watched = make_registry(root / "watched", train=24, validation=0.25, **watch)
        for each in (self.registry, self.watched):  # scorers that are imported in no time
            place = each / "tasks/words/task.toml"
            text = place.read_text()
            place.write_text(re.sub("scorers = .*", 'scorers = ["exact_match", "answers"]', text))
        self.script = write_script(root / "says.jsonl")
        self.models: dict[str, Path] = {}
        self.package = root / "package"  # a folder on the path of modules
        self.package.mkdir()

    def make_models(self, commands: Commands) -> None:
        for family in ("llama", "falcon", "gemma3"):
            self.models[family] = commands.save_tiny(self.root / family, family, hidden=32)

    def scripted(self, *more: object) -> list[str]:
        return run_of(self.registry, {"scripted": self.script}, *more)

    def scene(self, rng: random.Random) -> list[str]:
        """A command of several stages."""
        llama, falcon = {"llama2-7b": self.models["llama"]}, {"falcon7b": self.models["falcon"]}
        scenes = {
            4: self.scripted(),
            1: self.scripted("--seeds", 0, 1),
            3: run_of(self.registry, llama, "--max-steps", 5),
            2: run_of(self.watched, falcon),
            1.5: run_of(self.registry, {"scripted": self.script, **llama}, "--max-steps", 2),
        }
        return rng.choices(list(scenes.values()), list(scenes))[0]

    def peace(self, place: Place, words: list[str]) -> Peace:
        with self._lock:
            lock = self._locks.setdefault(tuple(words), threading.Lock())
        with lock:
            if (found := self._peace.get(tuple(words))) is None:
                with place.fresh() as folder:
                    ended = place.run(folder, words)
                    assert ended.status == 0, ended.outcome.output
                    kept = self.root / f"peace-{os.urandom(4).hex()}"
                    folder.rename(kept)
                found = self._peace[tuple(words)] = Peace(work(kept), ended.seconds, kept)
        return found


class Place:
    """One worker's: a server of commands, and folders."""

    def __init__(self, root: Path, shared: Shared) -> None:
        self.root, self.shared = root, shared
        root.mkdir()
        self.environment = {
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(shared.root / "hub"),
            "HARNESS_CACHE": str(root / "cache"),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{shared.package}",
        }
        self.commands = Commands((*MODEL_IMPORTS, "tests.faults.quick"), self.environment)

    def close(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):  # its process ends with this one
            self.commands.close()

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Path]:
        """An empty folder with a temporary directory beside it, gone afterwards."""
        base = self.root / os.urandom(4).hex()
        (base / "tmp").mkdir(parents=True)
        (base / "cwd").mkdir()
        try:
            yield base / "cwd"
        finally:
            shutil.rmtree(base, ignore_errors=True)

    def start(self, cwd: Path, words: list[str], fault: Fault | None = None, **env: str) -> Running:
        """Begin a command in a forked process."""
        env = {"TMPDIR": str(cwd.parent / "tmp"), **env}
        began = time.monotonic()
        started = self.commands.start(cwd, *words, fault=fault, **env)
        pid, before = started[0], _memory(started[0])

        def ended() -> Ended:
            hung, peak = _watch(pid, began, before)
            return Ended(self.commands.wait(started), time.monotonic() - began, peak, hung)

        return Running(pid, cwd, ended)

    def start_fresh(self, cwd: Path, words: list[str]) -> Running:
        """Begin a command in a new interpreter, as a user does, in a session of its own."""
        began = time.monotonic()
        env = {**os.environ, **self.environment, "TMPDIR": str(cwd.parent / "tmp")}
        streams = [(cwd.parent / name).open("w+b") for name in ("stdout", "stderr")]
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", *words],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=streams[0],
            stderr=streams[1],
            start_new_session=True,
        )

        def ended() -> Ended:
            hung, peak = _watch(process.pid, began, 0)
            process.wait()
            texts = []
            for stream in streams:
                stream.seek(0)
                texts.append(stream.read().decode("utf-8", "replace"))
                stream.close()
            outcome = Outcome(process.returncode, *texts)
            return Ended(outcome, time.monotonic() - began, peak, hung)

        return Running(process.pid, cwd, ended)

    def run(self, cwd: Path, words: list[str], fault: Fault | None = None, **env: str) -> Ended:
        return self.start(cwd, words, fault, **env).ended()


def _memory(pid: int, field: str = "VmRSS") -> float:
    """MB of a process, 0 where it has ended."""
    with contextlib.suppress(OSError):
        if match := re.search(field + r":\s+(\d+)", Path(f"/proc/{pid}/status").read_text()):
            return int(match[1]) / 1024
    return 0.0


def _watch(pid: int, began: float, before: float) -> tuple[bool, float]:
    """Wait until a process has ended (not yet reaped); whether it had to be killed, and its MB."""
    peak, hung = 0.0, False
    limit = LIMIT * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            state = "Z"
        if state in "ZX":
            return hung, peak
        peak = max(peak, _memory(pid, "VmHWM") - before)
        if not hung and (time.monotonic() - began > limit or peak > MEMORY):
            hung = True
            os.kill(pid, 9)
        time.sleep(0.004)


# --- what a command should have left ---------------------------------------------------------


def tables(cwd: Path) -> dict[str, str]:
    """Those of the tables that are there, but for the lines of what was measured."""
    found = {}
    for name in TABLES:
        with contextlib.suppress(OSError):
            lines = (cwd / "results" / name).read_bytes().decode("utf-8", "replace").split("\n")
            found[name] = "\n".join(li for li in lines if not li.startswith("Measured:"))
    return found


def work(cwd: Path) -> dict[str, Any]:
    """All that must be alike after a disturbed and an undisturbed run, by name."""
    found: dict[str, Any] = dict(tables(cwd))
    for folder in run_folders(cwd):
        short = "/".join(folder.parts[-3:])
        for name in ("adapter/adapter_model.safetensors", "samples.jsonl"):
            with contextlib.suppress(OSError):
                digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
                found[f"{short}/{name}"] = digest
        with contextlib.suppress(OSError, ValueError):
            rows = [json.loads(li) for li in (folder / "log.jsonl").read_text().splitlines()]
            found[f"{short}/log.jsonl"] = [(r.get("step"), r.get("loss")) for r in rows]
    return found


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Names of what differs, the runs' folders left out of them."""
    names = [name for name in wanted if found.get(name) != wanted[name]]
    return sorted({name.split("/", 3)[-1] for name in names})


# --- what is wrong ---------------------------------------------------------------------------


def complaints(ended: Ended, allowed: tuple[int, ...] = (0,)) -> list[str]:
    """What is wrong with the way in which a command ended, whatever it was to do."""
    out, status = ended.outcome.output, ended.status
    if ended.hung:
        why = "did not end" if ended.peak <= MEMORY else f"took {ended.peak:.0f} MB"
        return [f"{why}: {_last(out)}"]
    if any(word in out for word in WORDS_OF_PROBLEMS):
        return [f"exit {status} with a trace: {_cause(out)}"]
    found = []
    if status not in allowed:
        found.append(f"ended with {status}: {_last(out)}")
    if status in (1, 2) and not out.strip():
        found.append(f"exit {status} without a word")
    if "\x1b" in out:
        at = out.index("\x1b")
        found.append(f"printed an escape character: {out[max(0, at - 80) : at + 20]!r}")
    if status in (1, 2) and any(len(line) > 3000 for line in out.splitlines()):
        found.append(f"a message of {len(out):,} characters: {_last(out)}")
    return found


def _last(out: str) -> str:
    lines = out.strip().splitlines() or ["(nothing said)"]
    return lines[-1][:300]


def _cause(out: str) -> str:
    """The last exception of a trace, printed or in a file, and the last of our own lines in it."""
    text = out
    if match := re.search(r"the trace is in (\S+?)\.?$", out, re.MULTILINE):
        with contextlib.suppress(OSError):
            text = Path(match[1]).read_text()
    ours = re.findall(r'File "\S*/(harness/\S+)", line (\d+), in (\S+)', text)
    at = " at {}:{} {}".format(*ours[-1]) if ours else ""
    errors = [li for li in text.splitlines() if re.match(r"[A-Za-z_.]+(Error|Exception|Interrupt"
              r"|Interrupted|Exit|Warning)\b", li)]  # fmt: skip
    return f"{(errors or [_last(text)])[-1][:160]}{at}"


def leftovers(cwd: Path) -> list[str]:
    """Temporary files that a finished command should have swept."""
    left = [p for p in cwd.rglob("*") if re.match(r"\.(tmp|making)-", p.name)]
    left += list((cwd / "runs").glob("*/*/*/tmp"))
    left += list((cwd.parent / "tmp").iterdir())
    shapes = {re.sub(r"[0-9a-z_]{8,}", "…", p.name) for p in left}
    return [f"left behind: {', '.join(sorted(shapes))}"] if left else []


def ends_well(place: Place, cwd: Path, words: list[str], when: str, **env: str) -> list[str]:
    """The command once more, in peace: it must succeed, with the tables of an undisturbed one."""
    ended = place.run(cwd, words, **env)
    found = complaints(ended)
    if not found and (names := differences(work(cwd), place.shared.peace(place, words).work)):
        found = [f"other results than undisturbed in {', '.join(names)}"]
    if not found:
        found = leftovers(cwd)
    return [f"{when}, the same command: {text}" for text in found]


def of_one_run(cwd: Path, place: Place, *commands: list[str]) -> bool:
    """Whether the tables are all those of one of `commands`, or none is there."""
    there = tables(cwd)
    wanted = [place.shared.peace(place, words).work for words in commands]
    return not there or any(all(there.get(n) == peace[n] for n in TABLES) for peace in wanted)


def some_path(rng: random.Random, cwd: Path) -> Path | None:
    """A random file under `cwd`, small files as often as large ones."""
    files = sorted(p for p in files_under(cwd) if not p.name.startswith((".lock", ".tmp-")))
    return rng.choice(files) if files else None
