"""SIGKILL at random moments and events; then the same command gives what it always gives."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

from tests.faults.common import Place, Running, complaints, ends_well, of_one_run
from tests.support.commands import Fault

KILLED = -signal.SIGKILL


def trial(place: Place, rng: random.Random) -> list[str]:
    return rng.choices((_chain, _two_at_once, _into_one_folder), (6, 2, 2))[0](place, rng)


def random_fault(rng: random.Random, action: str = "KILL") -> Fault:
    """At a random event, early ones more often."""
    event = rng.choice(("append", "replace", "publish"))
    if action == "KILL" and event == "append" and rng.random() < 0.3:
        action = "TEAR"
    return Fault(event, count=int(60 ** rng.random()), action=action)


def _chain(place: Place, rng: random.Random) -> list[str]:
    words = place.shared.scene(rng)
    earlier = place.shared.scripted("--seeds", 7)
    seconds = place.shared.peace(place, words).seconds
    found: list[str] = []
    with place.fresh() as cwd:
        known = [words]
        if rng.random() < 0.3:
            known.append(earlier)
            place.shared.peace(place, earlier).copy(cwd)
        for _ in range(rng.randint(1, 8)):
            if rng.random() < 0.5:
                ended = place.run(cwd, words, random_fault(rng))
            else:
                running = place.start(cwd, words)
                time.sleep(rng.uniform(0, 1.1) * seconds)
                kill(running)
                ended = running.ended()
            found += complaints(ended, (0, KILLED))
            if not of_one_run(cwd, place, *known):
                found.append("after a SIGKILL: tables that are not all of one run")
        return list(dict.fromkeys(found)) + ends_well(place, cwd, words, "after kills")


def _two_at_once(place: Place, rng: random.Random) -> list[str]:
    words = place.shared.scene(rng)
    seconds = place.shared.peace(place, words).seconds
    with place.fresh() as cwd:
        both = [place.start(cwd, words)]
        time.sleep(rng.choice((0, rng.uniform(0, seconds))))
        both.append(place.start(cwd, words))
        time.sleep(rng.uniform(0, seconds))
        for running in rng.sample(both, rng.randint(0, 2)):
            kill(running)
        found = [text for one in both for text in complaints(one.ended(), (0, 2, KILLED))]
        return found + ends_well(place, cwd, words, "after two at once")


def _into_one_folder(place: Place, rng: random.Random) -> list[str]:
    """Several commands write their tables into results/ at the same time."""
    commands = [
        place.shared.scripted("--seeds", seed) for seed in rng.sample(range(5), rng.randint(2, 4))
    ]
    for words in commands:
        place.shared.peace(place, words)
    found: list[str] = []
    with place.fresh() as cwd:
        under_way = [place.start(cwd, words) for words in commands]
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, 2) * place.shared.peace(place, commands[0]).seconds)
            kill(under_way[0])
        for running in under_way:
            found += complaints(running.ended(), (0, 2, KILLED))
        if not of_one_run(cwd, place, *commands):
            found.append("several commands into one folder: tables that are not all of one run")
        for words in commands:
            found += ends_well(place, cwd, words, "after several at once")
    return list(dict.fromkeys(found))


def kill(running: Running, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(running.pid, number)
