"""`harness list runs`: every run with where it stands, and its first scores."""

from __future__ import annotations

import json
import time
from calendar import timegm
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.host.paths import read_text
from harness.host.text import clip, display_width, pad, single_line
from harness.reports.formats import decimals_for, format_number
from harness.runs.store import is_held, list_runs
from harness.runs.view import Files

PRIMARY = ("exact_match", "rougeL", "html_valid", "cross_entropy")
"""The scores that are listed, base → tuned, where a run has them."""

_TITLES = ("run", "status", "limit", "steps", "age", *PRIMARY)
_DISPENSABLE = (*reversed(PRIMARY), "steps", "limit", "age")  # the first goes first
_GAP = "  "


def runs_table(root: Path, width: int | None, now: float | None = None) -> str:
    """The runs under `root`, the youngest first: a line each, below a line of titles.

    width: columns at most, for which those of least importance are left out and paths are cut;
    None for any number. now: seconds since the epoch, the present unless given.
    """
    now = time.time() if now is None else now
    found = list_runs(root)
    known = {run["path"] for run in found}
    rows = [(_age(run, now), _cells(run, now)) for run in found]
    with suppress(OSError):
        lost = [str(path.parent) for path in root.glob("*/*/*/manifest.json")]
        rows += [
            (float("inf"), {"run": path, "status": "damaged"}) for path in lost if path not in known
        ]
    if not rows:
        return f"no runs in {root}"
    rows.sort(key=lambda row: (row[0], row[1]["run"]))
    return "\n".join(_lines([cells for _, cells in rows], width))


def state(manifest: Mapping[str, Any], folder: Path) -> str:
    """done, running, interrupted, failed or diverged: what a run's manifest and its lock say."""
    status: str = manifest["status"]
    if status != "done" and is_held(folder):
        return "running"
    return "interrupted" if status == "started" else status


def age(seconds: float) -> str:
    """A time span in its largest unit, rounded down: "3 h"."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def _cells(run: Mapping[str, Any], now: float) -> dict[str, str]:
    limit = run["identity"].get("limit")
    trained = run["stages"].get("train", {}).get("facts", {})
    seconds = _age(run, now)
    cells = {
        "run": single_line(run["path"]),
        "status": state(run, Path(run["path"])),
        "limit": "all" if limit is None else f"{limit:,}",
        "steps": f"{trained['steps']:,}" if "steps" in trained else "",
        "age": "" if seconds == float("inf") else age(seconds),
    }
    return cells | (_scores(Path(run["path"])) if run["status"] == "done" else {})


def _age(run: Mapping[str, Any], now: float) -> float:
    with suppress(KeyError, TypeError, ValueError):
        written = run.get("finished") or run["created"]
        return now - timegm(time.strptime(written, "%Y-%m-%dT%H:%M:%SZ"))
    return float("inf")


def _scores(folder: Path) -> dict[str, str]:
    """The primary scores of a finished run, "0.25 → 0.50"."""
    found = {}
    with suppress(OSError, ValueError, KeyError, TypeError):
        for line in read_text(Files(folder).comparison).splitlines():
            if not any(f'"{name}"' in line for name in PRIMARY):
                continue  # most lines, which need not be parsed
            row = json.loads(line)
            if row["metric"] in PRIMARY and row["n"]:
                places = decimals_for([row["base"], row["tuned"]])
                base, tuned = (format_number(row[system], places) for system in ("base", "tuned"))
                found[row["metric"]] = f"{base} → {tuned}"
    return found


def _lines(rows: Sequence[Mapping[str, str]], width: int | None) -> list[str]:
    titles = [t for t in _TITLES if t in ("run", "status") or any(row.get(t) for row in rows)]
    widths = {t: max(len(t), *(display_width(row.get(t) or "–") for row in rows)) for t in titles}
    if width is not None:
        for title in _DISPENSABLE:
            if _total(widths, titles) > width and title in titles:
                titles.remove(title)
        over = _total(widths, titles) - width
        widths["run"] = max(12, widths["run"] - max(0, over))
    lines = [{title: title for title in titles}, *rows]
    return [
        _GAP.join(pad(clip(line.get(t) or "–", widths[t]), widths[t]) for t in titles).rstrip()
        for line in lines
    ]


def _total(widths: Mapping[str, int], titles: Sequence[str]) -> int:
    return sum(widths[title] for title in titles) + len(_GAP) * (len(titles) - 1)
