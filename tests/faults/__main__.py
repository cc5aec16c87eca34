"""`python -m tests.faults [--seconds S] [--seed N] [--kinds K ...]`: harm commands at random.

Every trial is drawn from the seed, its kind and its number, and names the command that repeats
it. Not a part of the tests: it takes as long as it is given. Exit status 1 where something is
found.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.faults import caches, disks, flips, fuzz, kills, signals
from tests.faults.common import Place, Shared

KINDS = {
    "kills": kills.trial,
    "signals": signals.trial,
    "flips": flips.trial,
    "caches": caches.trial,
    "disks": disks.trial,
    "fuzz": fuzz.trial,
}


class Job:
    """Trials of several kinds, spread over workers until the time is over."""

    def __init__(self, seed: int, kinds: list[str], seconds: float, only: int | None) -> None:
        self.seed, self.kinds, self.only = seed, kinds, only
        self._end = time.monotonic() + seconds
        self._spent = dict.fromkeys(kinds, 0.0)
        self._next = Counter[str]()
        self.done = Counter[str]()
        self.causes: dict[str, tuple[int, str, str]] = {}
        self._lock = threading.Lock()

    def work(self, place: Place) -> None:
        while (drawn := self._draw()) is not None:
            kind, number = drawn
            began = time.monotonic()
            try:
                found = KINDS[kind](place, random.Random(f"{self.seed} {kind} {number}"))
            except Exception as error:
                traceback.print_exc()
                found = [f"the job itself failed: {type(error).__name__}: {error}"]
            self._note(kind, number, found, time.monotonic() - began)

    def _draw(self) -> tuple[str, int] | None:
        """The kind that has had the least time, and its next number."""
        with self._lock:
            over = time.monotonic() > self._end or (self.only is not None and self._next)
            if over:
                return None
            kind = min(self.kinds, key=lambda k: self._spent[k] + self._next[k] / 1e6)
            number = self._next[kind] if self.only is None else self.only
            self._next[kind] += 1
            self._spent[kind] += 1.0  # until it is known
            return kind, number

    def _note(self, kind: str, number: int, found: list[str], seconds: float) -> None:
        with self._lock:
            self.done[kind] += 1
            self._spent[kind] += seconds - 1.0
            again = f"python -m tests.faults --seed {self.seed} --kinds {kind} --only {number}"
            for text in found:
                print(f"{kind} {number}: {text}\n    {again}", flush=True)
                cause = re.sub(r"'[^']*'|\"[^\"]*\"|\d+|/\S*/", "…", f"{kind}: {text}")
                count, _, first = self.causes.get(cause, (0, "", f"{text}\n       {again}"))
                self.causes[cause] = count + 1, kind, first

    def summary(self) -> str:
        counts = ", ".join(f"{kind} {self.done[kind]}" for kind in self.kinds)
        total = sum(count for count, *_ in self.causes.values())
        return f"{counts}: {total} findings"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this trial and no other")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    _mounts_of_our_own()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    room = "/dev/shm"
    inside = room if os.path.isdir(room) and shutil.disk_usage(room).free > 2**31 else None
    with tempfile.TemporaryDirectory(prefix="faults-", dir=inside) as folder:
        root = Path(folder)
        shared = Shared(root)
        places = [
            Place(root / f"worker-{i}", shared)
            for i in range(1 if arguments.only is not None else arguments.jobs)
        ]
        shared.make_models(places[0].commands)
        caches.make(shared)
        job = Job(arguments.seed, arguments.kinds, arguments.seconds, arguments.only)
        workers = [threading.Thread(target=job.work, args=(p,), daemon=True) for p in places]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        for place in places:
            place.close()
    if len(job.causes) > 1:
        print("\nby cause:")
        for count, kind, first in sorted(job.causes.values(), reverse=True):
            print(f"{count:4} × {kind}: {first}")
    print(job.summary())
    return 1 if job.causes else 0


def _mounts_of_our_own() -> None:
    """Where root can: go on with a mount table of our own, in which `disks` mounts small ones."""
    if os.geteuid() or "FAULTS_MOUNTS" in os.environ:
        return
    try:
        able = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    except OSError:
        return
    if able.returncode == 0:
        os.environ["FAULTS_MOUNTS"] = "own"
        words = [sys.executable, "-m", "tests.faults", *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "-m", *words])


if __name__ == "__main__":
    sys.exit(main())
