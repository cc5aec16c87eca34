"""Frozen scores: a fixed set of predictions must keep the numbers in baselines/scores.json.

    {"scorers":    {scorer: {"version": 1, "signatures": {metric: signature}}},
     "samples":    {id: {"input": digest, "raw": {metric: number or "why unscored"},
                         "extracted": the same of the extracted answer, where it is another,
                         "extract": digest of that answer}},
     "statistics": {measure: {field: number}}}

Numbers have twelve significant digits. conformance is not frozen: it is the Nu checker's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.host.files import digest
from harness.host.paths import read_text
from harness.records import EXTRACTED, Assertion, Sample, Scored
from harness.scorers import Chosen, get, merged, names
from harness.scorers.text.extract import extract
from harness.statistics.paired import Pairs, compare_many, describe_many, holm

PREDICTIONS, SCORES, PAIRS = "predictions.jsonl", "scores.json", "pairs.json"
TOLERANCE = 1e-9
NOT_FROZEN = ("conformance",)
_TEXTS = ("raw", "extracted")

Frozen = dict[str, Any]


def frozen_scorers() -> list[str]:
    """The scorers whose numbers are frozen."""
    return [name for name in names() if name not in NOT_FROZEN]


def read_samples(path: Path) -> list[Sample]:
    """The fixed predictions. Raises DataError where the file is not such a set."""
    try:
        rows = [json.loads(li) for li in read_text(path).split("\n") if li]
        samples = []
        for row in rows:
            checks = tuple(Assertion(**check) for check in row.pop("assertions", ()))
            samples.append(Sample(**{"prompt": "", **row}, assertions=checks))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); restore it.") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no file of predictions ({error}); restore it.") from None
    if len({sample.id for sample in samples}) != len(samples):
        raise DataError(f"{path} has an id twice; give each prediction an id of its own.")
    return samples


def read_frozen(path: Path) -> Frozen:
    """The frozen numbers. Raises DataError where the file is not there or is something else."""
    try:
        frozen = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); restore it, or make it with check --update."
        ) from None
    keys = ("scorers", "samples", "statistics")
    if not isinstance(frozen, dict) or not all(isinstance(frozen.get(k), dict) for k in keys):
        raise DataError(f"{path} has no frozen scores; restore it, or make it with check --update.")
    return frozen


def measure(samples: Sequence[Sample], pairs: Path) -> Frozen:
    """The numbers of today, in the form of the file."""
    raw = get(frozen_scorers(), "raw")
    scorers = {}
    for chosen in raw:
        scorer = chosen.scorer
        signatures = {metric.name: str(metric.signature) for metric in scorer.metrics}
        scorers[scorer.name] = {"version": scorer.version, "signatures": signatures}
    # A scorer of the raw answer only says so in its signatures.
    chosen_too = get(frozen_scorers(), "extracted")
    follows = [c for c in chosen_too if any(m.signature.text == EXTRACTED for m in c.metrics)]
    found: dict[str, Any] = {}
    for sample, scored in zip(samples, _scored(samples, raw), strict=True):
        given = {key: value for key, value in asdict(sample).items() if key != "id"}
        found[sample.id] = {"input": _short(given), "raw": _values(scored)}
    others = [s for s in samples if extract(s.prediction) != s.prediction]
    for sample, scored in zip(others, _scored(others, follows), strict=True):
        part = {"extracted": _values(scored), "extract": _short(extract(sample.prediction))}
        found[sample.id].update(part)
    return {"scorers": scorers, "samples": found, "statistics": _statistics(pairs)}


def differences(old: Frozen, new: Frozen, most: int = 20) -> list[str]:
    """What moved, is missing or is too many, a line each, of one metric at most `most`."""
    lines = [*_scorer_lines(old["scorers"], new["scorers"])]
    lines += _sided("prediction", old["samples"], new["samples"])
    moved: dict[str, list[str]] = {}
    for text, metric, place, before, after in _moves(old, new):
        name = metric if text == "raw" else f"{metric} (extracted)"
        moved.setdefault(name, []).append(f"{place}: {name} was {before}, is {after}")
    for name, found in moved.items():
        lines += found[:most]
        if len(found) > most:
            lines.append(f"{name}: {len(found) - most} more predictions moved")
    for place in _both(old["samples"], new["samples"]):
        before, after = old["samples"][place], new["samples"][place]
        if before["input"] != after["input"]:
            lines.append(f"{place}: the prediction itself is another")
        elif before.get("extract") != after.get("extract"):
            lines.append(f"{place}: another text is extracted from it")
    return lines + _statistics_lines(old["statistics"], new["statistics"])


def not_raised(old: Frozen, new: Frozen) -> list[str]:
    """The scorers of which a number moved though their version was not raised.

    Numbers of a prediction that is another now, or from which another text is extracted, may
    move freely; so may those that were not frozen before.
    """
    owner = {m: name for name, s in new["scorers"].items() for m in s["signatures"]}
    moved: dict[str, str] = {}
    for text, metric, place, _, _ in _moves(old, new):
        before, after = old["samples"][place], new["samples"][place]
        same = before["input"] == after["input"]
        if text == "extracted":
            same = same and before["extract"] == after["extract"]
        frozen = old["scorers"].get(owner.get(metric, ""), {})
        if same and metric in frozen.get("signatures", {}):
            moved.setdefault(owner[metric], metric)
    lines = []
    for name, metric in moved.items():
        before, after = (frozen["scorers"][name]["version"] for frozen in (old, new))
        if after <= before:
            lines.append(f"{name}: {metric} moved and the version is {after}; make it {before + 1}")
    return lines


def text_of(frozen: Frozen) -> str:
    """The file's text: a prediction a line, so that a change shows as that line."""
    blocks = []
    for key in ("scorers", "samples", "statistics"):
        rows = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in frozen[key].items()]
        blocks.append(f'"{key}": {{\n' + ",\n".join(rows) + "\n}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _moves(old: Frozen, new: Frozen) -> Iterator[tuple[str, str, str, Any, Any]]:
    """(text, metric, prediction, before, after) of each number that is not as it was."""
    for text in _TEXTS:
        for place in _both(old["samples"], new["samples"]):
            before, after = (f["samples"][place].get(text) for f in (old, new))
            if before is None or after is None:  # told of as "another text is extracted"
                continue
            for metric in dict.fromkeys([*before, *after]):
                was, now = before.get(metric, "not there"), after.get(metric, "not there")
                if not _close(was, now):
                    yield text, metric, place, was, now


def _scored(samples: Sequence[Sample], scorers: Sequence[Chosen]) -> list[Scored]:
    """As harness.scorers.score_all, but here: no number may hang on a worker's clock."""
    return [merged(chosen.score(sample) for chosen in scorers) for sample in samples]


def _scorer_lines(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = _sided("scorer", old, new)
    for name in _both(old, new):
        before, after = old[name], new[name]
        if before["version"] != after["version"]:
            lines.append(f"{name}: version was {before['version']}, is {after['version']}")
        lines += _sided(f"{name}: metric", before["signatures"], after["signatures"])
        for metric in _both(before["signatures"], after["signatures"]):
            was, now = before["signatures"][metric], after["signatures"][metric]
            if was != now:
                lines.append(f"{metric}: signature was {was}, is {now}")
    return lines


def _statistics_lines(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = _sided("statistics of", old, new)
    for name in _both(old, new):
        for key in dict.fromkeys([*old[name], *new[name]]):
            was, now = old[name].get(key, "not there"), new[name].get(key, "not there")
            if not _close(was, now):
                lines.append(f"statistics of {name}: {key} was {was}, is {now}")
    return lines


def _sided(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = [f"{what} {name} is missing" for name in old if name not in new]
    return lines + [f"{what} {name} has no baseline" for name in new if name not in old]


def _both(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [name for name in old if name in new]


def _values(scored: Scored) -> dict[str, float | str]:
    return {
        name: scored.notes.get(name, "no reason given") if value is None else _rounded(value)
        for name, value in scored.scores.items()
    }


def _statistics(path: Path) -> dict[str, dict[str, float | None]]:
    """The comparisons of the measures in baselines/pairs.json, and the tuned system's summary."""
    try:
        given = json.loads(read_text(path))
        measures = {name: Pairs(**pairs) for name, pairs in given["measures"].items()}
        clusters = given["clusters"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} holds no pairs to compare ({error}); restore it.") from None
    found: dict[str, dict[str, Any]] = {}
    for how, labels in (("", None), (" in clusters", clusters)):
        compared = compare_many(list(measures.values()), clusters=labels)
        adjusted = holm([comparison.p_value for comparison in compared])
        for name, comparison, p in zip(measures, compared, adjusted, strict=True):
            found[name + how] = {**asdict(comparison), "p_adjusted": p}
        described = describe_many(
            [m.tuned for m in measures.values()],
            weights=[m.weights for m in measures.values()],
            links=[m.link for m in measures.values()],
            clusters=labels,
        )
        for name, summary in zip(measures, described, strict=True):
            found[f"{name} alone{how}"] = asdict(summary)
    return {
        name: {key: None if value is None else _rounded(value) for key, value in row.items()}
        for name, row in found.items()
    }


def _rounded(value: float) -> float:
    return float(f"{value:.12g}")


def _short(value: Any) -> str:
    return digest(value)[:16]


def _close(was: Any, now: Any) -> bool:
    if isinstance(was, float | int) and isinstance(now, float | int):
        return math.isclose(was, now, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(was == now)
