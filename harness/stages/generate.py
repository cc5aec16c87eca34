"""generate and measure, for one arm: each record is written down as soon as it is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.host.progress import Progress
from harness.host.signals import check
from harness.records import Arm, Example, Generation, SampleLoss
from harness.runs.journal import Journal
from harness.stages.context import Context, write_jsonl

if TYPE_CHECKING:
    from harness.backends.backend import Engine

Records = Iterator[Any]
Tick = Callable[[int], None]
Ask = Callable[["Engine", list[Example], set[str], Tick], Records]


def generate(context: Context, arm: Arm) -> None:
    """Write generations/<arm>.jsonl, in the order of the test part."""
    decoding = context.run.task.decoding

    def ask(engine: Engine, examples: list[Example], done: set[str], tick: Tick) -> Records:
        return engine.generate(arm, examples, decoding, done, tick)

    most = decoding.max_new_tokens
    work = Work(Generation, "generations", "completion_tokens", "tokens", most)
    _collect(context, "generate", arm, work, ask)


def measure(context: Context, arm: Arm) -> None:
    """Write losses/<arm>.jsonl, in the order of the test part, and with the base's what the
    tokenizer makes of the references that it cannot write: losses/written.jsonl, `id` and `text`.
    """

    def ask(engine: Engine, examples: list[Example], done: set[str], tick: Tick) -> Records:
        for record in engine.measure(arm, examples, done):
            tick(1)
            yield record

    work = Work(SampleLoss, "losses", "tokens", "references", 1)
    _collect(context, "measure", arm, work, ask, _written if arm == "base" else None)


def _written(context: Context, engine: Engine) -> Path:
    """The file of the references that come back from the tokenizer as other texts."""
    texts = ((e.id, e.target, engine.written(e.target)) for e in context.examples("test"))
    rows = [{"id": name, "text": back} for name, target, back in texts if back != target]
    return write_jsonl(context.path("losses", "written.jsonl"), rows)


@dataclass(frozen=True, slots=True)
class Work:
    """record: what is collected. folder: where it goes. counted: its field that the rate is of.
    unit, each: what the progress counts, and how many of it a record is worth at most."""

    record: type[Generation] | type[SampleLoss]
    folder: str
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


def _collect(
    context: Context,
    verb: str,
    arm: Arm,
    work: Work,
    ask: Ask,
    more: Callable[[Context, Engine], Path] | None = None,
) -> None:
    """Ask the engine for the records that an earlier, interrupted call did not leave behind.

    more: writes another file of the stage.
    """
    stage = f"{verb}-{arm}"
    examples = context.examples("test")
    known = {example.id for example in examples}
    path = context.scratch(stage) / "records.jsonl"
    with Journal(path, fits=work.fits, notice=context.say) as journal:
        journaled = journal.read()
        records = {row["record"]["id"]: row for row in journaled if row["record"]["id"] in known}
        if records:
            context.say(f"{verb} {arm}: {len(records)} of {len(examples)} are there already")
        engine = context.bench.engine(context.run, context.folder.path / "adapter")
        began = time.perf_counter()
        total, initial = work.each * len(examples), work.each * len(records)
        with Progress(f"{verb} {arm}", total, work.unit, initial=initial) as bar:
            for record in ask(engine, examples, set(records), bar.advance):
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
    files = [write_jsonl(context.path(work.folder, f"{arm}.jsonl"), ordered)]
    if more is not None:
        files.append(more(context, engine))
    context.publish(stage, files, facts, seconds)


def _seconds(marks: list[float]) -> float:
    """Total of several attempts, each of which counts its seconds from 0: the sum of their ends."""
    ends = [a for a, b in zip(marks, [*marks[1:], -1.0], strict=False) if b < a]
    return sum(ends)
