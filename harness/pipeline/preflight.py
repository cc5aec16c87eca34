"""What a command needs and this machine lacks, found before any work and without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.backends.scripted import ScriptedBackend
from harness.config.schema import HubSource, LocalSource, ScriptedSource
from harness.data.hub import check_snapshot, fetch_snapshot
from harness.data.load import available
from harness.errors import MissingError, UsageError
from harness.host.paths import expanded
from harness.hub import cached_snapshot
from harness.models import sanity
from harness.models.locate import ensure, missing
from harness.pipeline.outputs import writable
from harness.pipeline.selection import Selection
from harness.tracking import require


def preflight(selection: Selection) -> None:
    """Check what the entries of a command need, and where its files go.

    Raises UsageError, then MissingError with one sentence, a line each, for all that the machine
    lacks.
    """
    options = selection.options
    require(options.report_to)
    for what, folder in (("--runs", options.runs), ("--results", options.results)):
        writable(what, folder)
    faults = [
        *(missing(model, options.weights.get(model.name)) for model in selection.models),
        *(available(task, options.data.get(task.name)) for task in selection.tasks),
    ]
    if found := [fault for fault in faults if fault]:
        raise MissingError("\n".join(found))
    _sane(selection)
    for model in selection.models:
        if isinstance(model.source, ScriptedSource):
            ScriptedBackend(Path(options.weights.get(model.name) or model.source.path or ""))


def fetch(selection: Selection, say: Callable[[str], None], *, dry: bool = False) -> None:
    """Download what the command takes from the hub, before runs are keyed by its commit.

    dry: say what would be, and do nothing. Raises MissingError or StorageError.
    """
    options = selection.options
    for model in selection.models:
        ensure(model, options.weights.get(model.name), say, verify=options.verify, dry=dry)
    _sane(selection)
    for task in selection.tasks:
        if task.data.hub is not None and task.name not in options.data:
            have = check_snapshot if dry else fetch_snapshot
            have(task, say, verify=options.verify)


def _sane(selection: Selection) -> None:
    """Look at the folders of weights that are here. Raises UsageError with all that is wrong."""
    faults = []
    for model in selection.models:
        given, source = selection.options.weights.get(model.name), model.source
        # Weights that stand in for the registered ones may be of another size.
        parameters = model.parameters if given is None else None
        folder = None if given is None else expanded(given)
        if folder is None and isinstance(source, LocalSource):
            folder = Path(source.path)
        if folder is None and isinstance(source, HubSource):
            folder = cached_snapshot(source.repo, source.revision, "model")
        if folder is not None and not isinstance(source, ScriptedSource):
            fault = sanity.fault(folder, parameters)
            faults += [f"model {model.name}: {fault}"] if fault else []
    if faults:
        raise UsageError("\n".join(faults))
