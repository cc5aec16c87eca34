"""The tables of runs, from what their folders hold: no model, no registry, nothing made anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import UsageError
from harness.host.files import digest, json_text
from harness.host.text import quoted
from harness.pipeline.listing import state
from harness.pipeline.naming import checked
from harness.pipeline.outputs import writable
from harness.pipeline.publishing import FILES, Published, Tables, publish, refuse, size
from harness.reports import (
    RunReport,
    comparison_csv,
    comparison_markdown,
    curves_svg,
    joined_predictions,
)
from harness.reports.systems import systems_csv
from harness.runs.store import RunFolder
from harness.runs.view import RunView
from harness.stages import stage_names
from harness.stages.combine import combined_reports
from harness.stages.report import run_report

Say = Callable[[str], None]


def report(
    paths: Sequence[Path], results: Path, name: str | None, command: str, say: Say
) -> tuple[list[RunReport], Published]:
    """Publish joint tables of finished runs, in the order given, in `results`.

    paths: the runs' folders. name: of the tables' folder, None for "report-" and six digits that
    these runs give. Raises UsageError before anything is written, StorageError, BusyError.
    """
    writable("--results", results)
    folders = _opened(paths, say)
    asked = f"report-{digest([folder.key for folder in folders])[:6]}"
    named = asked if name is None else checked(name)
    refuse(results, named, asked, *size([folder.manifest for folder in folders]))
    reports = _told_apart(folders, [run_report(folder, "done", None) for folder in folders])
    reports = combined_reports(folders, reports, say)
    found = tables(reports, folders, named, asked, command)
    return reports, publish(found, results, say)


def tables(
    reports: Sequence[RunReport],
    done: Sequence[RunFolder],
    name: str,
    asked: str,
    command: str,
) -> Tables:
    """What is published of the reports, with the answers and manifests of the runs `done`."""
    complete = all(report.status == "done" for report in reports)
    rows = [row for report in reports for row in report.rows]
    manifests = [folder.manifest for folder in done]
    views = [RunView(folder) for folder in done]
    alike = any(report.label for report in reports)
    predictions = joined_predictions(
        (view.predictions() for view in views),
        [folder.path.name for folder in done] if alike else None,
    )
    texts = {
        FILES[0]: comparison_markdown(reports, command),
        FILES[1]: comparison_csv(rows),
        FILES[2]: predictions,
        FILES[3]: json_text(manifests),
        FILES[4]: systems_csv(row for view in views for row in view.systems()),
        **{each.picture: curves_svg(each.curves) for each in reports if each.curves is not None},
    }
    files = {path: text.encode("utf-8", "backslashreplace") for path, text in texts.items()}
    return Tables(name, asked, command, files, manifests, complete)


def _opened(paths: Sequence[Path], say: Say) -> list[RunFolder]:
    """The runs, each once. Raises UsageError for one that is not finished and whole."""
    folders: dict[tuple[object, ...], RunFolder] = {}
    for path in paths:
        folder = _finished(path)
        which = (folder.model, folder.task, folder.recipe, folder.seed, folder.key)
        if which in folders:
            say(f"{folder.label} is given twice; it is taken once")
        folders.setdefault(which, folder)
    return list(folders.values())


def _finished(path: Path) -> RunFolder:
    if not path.is_dir():
        raise UsageError(f"{quoted(path)} is no folder: give a run's, as `list runs` says.")
    damage: list[str] = []
    folder = RunFolder.open_existing(path, notice=damage.append)
    if folder.status != "done":
        status = state(folder.manifest, folder.path)
        raise UsageError(
            f"the run {folder.label} is {status}, not done: finish it with the command that began "
            "it, or leave it out."
        )
    for stage in stage_names(tuple(folder.identity.get("adapters", ()))):
        entry = folder.stage(stage)
        if entry is None or not folder.is_done(stage, entry["key"]):
            raise UsageError(
                f"the run {folder.label} lacks its stage {stage}, or a file of it was changed: "
                "finish it with the command that began it, or leave it out."
            )
    return folder


def _told_apart(folders: Sequence[RunFolder], reports: Sequence[RunReport]) -> list[RunReport]:
    """The reports, those of one recipe and seed labelled with their keys."""
    named = [(r.model, r.task, r.recipe, r.seed) for r in reports]
    times = Counter(named)
    return [
        replace(report, label=f"run {folder.key}") if times[name] > 1 else report
        for name, folder, report in zip(named, folders, reports, strict=True)
    ]
