"""What golden cases are about: each scorer, and some functions that are no scorers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from harness.records import Scored
from harness.regression.goldens import KINDS, Case, faults_in, text_of
from harness.scorers import get, names

Subject = Callable[[Case], Scored]

CROSS_ENTROPY, STATISTICS, EXTRACT = "cross_entropy", "statistics", "extract"
# Numbers have no white space and no script.
NUMERIC_KINDS = tuple(kind for kind in KINDS if kind not in ("white_space", "script"))
REFUSED = "refused"  # why there is no number where a function raises ValueError
MISSING = "unscored"  # how a case writes a number that is not there


class Absent(Exception):
    """The machine lacks what a subject needs; the text says what, in a few words."""


def subject_names() -> list[str]:
    """Every name that has a file of golden cases."""
    return [*names(), EXTRACT, CROSS_ENTROPY, STATISTICS]


def kinds_of(name: str) -> tuple[str, ...]:
    """The kinds of cases that the subject's file must have."""
    return NUMERIC_KINDS if name in (CROSS_ENTROPY, STATISTICS) else KINDS


def subject(name: str, cases: Sequence[Case]) -> Subject:
    """The function that a file of golden cases is about, for these cases. Raises Absent."""
    match name:
        case "extract":
            return _extract
        case "cross_entropy":
            return _cross_entropy()
        case "statistics":
            return _statistics
    chosen = get([name])[0]
    if chosen.scorer.in_worker:
        return lambda case: chosen.score(case.sample())
    # A program that takes seconds to start is asked once for all.
    scored = chosen.score_many([case.sample() for case in cases])
    if scored and all(None in one.scores.values() for one in scored):
        raise Absent(next(iter(scored[0].notes.values())))
    found = {case.name: one for case, one in zip(cases, scored, strict=True)}
    return lambda case: found[case.name]


def faults_of_cases(cases: Iterable[Case], found: Subject) -> list[str]:
    """The faults of each case in turn; a subject that raises has the fault that it raises."""
    faults: list[str] = []
    for case in cases:
        try:
            faults += faults_in(case, found(case))
        except Exception as error:  # whatever it is, it is what the case has found
            faults.append(f"{case.name}: raised {type(error).__name__} ({error!s:.80})")
    return faults


def _extract(case: Case) -> Scored:
    """extracted: 1 where the answer's HTML is the text given as `extracted`."""
    from harness.scorers.text import extract

    found = extract.extract(case.inputs["prediction"])
    same = found == text_of(case.inputs["extracted"])
    return Scored({"extracted": float(same)}, {} if same else {"extracted": f"{found!r:.80}"})


def _cross_entropy() -> Subject:
    """mean_nats: token_cross_entropy of the case's logits, targets and mask (in float64)."""
    try:
        import torch
    except ImportError:
        raise Absent("torch is not installed") from None
    from harness.decoder import cross_entropy

    def found(case: Case) -> Scored:
        given = case.inputs
        logits = torch.tensor(given["logits"], dtype=torch.float64)
        targets = torch.tensor(given["targets"], dtype=torch.long)
        mask = torch.tensor(given["mask"], dtype=torch.bool) if "mask" in given else None
        try:
            value = cross_entropy.token_cross_entropy(logits, targets, mask)
        except ValueError:
            return Scored({"mean_nats": None}, {"mean_nats": REFUSED})
        return Scored({"mean_nats": float(value)})

    return found


def _statistics(case: Case) -> Scored:
    """The result of the function of harness.statistics.paired that the case names.

    Of a Summary or Comparison, the fields that the case expects; of a list, its entries as
    "1", "2" …; of a number, "value". What is None is unscored: "none"; where the function
    refuses its arguments all is unscored: "refused".
    """

    from harness.statistics import paired

    given = dict(case.inputs)
    function = getattr(paired, given.pop("function"))
    try:
        result = function(**{key: _argument(value) for key, value in given.items()})
    except ValueError:
        return Scored(dict.fromkeys(case.expect, None), dict.fromkeys(case.expect, REFUSED))
    values: dict[str, Any]
    match result:
        case list():
            values = {str(place): value for place, value in enumerate(result, 1)}
        case float() | int() | None:
            values = {"value": result}
        case _:
            values = {key: asdict(result)[key] for key in case.expect}
    scores = {key: None if value is None else float(value) for key, value in values.items()}
    return Scored(scores, {key: "none" for key, value in scores.items() if value is None})


def _argument(value: Any) -> Any:
    """A column as a case writes it: MISSING for None, {repeat = x, times = n} for n times x."""
    if not isinstance(value, list):
        return value
    column: list[Any] = []
    for item in value:
        match item:
            case {"repeat": repeated, "times": int(times), **rest} if not rest:
                column += _argument(_as_list(repeated)) * times
            case _:
                column.append(None if item == MISSING else item)
    return column


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]
