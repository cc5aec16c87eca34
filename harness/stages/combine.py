"""The seeds of one (model, task, recipe) as one comparison, from what their runs left."""

from __future__ import annotations

from collections.abc import Sequence

from harness.comparing import Origin, clusters_of, combined_rows
from harness.plan import Run
from harness.records import Example
from harness.reports import RunReport
from harness.reports.comparison import ALL_SEEDS
from harness.stages.compare import columns_of
from harness.stages.context import read_jsonl
from harness.store import RunFolder


def combined_reports(
    runs: Sequence[Run], folders: Sequence[RunFolder], reports: Sequence[RunReport]
) -> list[RunReport]:
    """The reports, and after those of a recipe that finished with several seeds, one of them all.

    The three sequences go side by side.
    """
    groups: dict[tuple[str, str, str], list[int]] = {}
    for at, run in enumerate(runs):
        groups.setdefault((run.model.name, run.task.name, run.recipe.name), []).append(at)
    found: list[RunReport] = []
    for members in groups.values():
        found += [reports[at] for at in members]
        done = [at for at in members if reports[at].status == "done"]
        if len(done) > 1:
            found.append(_combined([runs[at] for at in done], [folders[at] for at in done]))
    return found


def _combined(runs: Sequence[Run], folders: Sequence[RunFolder]) -> RunReport:
    first = runs[0]
    examples = [Example.from_json(row) for row in read_jsonl(folders[0].path / "data/test.jsonl")]
    examples = examples[: first.limit]
    columns = [
        columns_of(folder.path, run.task, examples)
        for run, folder in zip(runs, folders, strict=True)
    ]
    names = " ".join(folder.path.name for folder in folders)
    origin = Origin(first.model.name, first.task.name, first.recipe.name, ALL_SEEDS, names)
    clusters = clusters_of([example.group for example in examples])
    seeds = ", ".join(str(run.seed) for run in runs)
    how = "prompts and seeds crossed, both random; Student's interval and p-value"
    return RunReport(
        model=origin.model,
        task=origin.task,
        recipe=origin.recipe,
        seed=origin.seed,
        run=f"{len(runs)} runs",
        status="done",
        rows=combined_rows(columns, origin, clusters),
        facts=[("seeds", f"{seeds}: {how}")],
    )
