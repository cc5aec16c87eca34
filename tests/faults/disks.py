"""A disk that takes no more: one sentence, the earlier tables stand, and with room all is well."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import subprocess
from pathlib import Path

from tests.faults.common import Place, complaints, ends_well, of_one_run
from tests.faults.kills import random_fault


def trial(place: Place, rng: random.Random) -> list[str]:
    ways = [_refused_write, _small_files] + [_small_disk] * 2 * ("FAULTS_MOUNTS" in os.environ)
    return rng.choice(ways)(place, rng)


def _refused_write(place: Place, rng: random.Random) -> list[str]:
    """The n-th write of a kind fails with ENOSPC."""
    words, earlier = place.shared.scene(rng), place.shared.scripted("--seeds", 7)
    with place.fresh() as cwd:
        known = _before(place, rng, cwd, words, earlier)
        fault = random_fault(rng, "ENOSPC")
        while fault.event == "publish":  # nothing is written there
            fault = random_fault(rng, "ENOSPC")
        ended = place.run(cwd, words, fault)
        found = complaints(ended, (0, 1, 2)) + _tables(place, cwd, known)
        return found + ends_well(place, cwd, words, "after a refused write")


def _small_files(place: Place, rng: random.Random) -> list[str]:
    """No file may grow beyond a size: EFBIG."""
    words, earlier = place.shared.scene(rng), place.shared.scripted("--seeds", 7)
    with place.fresh() as cwd:
        known = _before(place, rng, cwd, words, earlier)
        running = place.start(cwd, words)
        size = int(2 ** rng.uniform(12.5, 17))  # more than is printed
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (size, size))
        found = complaints(running.ended(), (0, 1, 2)) + _tables(place, cwd, known)
        return found + ends_well(place, cwd, words, "after files that may not grow")


def _small_disk(place: Place, rng: random.Random) -> list[str]:
    """A file system of a few kB, that is made larger afterwards."""
    words, earlier = place.shared.scene(rng), place.shared.scripted("--seeds", 7)
    with place.fresh() as cwd:
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(cwd)]
        subprocess.run(mount, check=True)
        try:
            known = _before(place, rng, cwd, words, earlier)
            used = shutil.disk_usage(cwd).used
            _resize(cwd, used + int(2 ** rng.uniform(12, 20)))
            found = complaints(place.run(cwd, words), (0, 1, 2)) + _tables(place, cwd, known)
            _resize(cwd, 64 << 20)
            return found + ends_well(place, cwd, words, "after a full disk")
        finally:
            subprocess.run(["umount", "-l", str(cwd)], check=True)


def _resize(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def _before(
    place: Place, rng: random.Random, cwd: Path, words: list[str], earlier: list[str]
) -> list[list[str]]:
    """Perhaps an earlier command's tables; the commands whose tables may be seen."""
    if rng.random() < 0.5:
        return [words]
    place.shared.peace(place, earlier).copy(cwd)
    return [words, earlier]


def _tables(place: Place, cwd: Path, known: list[list[str]]) -> list[str]:
    return [] if of_one_run(cwd, place, *known) else ["tables that are not all of one run"]
