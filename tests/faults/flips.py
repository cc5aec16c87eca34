"""Files damaged under runs/ and results/: the same command mends them and says so, or refuses."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

from tests.faults.common import Ended, Place, complaints, differences, ends_well, some_path, work
from tests.faults.kills import random_fault
from tests.support.commands import run_folders

SAID = (
    r"damag|chang|missing|dropped|left out|cut off|made again|passed over|not used|unusable|torn|"
    r"remove|cannot|replac|link|not a file|read again|fetched again|converted again|moved aside"
)
KINDS = (
    "flip",
    "flip",
    "flip",
    "cut",
    "zero",
    "garbage",
    "remove",
    "folder",
    "fifo",
    "link",
    "parent",
)
CANARY = "a file outside, not to be touched\n"


def trial(place: Place, rng: random.Random) -> list[str]:
    words = place.shared.scene(rng)
    peace = place.shared.peace(place, words)
    with place.fresh() as cwd:
        if rng.random() < 0.4:
            peace.copy(cwd)
        else:
            place.run(cwd, words, random_fault(rng))
        if rng.random() < 0.3 or (target := _in_tmp(rng, cwd)) is None:
            target = some_path(rng, cwd)
        if target is None:
            return []
        outside = cwd.parent / "outside"
        outside.mkdir()
        (outside / "canary").write_text(CANARY)
        harm, must_be_said = damage(rng, target, cwd, outside)
        where = _kind_of(target, cwd)
        ended = place.run(cwd, words)
        found = complaints(ended, (0, 1, 2))
        if not found and ended.status == 0:
            if names := differences(work(cwd), peace.work):
                told = "said" if ended.said(SAID) else "in silence"
                found = [f"other results than undisturbed in {', '.join(names)}, {told}"]
            elif must_be_said and not ended.said(SAID):
                found = ["mended in silence"]
        elif not found:
            found = _refusal(place, cwd, words, ended, target)
        if {p.name for p in outside.iterdir()} != {"canary"} or (
            (outside / "canary").read_text() != CANARY
        ):
            found.append("a link was followed and what it leads to was changed")
        if not found:
            found = ends_well(place, cwd, words, "once more")
        return [f"{where}, {harm}: {text}" for text in found]


def damage(rng: random.Random, target: Path, cwd: Path, outside: Path) -> tuple[str, bool]:
    """Harm a file; in words how, and whether whoever reads it can know, and so has to say it."""
    content = bytearray(target.read_bytes())
    at = rng.randrange(len(content) or 1)
    listed = _is_listed(target)
    kind = rng.choice(KINDS)
    if kind == "flip" and content:
        content[at] ^= 1 << rng.randrange(8)
        target.write_bytes(content)
        # Partial work; but a last line is taken for one that a kill has torn, and of a training
        # only what its checkpoint has not is read.
        partial = "tmp" in target.relative_to(cwd.parent).parts and "tmp/train" not in str(target)
        whole = target.suffix == ".jsonl" and b"\n" in content[at:-1]
        return "a bit flipped", listed or (partial and whole)
    if kind == "cut":
        target.write_bytes(content[:at])
        return "cut", listed and at < len(content)
    if kind == "zero":
        end = rng.randint(at, len(content))
        target.write_bytes(content[:at] + bytes(end - at) + content[end:])
        return "zeroed", listed and any(content[at:end])
    if kind == "garbage":
        with target.open("ab") as file:
            file.write(rng.randbytes(rng.randint(1, 60)))
        return "garbage at its end", listed
    if kind == "parent" and target.parent not in (cwd, cwd / "runs", cwd / "results"):
        away = outside.parent / "moved"
        shutil.move(target.parent, away)
        target.parent.symlink_to(outside, target_is_directory=True)
        return "its folder now a link to another", False
    target.unlink()
    if kind == "folder":
        target.mkdir()
        (target / "within").write_text("x")
        return "a folder in its place", listed
    if kind == "fifo":
        os.mkfifo(target)
        return "a FIFO in its place", listed
    if kind == "link":
        target.symlink_to(outside / "canary")
        return "a link in its place", listed
    return "removed", listed and target.name != "manifest.json"


def _is_listed(target: Path) -> bool:
    """Whether a manifest lists the file with its hash, or it is one."""
    for parent in target.parents:
        manifest = parent / "manifest.json"
        if target == manifest:
            return True
        if manifest.is_file():
            stages = json.loads(manifest.read_text())["stages"].values()
            return target.relative_to(parent).as_posix() in {f for s in stages for f in s["files"]}
    return False


def _in_tmp(rng: random.Random, cwd: Path) -> Path | None:
    """A file of partial work, where there is some."""
    files = [p for run in run_folders(cwd) for p in (run / "tmp").rglob("*") if p.is_file()]
    return rng.choice(sorted(files)) if files else None


def _refusal(place: Place, cwd: Path, words: list[str], ended: Ended, target: Path) -> list[str]:
    """A refusal must name what to remove, and all is well once it is gone."""
    said = ended.outcome.stderr.strip().splitlines()[-1][:300]
    named = [p for p in (target, target.parent) if str(p) in ended.outcome.output]
    named += [p for p in (target, target.parent) if str(p.relative_to(cwd)) in ended.outcome.output]
    again = place.run(cwd, words)
    if again.status == 0:
        return []  # what was refused once is mended by the second try
    if not named:
        return [f"refused again and again, the file not named: {said}"]
    culprit = named[0]
    if culprit.is_dir() and not culprit.is_symlink():
        shutil.rmtree(culprit)
    else:
        culprit.unlink(missing_ok=True)
    return ends_well(place, cwd, words, f"refused ({said}); after it was removed")


def _kind_of(target: Path, cwd: Path) -> str:
    """The file's name with what differs from trial to trial left out."""
    parts = target.relative_to(cwd).parts
    if parts[0] == "runs":
        parts = ("RUN", *parts[4:])
        if "tmp" in parts:
            parts = ("RUN", "tmp", parts[2], *parts[4:])
    return "/".join("step-N" + part[13:] if part.startswith("step-") else part for part in parts)
