"""The golden cases: whole, right, and such that a scorer broken on purpose is noticed.

A mutation (mutations.toml) is a change of a module's text. The changed module is put in the
place of the true one, and the golden cases are checked as `harness check` checks them.
"""

from __future__ import annotations

import functools
import importlib
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from harness import scorers
from harness.host.plugins import plugins
from harness.records import Sample
from harness.regression.check import shipped_baselines
from harness.regression.goldens import Case, faults_of_set, read_cases
from harness.regression.subjects import (
    Absent,
    Subject,
    faults_of_cases,
    kinds_of,
    subject,
    subject_names,
)
from harness.scorers.base import Value

MUTATIONS = tomllib.loads((Path(__file__).parent / "mutations.toml").read_text("utf-8"))["mutation"]


# What scorers say unbroken of a case: the same for each of their metrics and each constant.
TRUE: dict[tuple[str, Sample], dict[str, Value]] = {}


@functools.cache
def cases_of(name: str) -> list[Case]:
    return read_cases(shipped_baselines() / "goldens" / f"{name}.toml")


@functools.cache
def short_first(name: str) -> list[Case]:
    return sorted(cases_of(name), key=lambda case: len(str(case.inputs)))


def noticed(name: str) -> bool:
    """Whether some golden case of the subject does not come out."""
    forget()
    found = known(name)
    return any(faults_of_cases([case], found) for case in short_first(name))


def known(name: str) -> Subject:
    try:
        return subject(name, cases_of(name))
    except Absent as reason:
        pytest.skip(f"{name}: {reason}")


def forget() -> None:
    """Empty the caches of all scorers: what the true code computed must not stand in. But for
    the one of installed packages, which takes long and has no mutation."""
    for module in harness_modules():
        for value in list(vars(module).values()):
            if hasattr(value, "cache_clear") and value is not plugins:
                value.cache_clear()


def harness_modules() -> list[ModuleType]:
    found = [module for name, module in sys.modules.items() if name.startswith("harness.")]
    # What flask gives to modules may be looked at within a request only.
    left_out = ("harness.regression", "harness.serving", "harness.benchmarks")
    return [module for module in found if not module.__name__.startswith(left_out)]


def break_module(patch: pytest.MonkeyPatch, name: str, old: str, new: str) -> None:
    """Put a copy of the module, `old` of its text changed to `new`, wherever it is used."""
    true = importlib.import_module(name)
    source = Path(str(true.__file__)).read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{name} has {old!r} {source.count(old)} times, not once"
    broken = ModuleType(name)
    broken.__file__ = true.__file__
    patch.setitem(sys.modules, name, broken)
    exec(compile(source.replace(old, new), str(true.__file__), "exec"), vars(broken))
    package, _, last = name.rpartition(".")
    patch.setattr(sys.modules[package], last, broken)
    for module in harness_modules():
        for key, value in list(vars(module).items()):
            made_here = getattr(value, "__module__", None) == name
            if module is not broken and made_here and getattr(true, key, None) is value:
                patch.setattr(module, key, getattr(broken, key))
    if name == "harness.scorers.html.standard":  # its classes are the bases of others
        user = "harness.scorers.html.guarded"
        fresh = ModuleType(user)
        true = importlib.import_module(user)
        fresh.__file__ = true.__file__
        patch.setitem(sys.modules, user, fresh)
        source = Path(str(true.__file__)).read_text(encoding="utf-8")
        exec(compile(source, str(true.__file__), "exec"), vars(fresh))


@pytest.fixture(autouse=True)
def forgotten() -> object:
    yield
    forget()


@pytest.mark.parametrize("name", subject_names())
def test_all_cases_are_there_and_come_out_unbroken(name: str) -> None:
    assert faults_of_set(cases_of(name), kinds=kinds_of(name)) == []
    assert faults_of_cases(cases_of(name), known(name)) == []


@pytest.mark.parametrize(
    ("name", "module", "old", "new"),
    [
        pytest.param(
            m["subject"], m["module"], m["old"], m["new"], id=f"{m['subject']}: {m['name']}"
        )
        for m in MUTATIONS
    ],
)
def test_mutation_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, old: str, new: str
) -> None:
    known(name)  # imports what the copy must take the place of
    break_module(monkeypatch, module, old, new)
    assert noticed(name)


@pytest.mark.parametrize("constant", [0.0, 1.0, 100.0])
@pytest.mark.parametrize(
    ("name", "metric"),
    [(name, metric) for name in scorers.names() for metric in scorers.metric_names(name)],
)
def test_constant_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str, metric: str, constant: float
) -> None:
    known(name)
    cls = type(scorers.get([name])[0].scorer)
    score: Callable[..., dict[str, Value]] = cls.score

    def broken(self: object, sample: Sample) -> dict[str, Value]:
        if (name, sample) not in TRUE:
            TRUE[name, sample] = score(self, sample)
        return {**TRUE[name, sample], metric: constant}

    monkeypatch.setattr(cls, "score", broken)
    monkeypatch.setattr(cls, "score_many", lambda self, samples: [broken(self, s) for s in samples])
    monkeypatch.setattr(cls, "details", lambda self, sample: {})  # no case is about them
    assert noticed(name)


def test_every_subject_is_broken_in_ways_of_its_own() -> None:
    missing = set(subject_names()) - {mutation["subject"] for mutation in MUTATIONS}
    assert missing <= {"conformance"}  # the Nu checker's own count: constants are all there is


def test_a_mutation_changes_functions_that_others_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.scorers.html import validity

    true = validity.balanced
    break_module(
        monkeypatch, "harness.scorers.html.balance", "return _may_end(stack, 0)", "return True"
    )
    assert isinstance(validity.balanced, FunctionType)
    assert validity.balanced is not true
