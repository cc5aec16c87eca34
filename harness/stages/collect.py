"""Records of a system, one a prompt: each is written down as soon as it is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.backends import backend_of
from harness.backends.backend import Backend
from harness.host.files import write_jsonl
from harness.host.progress import Progress, Tick
from harness.host.signals import check
from harness.records import Example, Generation, ReferenceLikelihood
from harness.runs.context import Context
from harness.runs.journal import Journal

Ask = Callable[[Backend, list[Example], set[str], Tick], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class Work:
    """record: what is collected. counted: its field that the rate is of. unit, each: what the
    progress counts, and how many of it a record is worth at most."""

    record: type[Generation] | type[ReferenceLikelihood]
    counted: str
    unit: str
    each: int

    def fits(self, row: dict[str, Any]) -> bool:
        """Whether a journaled row holds such a record."""
        try:
            record, seconds = self.record(**row["record"]), row["seconds"]
        except (KeyError, TypeError):
            return False
        return isinstance(record.id, str) and isinstance(seconds, float)


def collect(
    context: Context,
    stage: str,
    work: Work,
    ask: Ask,
    target: Path,
    more: Callable[[Context, Backend], Path] | None = None,
) -> None:
    """Ask the backend for the records that an earlier, interrupted call did not leave behind, and
    write all to `target` in the order of what is asked.

    more: writes another file of the stage.
    """
    said = stage.replace("-", " ", 1)
    examples = context.view.examples("test")
    known = {example.id for example in examples}
    path = context.scratch(stage) / "records.jsonl"
    with Journal(path, fits=work.fits, notice=context.say) as journal:
        journaled = journal.read()
        records = {row["record"]["id"]: row for row in journaled if row["record"]["id"] in known}
        if records:
            context.say(f"{said}: {len(records)} of {len(examples)} are there already")
        backend = backend_of(context)
        began = time.perf_counter()
        total, initial = work.each * len(examples), work.each * len(records)
        with Progress(said, total, work.unit, initial=initial) as bar:
            for record in ask(backend, examples, set(records), bar.advance):
                row = {"record": asdict(record), "seconds": time.perf_counter() - began}
                journal.append(row)
                records[record.id] = row
                if len(records) < len(examples):
                    check()
    ordered = [records[e.id]["record"] for e in examples if e.id in records]
    seconds = _seconds([row["seconds"] for row in records.values()])
    tokens = sum(record[work.counted] for record in ordered)
    facts = {
        "asked": len(examples),
        "records": len(ordered),
        "longest_prompt": max((r.get("prompt_tokens", 0) for r in ordered), default=0),
        "tokens": tokens,
        "cut": sum(record.get("cut", False) for record in ordered),
        "measured": {"seconds": seconds, "tokens_per_second": tokens / max(seconds, 1e-9)},
    }
    files = [write_jsonl(target, ordered)]
    if more is not None:
        files.append(more(context, backend))
    context.publish(stage, files, facts, seconds)


def _seconds(marks: list[float]) -> float:
    """Total of several attempts, each of which counts its seconds from 0: the sum of their ends."""
    ends = [a for a, b in zip(marks, [*marks[1:], -1.0], strict=False) if b < a]
    return sum(ends)
