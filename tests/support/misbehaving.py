"""A scorer that does what the answer tells it to, for tests of the worker processes."""

from __future__ import annotations

import os
import re
import sys
import time

from harness.errors import MissingError, UsageError
from harness.records import Sample
from harness.scorers import Chosen
from harness.scorers.base import Scorer, Value, metric


class Misbehaving(Scorer):
    """misbehaves: 0.0, unless the answer is one of the words below. An answer `WORD NAME`
    means only the scorer of that name; one named "bulky" has much to say."""

    version = 1

    def __init__(self, name: str = "misbehaves", start: str = "") -> None:
        self.name = name
        self.start = start
        self.metrics = (metric(name, "lower", 1),)

    def prepare(self) -> None:
        if os.environ.get("MISBEHAVING_PARENT") != str(os.getpid()):
            self._do(self.start)

    def score(self, sample: Sample) -> dict[str, Value]:
        word, _, name = sample.prediction.partition(" ")
        if name in ("", self.name):
            self._do(word)
        return {self.name: float(len(sample.prediction))}

    def details(self, sample: Sample) -> dict[str, object]:
        return {self.name: "d" * 300_000} if self.name == "bulky" else {}

    def _do(self, word: str) -> None:
        if word == "sleep":
            time.sleep(60)
        elif word == "spin":
            while True:
                pass
        elif word == "hog":  # one call into C that never lets another thread run
            re.match("(a*)*b", "a" * 40)
        elif word == "exit":
            os._exit(0)
        elif word == "kill":
            os.kill(os.getpid(), 9)
        elif word == "quit":
            sys.exit("a library that ends the program")
        elif word == "memory":
            bytearray(1 << 45)
        elif word == "deep":
            self._do(word)
        elif word == "raise":
            raise ValueError("told so")
        elif word == "usage":
            raise UsageError("the task is at fault.")
        elif word == "missing":
            raise MissingError("something is missing.")
        elif word == "print":
            print("a library talks", flush=True)
            os.write(1, b"and so does its C code\n" * 100)
            os.write(2, b"and it warns\n" * 100)


class Elsewhere(Misbehaving):
    """One that runs in the parent."""

    in_worker = False


def chosen(scorer: Misbehaving) -> Chosen:
    return Chosen(scorer.name, scorer, scorer.metrics, "raw")
