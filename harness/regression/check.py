"""`harness check`: golden cases and frozen scores, or a run's table against a frozen one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.errors import EXIT_FAILED, EXIT_OK, DataError, UsageError
from harness.host.files import write_atomic
from harness.host.paths import no_file
from harness.regression import frozen, tables
from harness.regression.goldens import faults_of_set, read_cases
from harness.regression.subjects import (
    Absent,
    faults_of_cases,
    kinds_of,
    subject,
    subject_names,
)

Say = Callable[[str], None]

_HERE = Path(__file__).resolve().parent


def shipped_baselines() -> Path:
    """The folder of the baselines: inside an installed package, at the top of a checkout."""
    packaged = _HERE.parent / "_baselines"
    return packaged if packaged.is_dir() else _HERE.parent.parent / "baselines"


def check(
    *,
    update: bool = False,
    results: Path | None = None,
    baseline: Path | None = None,
    say: Say = print,
    folder: Path | None = None,
) -> int:
    """Check, and print what moved; the exit status: 0 where nothing did, else 1.

    Without `results`: the golden cases and frozen scores of `folder` (None: those shipped).
    With `results` and `baseline`, two comparison.csv: only the one against the other.
    update: write the frozen scores, or the baseline, anew. Scores are not written where a golden
    case fails, or where a number moved and its scorer's version was not raised: status 1.
    Raises UsageError and DataError on files that are not there or not such files, StorageError.
    """
    if (results is None) != (baseline is None):
        lacking = "--baseline" if baseline is None else "--results"
        raise UsageError(f"--results and --baseline go together: give {lacking} too.")
    if results is not None and baseline is not None:
        if update:
            return _freeze_table(results, baseline, say)
        return _check_table(results, baseline, say)
    folder = shipped_baselines() if folder is None else folder
    faults = check_goldens(folder / "goldens", say)
    if update:
        if faults:
            say("nothing was written: first make the golden cases come out")
            return _ended(faults, say)
        return _freeze_scores(folder, say)
    return _ended([*faults, *check_frozen(folder, say)], say)


def check_goldens(folder: Path, say: Say) -> list[str]:
    """The faults of all golden cases, of their files, and of files that lack or are too many."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder of golden cases; restore it.")
    present = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    faults = [f"goldens: {name}.toml is missing" for name in subject_names() if name not in present]
    faults += [
        f"goldens: {name}.toml is of no scorer" for name in present if name not in subject_names()
    ]
    cases, files, skipped = 0, 0, []
    for name in subject_names():
        if name not in present:
            continue
        found = read_cases(present[name])
        faults += [f"{name}.toml: {fault}" for fault in faults_of_set(found, kinds=kinds_of(name))]
        try:
            scored = subject(name, found)
        except Absent as reason:
            skipped.append(f"{name}: not checked, {reason}")
            continue
        except ModuleNotFoundError as error:
            faults.append(f"goldens: {name} cannot be imported ({error})")
            continue
        faults += [f"{name}: {fault}" for fault in faults_of_cases(found, scored)]
        cases, files = cases + len(found), files + 1
    say(f"goldens: {cases} cases of {files} files")
    for line in skipped:
        say(line)
    return faults


def check_frozen(folder: Path, say: Say) -> list[str]:
    """Where the numbers of the fixed predictions are not the frozen ones."""
    if not (folder / frozen.SCORES).exists():
        return [f"frozen: {frozen.SCORES} is missing; make it with check --update"]
    old = frozen.read_frozen(folder / frozen.SCORES)
    samples = frozen.read_samples(folder / frozen.PREDICTIONS)
    new = frozen.measure(samples, folder / frozen.PAIRS)
    say(f"frozen: {_size(new)}")
    return [f"frozen: {line}" for line in frozen.differences(old, new)]


def _freeze_scores(folder: Path, say: Say) -> int:
    path = folder / frozen.SCORES
    samples = frozen.read_samples(folder / frozen.PREDICTIONS)
    new = frozen.measure(samples, folder / frozen.PAIRS)
    changes = [f"frozen: {_size(new)}"]
    if path.exists():
        old = frozen.read_frozen(path)
        if faults := frozen.not_raised(old, new):
            say(f"nothing was written to {path}: raise the version of what moved")
            return _ended(faults, say)
        changes = frozen.differences(old, new) or ["nothing moved"]
    write_atomic(path, frozen.text_of(new))
    for line in changes:
        say(line)
    say(f"wrote {path}")
    return EXIT_OK


def _check_table(results: Path, baseline: Path, say: Say) -> int:
    old, new = tables.read_baseline(baseline), tables.read_results(results)
    found = tables.compare_tables(old, new)
    say(
        f"table: {found.figures} figures of {len(new.rows)} rows, tolerance {found.z:.1f} standard "
        f"errors ({tables.FALSE_ALARMS:.0%} false alarms in the whole table)"
    )
    if old.samples is None or new.samples is None:
        lacking = f"{baseline.stem}.samples.csv" if old.samples is None else "predictions.csv"
        say(f"samples: not compared, there is no {lacking}")
    else:
        say(f"samples: {len(found.changed) or 'none'} changed")
        for line in found.changed:
            say(f"  {line}")
    return _ended(found.moved, say)


def _freeze_table(results: Path, baseline: Path, say: Say) -> int:
    new = tables.read_results(results)
    if no_file(baseline) != "does not exist":
        for line in tables.compare_tables(tables.read_baseline(baseline), new).moved:
            say(f"  {line}")
    for path in tables.freeze(new, baseline):
        say(f"wrote {path}")
    return EXIT_OK


def _size(measured: frozen.Frozen) -> str:
    metrics = sum(len(scorer["signatures"]) for scorer in measured["scorers"].values())
    return f"{len(measured['samples'])} predictions, {metrics} metrics"


def _ended(faults: list[str], say: Say) -> int:
    for fault in faults:
        say(f"  {fault}")
    if faults:
        noun = "fault" if len(faults) == 1 else "faults"
        say(f"{len(faults)} {noun}")
        return EXIT_FAILED
    say("all is as it should be")
    return EXIT_OK
