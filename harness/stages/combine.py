"""The seeds of one (model, task, recipe) as one comparison, from what their runs left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.records import Example, Metric, Signature
from harness.reports import ComparisonRow, RunReport
from harness.reports.comparison import ALL_SEEDS
from harness.reports.rows import Origin, clusters_of, combined_rows
from harness.runs.store import RunFolder
from harness.runs.view import RunView
from harness.scorers import LIKELIHOOD
from harness.stages.compare import columns_of


def combined_reports(
    folders: Sequence[RunFolder], reports: Sequence[RunReport], say: Callable[[str], None]
) -> list[RunReport]:
    """The reports, and after those of a recipe that finished with several seeds, one of them all.

    folders, reports: side by side. Runs that differ in more than their seed are not combined:
    their report has no rows, and says why, as does `say`.
    """
    groups: dict[tuple[str, str, str], list[int]] = {}
    for at, folder in enumerate(folders):
        groups.setdefault((folder.model, folder.task, folder.recipe), []).append(at)
    found: list[RunReport] = []
    for members in groups.values():
        found += [reports[at] for at in members]
        done = [at for at in members if reports[at].status == "done"]
        if len({folders[at].seed for at in done}) > 1:
            found.append(_combined([folders[at] for at in done], [reports[at] for at in done], say))
    return found


def _combined(
    folders: Sequence[RunFolder], reports: Sequence[RunReport], say: Callable[[str], None]
) -> RunReport:
    first = folders[0]
    views = [RunView(folder) for folder in folders]
    prompts = [view.examples("test") for view in views]
    names = " ".join(folder.path.name for folder in folders)
    origin = Origin(first.model, first.task, first.recipe, ALL_SEEDS, names)
    seeds = ", ".join(str(folder.seed) for folder in folders)
    rows: list[ComparisonRow] = []
    if differing := _differing(folders, prompts, reports):
        said = f"not combined, for the runs differ in {', '.join(differing)}"
        say(f"{first.model} on {first.task}, {first.recipe}, seeds {seeds}: {said}")
    else:
        said = "prompts and seeds crossed, both random; Student's interval and p-value"
        # The likelihood's columns come by themselves.
        metrics = [
            Metric(row.metric, row.direction, Signature.parse(row.signature))
            for row in reports[0].rows
            if row.metric not in LIKELIHOOD
        ]
        columns = [columns_of(view, metrics) for view in views]
        rows = combined_rows(columns, origin, clusters_of([each.group for each in prompts[0]]))
    return RunReport(
        model=origin.model,
        task=origin.task,
        recipe=origin.recipe,
        seed=origin.seed,
        run=f"{len(folders)} runs",
        status="done",
        rows=rows,
        facts=[("seeds", f"{seeds}: {said}")],
    )


def _differing(
    folders: Sequence[RunFolder],
    prompts: Sequence[Sequence[Example]],
    reports: Sequence[RunReport],
) -> list[str]:
    """What runs of several seeds do not have in common, though they must to be combined."""
    of_each: list[dict[str, Any]] = [
        {
            "weights": _without(folder.identity["weights"], "machine", "libraries"),
            "task": _without(folder.identity["task"], "description", "license"),
            "recipe": _without(folder.identity["recipe"], "description"),
            "limit": folder.identity["limit"],
            "prompts": [(each.id, each.prompt, each.target) for each in asked],
            "metrics": [(row.metric, row.signature) for row in report.rows],
        }
        for folder, asked, report in zip(folders, prompts, reports, strict=True)
    ]
    first = of_each[0]
    found = [what for what in first if any(each[what] != first[what] for each in of_each)]
    seeds = [folder.seed for folder in folders]
    return [
        *found,
        *(["what else made them"] if not found and len(set(seeds)) < len(seeds) else []),
    ]


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}
