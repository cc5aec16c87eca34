"""Records of a system, one a prompt: each is written down as soon as it is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.backends import backend_of
from harness.backends.backend import Backend, Together
from harness.host.files import write_jsonl
from harness.host.progress import Progress, Tick
from harness.host.signals import check
from harness.records import Example, Generation, ReferenceLikelihood
from harness.runs.context import Context
from harness.runs.journal import Journal

Done = dict[str, set[str]]
"""By stage, the ids of examples whose records are there."""

Ask = Callable[[Backend, Sequence[Example], Done, Tick], Iterator[tuple[str, Any]]]
"""Asks for records; each comes with the name of its stage."""

Beside = Callable[[Context, Backend], list[str]]
"""Names of other stages whose records are asked for as well, so that the work is done at once."""


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


def alone(context: Context, backend: Backend) -> list[str]:
    """A stage's records are asked for without others'."""
    return []


def collect(
    context: Context,
    stage: str,
    work: Work,
    ask: Ask,
    target: Path,
    examples: Sequence[Example],
    more: Callable[[Context, Backend], Path] | None = None,
    beside: Beside = alone,
) -> None:
    """Ask the backend for the records that an earlier, interrupted call did not leave behind, and
    write all to `target` in the order of `examples`.

    more: writes another file of the stage. beside: those stages find their records in their
    journals when their turn comes.
    """
    said = stage.replace("-", " ", 1)
    known = {example.id for example in examples}
    with ExitStack() as stack:

        def opened(name: str) -> tuple[Journal, dict[str, Any]]:
            path = context.scratch(name) / "records.jsonl"
            journal = stack.enter_context(Journal(path, fits=work.fits, notice=context.say))
            rows = [row for row in journal.read() if row["record"]["id"] in known]
            return journal, {row["record"]["id"]: row for row in rows}

        journals = {stage: opened(stage)}
        records = journals[stage][1]
        if 0 < len(records) < len(examples):
            context.say(f"{said}: {len(records)} of {len(examples)} are there already")
        backend = backend_of(context)
        if len(records) < len(examples):
            journals |= {name: opened(name) for name in beside(context, backend)}
        began = time.perf_counter()
        total = work.each * len(examples) * len(journals)
        initial = work.each * sum(len(rows) for _, rows in journals.values())
        with Progress(_said(journals), total, work.unit, initial=initial) as bar:
            done = {name: {*rows} for name, (_, rows) in journals.items()}
            for name, record in ask(backend, examples, done, bar.advance):
                journal, rows = journals[name]
                # What several do at once is divided among them.
                seconds = (time.perf_counter() - began) / len(journals)
                rows[record.id] = {"record": asdict(record), "seconds": seconds}
                journal.append(rows[record.id])
                if any(len(rows) < len(examples) for _, rows in journals.values()):
                    check()
    ordered = [records[e.id]["record"] for e in examples if e.id in records]
    seconds = _seconds([row["seconds"] for row in records.values()])
    tokens = sum(record[work.counted] for record in ordered)
    asked = len(context.view.asked)
    each = len(examples) // asked  # a prompt that is cut is so for each of its answers
    facts = {
        "asked": asked,
        "records": len(ordered),
        "longest_prompt": max((r.get("prompt_tokens", 0) for r in ordered), default=0),
        "tokens": tokens,
        "cut": sum(record.get("cut", False) for record in ordered) // each,
        "measured": {"seconds": seconds, "tokens_per_second": tokens / max(seconds, 1e-9)},
    }
    if work.record is Generation and isinstance(backend, Together):
        facts["engine"] = backend.facts()
    files = [write_jsonl(target, ordered)]
    if more is not None:
        files.append(more(context, backend))
    context.publish(stage, files, facts, seconds)


def _said(stages: Iterable[str]) -> str:
    """Stages of one kind for people: "generate base, tuned"."""
    kinds, systems = zip(*(name.split("-", 1) for name in stages), strict=True)
    return f"{kinds[0]} {', '.join(systems)}"


def _seconds(marks: list[float]) -> float:
    """Total of several attempts, each of which counts its seconds from 0: the sum of their ends."""
    ends = [a for a, b in zip(marks, [*marks[1:], -1.0], strict=False) if b < a]
    return sum(ends)
