"""The figures of benchmarks of models: medians of runs with their spread, the file, the table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from harness.errors import StorageError, UsageError
from harness.host.files import write_json
from harness.host.paths import read_text

AGREE = 0.02
"""The share by which the step clock and the wall may differ."""


def summed_up(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row of several runs of the same work: the median of their rates, and the spread.

    Each run has `tokens_per_second`, by the wall, and may have `by_steps`, by the step clock. What
    else is in them is the first's, of `peak_gib` the highest. Where the medians of the two rates
    differ by more than AGREE, the row also has an `error` that says so.
    """
    rates = [run["tokens_per_second"] for run in runs]
    peaks = [run["peak_gib"] for run in runs if run["peak_gib"] is not None]
    row = {
        **runs[0],
        "tokens_per_second": median(rates),
        "tokens_per_second_min": min(rates),
        "tokens_per_second_max": max(rates),
        "peak_gib": max(peaks, default=None),
        "repeats": len(runs),
    }
    if "by_steps" in row:
        wall, clock = row["tokens_per_second"], median(run["by_steps"] for run in runs)
        row["by_steps"] = clock
        if abs(clock / wall - 1) > AGREE:
            row["error"] = (
                f"{clock:,.0f} tok/s by the step clock, {wall:,.0f} by the wall: "
                f"{abs(clock / wall - 1):.1%} apart"
            )
    return row


class Figures:
    """The rows in the file SUBJECT.json of a folder, those of earlier commands among them.

    order: names of systems; the others stand as they came.

    A row replaces the one of the same model and system; the others stay. Rows of another card or
    other versions are never mixed in: `Figures` then raises UsageError, before any work.
    """

    def __init__(
        self,
        folder: Path,
        subject: str,
        card: str,
        versions: Mapping[str, str | None],
        order: Sequence[str] = (),
    ) -> None:
        self.path = folder / f"{subject}.json"
        self._order = list(order)
        self.result: dict[str, Any] = {"card": card, "versions": dict(versions), "rows": []}
        found = _read(self.path)
        if found is None:
            return
        for name, here in (("card", card), ("versions", dict(versions))):
            if found.get(name) != here:
                raise UsageError(
                    f"{self.path} has figures of {_said(found.get(name))}, and this is "
                    f"{_said(here)}; give another folder with --out, or remove the file."
                )
        self.result["rows"] = found["rows"]

    def add(self, row: dict[str, Any]) -> None:
        """Put `row` in its place, and write the file."""
        key = (row["model"], row["system"])
        rows = [r for r in self.result["rows"] if (r["model"], r["system"]) != key] + [row]
        models = list(dict.fromkeys(r["model"] for r in rows))
        known = {name: at for at, name in enumerate(self._order)}
        rows.sort(key=lambda r: (models.index(r["model"]), known.get(r["system"], len(known))))
        self.result["rows"] = rows
        write_json(self.path, self.result)


def plain_table(
    result: Mapping[str, Any], head: str, line: Callable[[Mapping[str, Any]], str]
) -> str:
    """A file's rows under a head, a line each, then what was measured on."""
    lines = [head, "─" * len(head), *(line(row) for row in result["rows"])]
    return "\n".join([*lines, str(result["card"])])


def _read(path: Path) -> dict[str, Any] | None:
    """What an earlier command left, or None. Raises UsageError where it is not a file of ours."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        text = ""
    try:
        found = json.loads(text)
        if all({"model", "system", "command"} <= row.keys() for row in found["rows"]):
            return dict(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise UsageError(
        f"{path} is not a file of this version's bench; give another folder with --out, or "
        "remove the file."
    )


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return str(value)


HEAD = (
    f"{'model':<12}{'system':<37}{'tok/s':>8}{'min–max':>16}{'MFU':>10}{'peak GiB':>10}"
    f"{'packed':>8}"
)


def line(row: Mapping[str, Any]) -> str:
    """One row of the table."""
    head = f"{row['model']:<12}{row['system']:<37}"
    if "error" in row:
        return f"{head} {row['error']}"
    peak = f"{row['peak_gib']:.1f}" if row["peak_gib"] is not None else "-"
    spread = f"{row['tokens_per_second_min']:,.0f}–{row['tokens_per_second_max']:,.0f}"
    return (
        f"{head}{row['tokens_per_second']:>8,.0f}{spread:>16}{row['mfu']:>10.3f}{peak:>10}"
        f"{row['packing_efficiency']:>8.2f}"
    )


def table(result: Mapping[str, Any]) -> str:
    """The file's rows as a table for a terminal. A ratio is of two rows of one command."""
    rows = result["rows"]
    lines = [HEAD, "─" * len(HEAD), *(line(row) for row in rows)]
    lines.append(f"{result['card']}, square products at {_range(rows, 'matmul_tflops')} TFLOP/s")
    if kept_up := _range(rows, "sustained_tflops"):
        lines[-1] += f" ({kept_up} when kept up for 1.5 s)"
    for ours in (row for row in rows if row["system"] == "harness" and "error" not in row):
        for row in rows:
            same = (row["model"], row["command"]) == (ours["model"], ours["command"])
            if same and row["system"].startswith(("trl-", "harness-")) and "error" not in row:
                ratio = ours["tokens_per_second"] / row["tokens_per_second"]
                lines.append(f"{row['model']}: {ratio:.1f} × {row['system']}")
    return "\n".join(lines)


def _range(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """The rates under `name`, one for each command, as "A" or "A to B"; "" where there is none."""
    rates = sorted(row[name] for row in rows if name in row)
    ends = dict.fromkeys(f"{rate:.0f}" for rate in (*rates[:1], *rates[-1:]))
    return " to ".join(ends)
