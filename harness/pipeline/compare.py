"""`harness compare`: two systems on the same prompts, B against A, paired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.host.paths import expanded, no_folder
from harness.host.text import one_line, quoted, single_line, wrap
from harness.pipeline.joining import join
from harness.pipeline.outputs import check_out, write_together
from harness.pipeline.predictions import Predictions, read_predictions
from harness.pipeline.score import SEED, clusters_said, versions
from harness.pipeline.stored import StoredRun, open_run
from harness.records import Metric, ReferenceLikelihood, Sample, Scored, TextChoice
from harness.reports import RunReport, comparison_csv, comparison_markdown
from harness.reports.rows import (
    Column,
    Origin,
    clusters_of,
    comparison_rows,
    loss_columns,
    score_columns,
)
from harness.reports.summary import reasons
from harness.scorers import get, metrics_of, names, score_systems
from harness.statistics.paired import RESAMPLES
from harness.systems import generating, systems

CSV, MARKDOWN = "comparison.csv", "comparison.md"
_ROOT = Path("results", "compare")
_PRINTED = ("base", "tuned", "joined", "clusters", "losses", "unscored")


@dataclass(frozen=True, slots=True)
class Side:
    """A or B as the command names it: a file of predictions, or one system of a run."""

    path: Path
    predictions: Predictions
    run: StoredRun | None = None
    system: str = ""

    @property
    def short(self) -> str:
        """Its part of the default folder's name."""
        if self.run is None:
            return self.predictions.origin.model.replace("/", ".")
        return self.run.name if self.system == "tuned" else f"{self.run.name}.{self.system}"

    @property
    def said(self) -> str:
        """What it is, for the table of facts."""
        source = self.predictions.source
        digest = f", sha256 {source['sha256'][:12]}" if "sha256" in source else ""
        kind = f"{self.system} of the run " if self.run else ""
        return f"{kind}{source['name']}, {source['rows']:,} samples{digest}"


def compare(
    a: str,
    b: str,
    scorers: Sequence[str] | None = None,
    text: TextChoice | None = None,
    out: Path | None = None,
    *,
    command: str,
    by_group: bool = True,
) -> tuple[RunReport, Path]:
    """Score both again, compare B against A, and write comparison.csv and comparison.md.

    a, b: each a file of predictions, a run's folder (then its tuned system), or FOLDER:SYSTEM
    with a system of harness.systems. In the tables base is A and tuned is B.
    scorers, text: unless given those of B's task, or A's, or all of ours on the raw text.
    out: results/compare/<A>-<B>. by_group: whether samples of one group are drawn together.
    Returns the report and the folder. Raises UsageError before anything is scored or written
    (DataError where the two do not have the same samples), StorageError.
    """
    sides = _sides(a, b)
    run = next((side.run for side in reversed(sides) if side.run), None)
    folder = out or _ROOT / "-".join(side.short for side in sides)
    check_out(folder, (CSV, MARKDOWN), [side.path for side in sides if side.run is None])
    joined = join(sides[0].predictions, sides[1].predictions)
    wanted = text or (run.text if run else "raw")
    chosen = get(scorers or (run.scorers if run else names()), wanted)
    losses, about_losses = _losses(sides, [sample.id for sample in joined.a])
    clusters = clusters_of(joined.groups) if by_group else None

    systems = {"base": joined.a, "tuned": joined.b, "reference": _references(joined.a)}
    if sides[1].run:  # the floor of the adapter that is judged
        systems["nearest"] = sides[1].run.copied(joined.b)
    found = score_systems(systems, chosen)
    scores = {system: [one.scores for one in scored] for system, scored in found.items()}
    columns = [*losses, *score_columns(metrics_of(chosen), scores)]
    origin = _origin(sides)
    facts = [
        ("base", f"A: {sides[0].said}"),
        ("tuned", f"B: {sides[1].said}"),
        ("joined", f"{len(joined.a):,} samples, by {joined.how}"),
        ("clusters", clusters_said(clusters, len(joined.a), by_group)),
        *([("losses", about_losses)] if about_losses else []),
        ("text scored", wanted),
        ("unscored", _unscored(metrics_of(chosen), chain(found["base"], found["tuned"]))),
        ("statistics", f"{RESAMPLES:,} resamples, seed {SEED}"),
        ("libraries", ", ".join(f"{k} {v}" for k, v in versions().items())),
    ]
    report = RunReport(
        model=origin.model,
        task=origin.task,
        recipe=origin.recipe,
        seed=origin.seed,
        run=origin.run,
        status="done",
        rows=comparison_rows(columns, origin, clusters),
        facts=facts,
    )
    about = f"Base is A, {sides[0].predictions.name}; tuned is B, {sides[1].predictions.name}."
    files = {
        folder / MARKDOWN: comparison_markdown([report], command, about).encode(),
        folder / CSV: comparison_csv(report.rows).encode(),
    }
    write_together(files)
    return report, folder


def headline(report: RunReport, width: int) -> str:
    """What was compared, for a terminal, above the table: some lines, ending in a newline."""
    facts = (f"{name}: {value}" for name, value in report.facts if name in _PRINTED)
    lines = (line for fact in facts for line in wrap(single_line(fact), width, "  "))
    return "".join(f"{line}\n" for line in lines)


def loss_table(
    a: Mapping[str, ReferenceLikelihood] | None,
    b: Mapping[str, ReferenceLikelihood] | None,
    ids: Sequence[str],
) -> tuple[list[Column], str]:
    """The loss columns of A and B, where both measured the same text, and a line about them.

    a, b: the loss of each reference, None where a run has not measured it.
    """
    if a is None or b is None:
        return [], "not compared: not measured in both runs"
    # A reference that one of them cut at another place is another text.
    same = [i for i in ids if i in a and i in b and a[i].bytes == b[i].bytes]
    if not same:
        return [], "not compared: no reference was measured to the same end in both runs"
    columns = loss_columns({"base": {i: a[i] for i in same}, "tuned": {i: b[i] for i in same}}, ids)
    said = f"of {len(same):,} of {len(ids):,} references, those measured to the same end in both"
    if len(columns) == 1:
        said += "; the tokenizers differ, so that only bits_per_byte compares"
    return columns, said


def _sides(a: str, b: str) -> tuple[Side, Side]:
    """Both sides; files of one name are told apart by their folders."""
    sides = (_side(a), _side(b))
    if sides[0].predictions.name != sides[1].predictions.name:
        return sides
    return (_with_folder(sides[0]), _with_folder(sides[1]))


def _with_folder(side: Side) -> Side:
    if side.run:
        return side
    parent, given = side.path.absolute().parent.name, side.predictions
    origin = replace(given.origin, model=f"{parent}/{given.origin.model}")
    renamed = replace(given, name=f"{parent}/{given.name}", origin=origin)
    return replace(side, predictions=renamed)


def _side(text: str) -> Side:
    path = expanded(text)
    system = "tuned"
    if no_folder(path) not in (None, "is not a folder"):
        head, colon, tail = text.rpartition(":")
        run = expanded(head)
        if colon and no_folder(run) is None:
            known = [each.name for each in systems(open_run(run).view.adapters)]
            if tail not in known:
                raise UsageError(
                    f"{quoted(text)}: a run has no answers of '{one_line(tail, 40)}'; "
                    f"known are {', '.join(known)}."
                )
            path, system = run, tail
    if no_folder(path) is None:
        stored = open_run(path)
        return Side(path, stored.answers(system), stored, system)
    return Side(path, read_predictions(path))


def _references(samples: Sequence[Sample]) -> list[Sample]:
    """The references as answers to themselves."""
    return [replace(s, prediction=s.reference, finish_reason="stop") for s in samples]


def _origin(sides: Sequence[Side]) -> Origin:
    """The table's columns: what both have in common, or "A → B"; of a run and a file the run's."""
    origins = [side.predictions.origin for side in sides]
    runs = [side.predictions.origin for side in sides if side.run] or origins

    def both(values: Sequence[Any]) -> str:
        return " → ".join(dict.fromkeys(map(str, values)))

    return Origin(
        model=both([origin.model for origin in origins]),
        task=both([origin.task for origin in runs]),
        recipe=both([origin.recipe for origin in runs]),
        seed=runs[-1].seed,
        run=both([side.predictions.name for side in sides]),
    )


def _unscored(metrics: Iterable[Metric], scored: Iterable[Scored]) -> str:
    notes: dict[str, Counter[str]] = {metric.name: Counter() for metric in metrics}
    for one in scored:
        for name, reason in one.notes.items():
            notes[name][reason] += 1
    return "; ".join(reasons(notes)) or "nothing"


def _losses(sides: Sequence[Side], ids: Sequence[str]) -> tuple[list[Column], str]:
    """The loss columns of two systems of runs, and what to say of them; "" for anything else."""
    asked = [
        (side.run, side.system)
        for side in sides
        if side.run and side.system in {e.name for e in generating(side.run.view.adapters)}
    ]
    if len(asked) < 2:
        return [], ""
    a, b = (run.losses(system) for run, system in asked)
    return loss_table(a, b, ids)
