"""The rows that every table is made of, and what can be read off them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from harness.records import Direction
from harness.reports.curves import Curves

RunStatus = Literal["done", "diverged", "failed"]

ALPHA = 0.05
EXACT_MATCH = "exact_match"
ALL_SEEDS = "all"


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One metric of one run, both systems: a line of comparison.csv, its columns in this order.

    seed:               of the training; "all" where several seeds are combined, and then the
                        interval covers prompts and seeds.
    n:                  prompts scored in both systems.
    base, tuned:        the score of each system on those n; None where it has none.
    delta:              tuned minus base, with the ends of its 95 % interval.
    p_value, p_adjusted: of the paired test, plain and after Holm's correction over the table.
    wins, ties, losses: prompts on which tuned is better than, equal to, worse than base.
    reference, nearest: the score of the reference answers, and of the training answer whose
                        prompt is nearest: ceiling and floor, both made without a model.
    reference_as_given: the ceiling above is what the model's tokenizer can write; this is the
                        score of the references as the data has them, where that is another text.
    """

    model: str
    task: str
    recipe: str
    seed: int | str
    metric: str
    direction: Direction
    n: int
    base: float | None
    tuned: float | None
    delta: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    p_adjusted: float | None
    wins: int | None
    ties: int | None
    losses: int | None
    reference: float | None
    nearest: float | None
    signature: str
    run: str
    reference_as_given: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as plain str, int, float and None (numpy's numbers become Python's)."""
        return _plain(self)

    @staticmethod
    def from_json(row: dict[str, Any]) -> ComparisonRow:
        return ComparisonRow(**row)


FURTHER = ("reference_as_given",)
"""Columns that stand after the others, and only where a row has a value in them."""

COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(ComparisonRow) if f.name not in FURTHER)


@dataclass(frozen=True, slots=True)
class KindRow:
    """One metric of one run on the prompts of one kind; its p-value is not adjusted."""

    kind: str
    metric: str
    direction: Direction
    n: int
    base: float | None
    tuned: float | None
    delta: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None

    def to_json(self) -> dict[str, Any]:
        return _plain(self)

    @staticmethod
    def from_json(row: dict[str, Any]) -> KindRow:
        return KindRow(**row)


@dataclass(frozen=True, slots=True)
class RunReport:
    """All that the tables say of one run.

    error:    the one sentence of a run that is not done.
    kinds:    the same metrics by kind of prompt; empty where there is one kind.
    caveats:  sentences that a reader must know beside the verdict.
    facts:    (name, value) pairs, printed as they are, alike in every repetition of the run.
    measured: (name, value) pairs that differ from one repetition to the next, such as seconds;
              the Markdown keeps them in one line that begins with "Measured:".
    training: loss curves by name, each a list of (step, loss in nats a token).
    curves:   what its picture shows, which stands in `picture`, beside the tables.
    label:    what tells the run from others of the same recipe and seed; "" where there is none.
    """

    model: str
    task: str
    recipe: str
    seed: int | str
    run: str
    status: RunStatus
    error: str | None = None
    rows: list[ComparisonRow] = field(default_factory=list)
    kinds: list[KindRow] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    measured: list[tuple[str, str]] = field(default_factory=list)
    training: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    curves: Curves | None = None
    label: str = ""

    @property
    def picture(self) -> str:
        """Where the curves are drawn, from the folder of the tables."""
        name = self.run if self.label else f"{self.recipe}-seed{self.seed}"
        return f"curves/{self.model}-{self.task}-{name}.svg"

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "task": self.task,
            "recipe": self.recipe,
            "seed": _whole(self.seed),
            "run": self.run,
            "status": self.status,
            "error": self.error,
            "label": self.label,
            "rows": [row.to_json() for row in self.rows],
            "kinds": [row.to_json() for row in self.kinds],
            "caveats": list(self.caveats),
            "facts": [list(pair) for pair in self.facts],
            "measured": [list(pair) for pair in self.measured],
            "training": {
                name: [[int(step), float(loss)] for step, loss in points]
                for name, points in self.training.items()
            },
        }

    @staticmethod
    def from_json(report: dict[str, Any]) -> RunReport:
        return RunReport(
            **{
                **report,
                "rows": [ComparisonRow.from_json(row) for row in report["rows"]],
                "kinds": [KindRow.from_json(row) for row in report["kinds"]],
                "facts": [(name, value) for name, value in report["facts"]],
                "measured": [(name, value) for name, value in report["measured"]],
                "training": {
                    name: [(step, loss) for step, loss in points]
                    for name, points in report["training"].items()
                },
            }
        )


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one (model, task): one table.

    by_recipe, by_seed: whether the runs differ in it, so that the table needs a column for it.
    by_run: whether some differ in neither, so that it needs one for the run's folder.
    """

    model: str
    task: str
    reports: tuple[RunReport, ...]
    by_recipe: bool
    by_seed: bool
    by_run: bool = False

    @property
    def rows(self) -> list[ComparisonRow]:
        """All rows, those of one metric together, otherwise in the order of the runs."""
        order: dict[str, list[ComparisonRow]] = {}
        for report in self.reports:
            for row in report.rows:
                order.setdefault(row.metric, []).append(row)
        return [row for rows in order.values() for row in rows]


def group_reports(reports: Iterable[RunReport]) -> list[Group]:
    """The reports by (model, task), groups and their runs in the order of first appearance."""
    grouped: dict[tuple[str, str], list[RunReport]] = {}
    for report in reports:
        grouped.setdefault((report.model, report.task), []).append(report)
    return [
        Group(
            model=model,
            task=task,
            reports=tuple(runs),
            by_recipe=len({run.recipe for run in runs}) > 1,
            by_seed=len({run.seed for run in runs}) > 1,
            by_run=any(run.label for run in runs),
        )
        for (model, task), runs in grouped.items()
    ]


def run_name(report: RunReport) -> str:
    """How a run is called within its (model, task): "quick, seed 0"."""
    seed = "all seeds" if report.seed == ALL_SEEDS else f"seed {report.seed}"
    return ", ".join(filter(None, [report.recipe, seed, report.label]))


def failure(report: RunReport) -> str | None:
    """What a run that is not done says of itself; None for one that is done."""
    if report.status == "done":
        return None
    return report.error or "it ended without saying why; its log.jsonl has the last step."


def best_system(row: ComparisonRow | KindRow) -> Literal["base", "tuned"] | None:
    """The system with the better score; None where they are equal or one is not a number."""
    if row.base is None or row.tuned is None or row.base == row.tuned:
        return None
    if math.isnan(row.base) or math.isnan(row.tuned):
        return None
    return "tuned" if (row.tuned > row.base) == (row.direction == "higher") else "base"


def is_significant(row: ComparisonRow) -> bool:
    """Whether the difference has an adjusted p-value under 0.05."""
    return row.p_adjusted is not None and row.p_adjusted < ALPHA


def verdict(rows: Sequence[ComparisonRow]) -> str | None:
    """One sentence on all metrics of a run; None where no metric has both systems.

    "Tuned is better on 3 of 5 metrics (2 significantly), worse on 1 (none significantly)."
    """
    compared = [row for row in rows if row.base is not None and row.tuned is not None]
    if not compared:
        return None
    better = [row for row in compared if best_system(row) == "tuned"]
    worse = [row for row in compared if best_system(row) == "base"]
    noun = "metric" if len(compared) == 1 else "metrics"

    def count(side: list[ComparisonRow]) -> str:
        return f"({sum(map(is_significant, side)) or 'none'} significantly)" if side else ""

    parts = [
        f"better on {len(better)} of {len(compared)} {noun} {count(better)}".rstrip(),
        f"worse on {len(worse)} {count(worse)}".rstrip(),
    ]
    return f"Tuned is {', '.join(parts)}."


def exact_match_counts(rows: Sequence[ComparisonRow]) -> str | None:
    """How many answers equal the reference: "exact match: base 0 of 96, tuned 31 of 96"."""
    for row in rows:
        if row.metric == EXACT_MATCH and row.base is not None and row.tuned is not None:
            base, tuned = (round(share * row.n) for share in (row.base, row.tuned))
            return f"exact match: base {base} of {row.n}, tuned {tuned} of {row.n}"
    return None


def _plain(row: ComparisonRow | KindRow) -> dict[str, Any]:
    # numpy's float64 is a float whose repr is "np.float64(...)", its int64 is no int for json.
    plain: dict[str, Any] = {}
    for f in fields(row):
        value = getattr(row, f.name)
        if value is not None and f.type in _NUMBERS:
            value = _NUMBERS[f.type](value)
        plain[f.name] = value
    return plain


def _whole(value: int | str) -> int | str:
    return value if isinstance(value, str) else int(value)


_NUMBERS: dict[Any, Callable[[Any], int | float | str]] = {
    "int": int,
    "int | str": _whole,
    "int | None": int,
    "float | None": float,
}
