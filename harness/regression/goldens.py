"""Golden cases: answers whose scores were derived by hand, in baselines/goldens/NAME.toml.

A file is a list of cases:

    [[case]]
    name = "half of the words"
    kind = "partial"                   # one of KINDS
    prediction = "a b"                 # text, or pieces to join (see `text_of`)
    reference = "a c"
    expect = { rouge1 = "1/2" }        # number, formula, or "unscored: reason"
    why = "1 of 2 words is common: P = R = 1/2"

and where the scorer looks at them: prompt, assertions (a list of tables), finish_reason.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.host.paths import read_text
from harness.records import Assertion, Sample, Scored
from harness.regression.expressions import evaluate

KINDS = (
    *("perfect", "zero", "partial", "empty", "white_space", "script", "reordered", "duplicated"),
    *("cut_off", "hostile"),
)
TOLERANCE = 1e-12  # relative, beyond 1; the last bits of a formula depend on its order
UNSCORED = "unscored: "


@dataclass(frozen=True, slots=True)
class Case:
    """One golden case. inputs: its keys but name, kind, expect and why, texts joined."""

    name: str
    kind: str
    expect: dict[str, float | str]
    why: str
    inputs: dict[str, Any] = field(default_factory=dict)

    def sample(self) -> Sample:
        """The case as a scorer sees it."""
        fields = {"prompt": "", "reference": "", "prediction": "", **self.inputs}
        fields["assertions"] = tuple(Assertion(**a) for a in fields.get("assertions", ()))
        return Sample(id=self.name, **fields)


def read_cases(path: Path) -> list[Case]:
    """The cases of a file. Raises DataError on what is not as the module says."""
    try:
        rows = tomllib.loads(read_text(path))["case"]
        return [_case(row) for row in rows]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); restore it.") from None
    except (KeyError, TypeError, ValueError, DataError) as error:
        raise DataError(f"{path} is no file of golden cases ({error}); mend it.") from None


def faults_of_set(
    cases: Sequence[Case], least: int = 12, kinds: Sequence[str] = KINDS
) -> list[str]:
    """What a file of cases lacks: enough of them, a kind, a derivation, a name of its own."""
    faults = []
    if len(cases) < least:
        faults.append(f"{len(cases)} cases, at least {least} are wanted")
    faults += [f"no case of kind {kind}" for kind in kinds if kind not in {c.kind for c in cases}]
    faults += [f"{case.name}: no kind {case.kind}" for case in cases if case.kind not in kinds]
    faults += [f"{case.name}: no derivation" for case in cases if not case.why.strip()]
    names = [case.name for case in cases]
    faults += [f"{name}: twice" for name in sorted({n for n in names if names.count(n) > 1})]
    return faults


def faults_of(case: Case, score: Callable[[Sample], Scored]) -> list[str]:
    """Where a scorer's numbers for a case are not as expected, one sentence each; [] if nowhere."""
    return faults_in(case, score(case.sample()))


def faults_in(case: Case, found: Scored) -> list[str]:
    """Where `found` is not as the case expects, one sentence each; [] if nowhere."""
    faults = []
    for metric in dict.fromkeys([*case.expect, *found.scores]):
        if metric not in case.expect:
            faults.append(f"{case.name}: {metric} is not expected in the case")
            continue
        want = case.expect[metric]
        if metric not in found.scores:
            faults.append(f"{case.name}: {metric} is expected, but was not scored")
        elif isinstance(want, str):
            got = found.scores[metric]
            note = found.notes.get(metric) if got is None else got
            if note != want:
                faults.append(f"{case.name}: {metric} is {note}, expected unscored: {want}")
        elif not close(found.scores[metric], want):
            note = found.notes.get(metric)
            why = f" ({note})" if note else ""
            faults.append(f"{case.name}: {metric} is {found.scores[metric]}{why}, expected {want}")
    return faults


def close(got: float | None, want: float) -> bool:
    """Whether `got` equals `want` but for the rounding of a few operations."""
    return got is not None and math.isclose(got, want, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def text_of(value: Any) -> str:
    """A text as a case gives it: a string, or a list of pieces that are joined.

    A piece is a string, {repeat = "…", times = n}, or {code = 0xD800}: the character of that
    code, for those that TOML cannot write.
    """
    match value:
        case str():
            return value
        case list():
            return "".join(map(text_of, value))
        case {"repeat": repeated, "times": int(times), **rest} if not rest:
            return text_of(repeated) * times
        case {"code": int(code), **rest} if not rest:
            return chr(code)
    raise ValueError(f"{value!r:.60} is no text")


def _case(row: dict[str, Any]) -> Case:
    given = dict(row)
    name, kind, why = (given.pop(key) for key in ("name", "kind", "why"))
    expect = {metric: _expected(value) for metric, value in given.pop("expect").items()}
    for key in ("prompt", "reference", "prediction"):
        if key in given:
            given[key] = text_of(given[key])
    return Case(name, kind, expect, why, given)


def _expected(value: Any) -> float | str:
    if isinstance(value, str):
        if value.startswith(UNSCORED):
            return value.removeprefix(UNSCORED)
        return evaluate(value)
    return float(value)
