"""`harness check`: golden cases and frozen scores, and what must make them fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import DataError, UsageError
from harness.records import Sample, Scored
from harness.regression import check as checking
from harness.regression import frozen, subjects
from harness.regression.check import check, shipped_baselines
from harness.regression.expressions import evaluate
from harness.regression.goldens import KINDS, Case, faults_in, faults_of_set, read_cases, text_of
from harness.scorers.text.form import Form
from harness.scorers.text.rouge import Rouge

FEW = ["rouge", "answers"]
DERIVED = ["rouge", "answers", "extract", "statistics"]


class Said(list[str]):
    """What a command printed."""

    def __contains__(self, part: object) -> bool:
        return any(str(part) in line for line in self)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were two scorers only."""
    few_scorers(monkeypatch)


def few_scorers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "names", lambda: FEW)
    monkeypatch.setattr(frozen, "names", lambda: FEW)
    monkeypatch.setattr(checking, "subject_names", lambda: DERIVED)


@pytest.fixture(scope="module")
def frozen_now(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Baselines of two scorers, frozen now."""
    place = tmp_path_factory.mktemp("baselines")
    (place / "goldens").mkdir()
    for name in DERIVED:
        shutil.copy(shipped_baselines() / "goldens" / f"{name}.toml", place / "goldens")
    for name in (frozen.PREDICTIONS, frozen.PAIRS):
        shutil.copy(shipped_baselines() / name, place)
    with pytest.MonkeyPatch.context() as monkeypatch:
        few_scorers(monkeypatch)
        assert check(update=True, folder=place, say=Said().append) == 0
    return place


@pytest.fixture
def folder(few: None, frozen_now: Path, tmp_path: Path) -> Path:
    """Baselines of a test's own, all of which come out."""
    return shutil.copytree(frozen_now, tmp_path / "baselines")


def run(folder: Path, **options: Any) -> tuple[int, Said]:
    said = Said()
    return check(folder=folder, say=said.append, **options), said


def change(path: Path, edit: Callable[[Any], None]) -> None:
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def test_what_is_frozen_comes_out(folder: Path) -> None:
    status, said = run(folder)
    assert status == 0
    assert said == [
        said[0],
        f"frozen: {len(frozen.read_samples(folder / frozen.PREDICTIONS))} predictions, 9 metrics",
        "all is as it should be",
    ]
    assert said[0].endswith("cases of 4 files")


def test_update_twice_writes_the_same(folder: Path) -> None:
    before = (folder / frozen.SCORES).read_bytes()
    status, said = run(folder, update=True)
    assert (status, "nothing moved" in said) == (0, True)
    assert (folder / frozen.SCORES).read_bytes() == before


def first(values: Any) -> Any:
    return next(iter(values["samples"].values()))


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda v: first(v)["raw"].update(rouge1=first(v)["raw"]["rouge1"] - 2e-9), "rouge1 was"),
        (lambda v: first(v)["raw"].update(rouge1="too long"), "rouge1 was too long, is 1.0"),
        (lambda v: first(v)["raw"].pop("rouge1"), "rouge1 was not there"),
        (lambda v: first(v)["raw"].update(gone=1), "gone was 1, is not there"),
        (lambda v: first(v).update(input="0"), "the prediction itself is another"),
        (lambda v: v["samples"].pop("same-1"), "prediction same-1 has no baseline"),
        (lambda v: v["samples"].update(more={}), "prediction more is missing"),
        (lambda v: v["scorers"].pop("rouge"), "scorer rouge has no baseline"),
        (lambda v: v["scorers"].update(other={}), "scorer other is missing"),
        (lambda v: v["scorers"]["rouge"].update(version=0), "rouge: version was 0, is 1"),
        (lambda v: v["scorers"]["rouge"]["signatures"].update(rouge1="x"), "signature was x"),
        (lambda v: v["scorers"]["rouge"]["signatures"].pop("rouge1"), "rouge1 has no baseline"),
        (lambda v: v["statistics"]["share"].update(p_value=0.5), "share: p_value was 0.5"),
        (lambda v: v["statistics"].pop("share"), "statistics of share has no baseline"),
        (lambda v: v["samples"]["chat-1"].update(extract="0"), "another text is extracted"),
        (lambda v: v["samples"]["chat-1"]["extracted"].update(rouge1=0), "rouge1 (extracted) was"),
    ],
)
def test_what_moved_fails(folder: Path, edit: Callable[[Any], None], told: str) -> None:
    change(folder / frozen.SCORES, edit)
    status, said = run(folder)
    assert status == 1
    assert told in said


def test_a_last_digit_may_differ(folder: Path) -> None:
    change(folder / frozen.SCORES, lambda v: first(v)["raw"].update(rouge1=1.0 - 1e-12))
    assert run(folder)[0] == 0


def test_long_lists_are_counted(folder: Path) -> None:
    def shift(values: Any) -> None:
        for row in values["samples"].values():
            row["raw"]["rouge1"] += 1

    change(folder / frozen.SCORES, shift)
    status, said = run(folder)
    assert status == 1
    assert sum("rouge1 was" in line for line in said) == 20
    assert "more predictions moved" in said


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    score = Form.score
    monkeypatch.setattr(Form, "score", lambda self, s: {**score(self, s), "repetition": 0.25})


def test_update_demands_a_raised_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / frozen.SCORES).read_bytes()
    broken(monkeypatch)
    # The golden cases have noticed as well: they come first.
    status, said = run(folder, update=True)
    assert (status, "nothing was written" in said) == (1, True)
    monkeypatch.setattr(checking, "check_goldens", lambda *_: [])
    status, said = run(folder, update=True)
    assert status == 1
    assert "answers: repetition moved and the version is 2; make it 3" in said
    assert (folder / frozen.SCORES).read_bytes() == before
    monkeypatch.setattr(Form, "version", 3)
    status, said = run(folder, update=True)
    assert status == 0
    assert "answers: version was 2, is 3" in said
    assert "repetition was" in said
    assert run(folder)[0] == 0


def test_a_crash_is_a_fault_and_the_rest_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(self: Rouge, sample: Sample) -> Any:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(Rouge, "score", crash)
    said = Said()
    faults = checking.check_goldens(folder / "goldens", said.append)
    assert len(faults) >= 12
    assert all("raised ZeroDivisionError" in fault for fault in faults)


def test_new_and_changed_predictions_may_be_frozen(folder: Path) -> None:
    path = folder / frozen.PREDICTIONS
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["prediction"] += "<p>more</p>"
    rows.append({"id": "new", "prediction": "<p>a</p>", "reference": "<p>b</p>"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, said = run(folder)
    assert status == 1
    assert "the prediction itself is another" in said
    assert "prediction new has no baseline" in said
    assert run(folder, update=True)[0] == 0
    assert run(folder)[0] == 0


def test_goldens_missing_extra_and_wrong(folder: Path) -> None:
    goldens = folder / "goldens"
    (goldens / "rouge.toml").rename(goldens / "mine.toml")
    text = (goldens / "answers.toml").read_text()
    (goldens / "answers.toml").write_text(text.replace("empty = 1", "empty = 0", 1))
    status, said = run(folder)
    assert status == 1
    assert "rouge.toml is missing" in said
    assert "mine.toml is of no scorer" in said
    assert "empty is 1.0, expected 0.0" in said


def test_missing_scores_fail_and_can_be_made(folder: Path) -> None:
    (folder / frozen.SCORES).unlink()
    status, said = run(folder)
    assert (status, "scores.json is missing" in said) == (1, True)
    assert run(folder, update=True)[0] == 0
    assert run(folder)[0] == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (frozen.SCORES, "{}"),
        (frozen.SCORES, "["),
        (frozen.PREDICTIONS, '{"id": "a"}\n'),
        (frozen.PREDICTIONS, "7\n"),
        (frozen.PREDICTIONS, '{"id":"a","prediction":"","reference":""}\n' * 2),
        (frozen.PAIRS, "{}"),
        ("goldens/rouge.toml", "case = 1"),
        ("goldens/rouge.toml", "[["),
    ],
)
def test_broken_files_are_named(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=Path(name).name):
        run(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="restore it"):
        check(folder=tmp_path / "none", say=Said().append)


def test_options_that_go_together(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give --baseline"):
        check(results=tmp_path / "a.csv", say=Said().append)
    with pytest.raises(UsageError, match="give --results"):
        check(baseline=tmp_path / "a.csv", say=Said().append)


def test_absent_subjects_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> subjects.Subject:
        raise subjects.Absent("it is not here")

    monkeypatch.setattr(checking, "subject", absent)
    monkeypatch.setattr(checking, "subject_names", lambda: ["conformance"])
    said = Said()
    faults = checking.check_goldens(shipped_baselines() / "goldens", said.append)
    assert not [fault for fault in faults if "of no scorer" not in fault]
    assert said == ["goldens: 0 cases of 0 files", "conformance: not checked, it is not here"]


# --- cases -----------------------------------------------------------------------------------


def test_faults_in_a_case() -> None:
    case = Case("c", "zero", {"a": 0.5, "b": "no page", "d": 1.0}, "why")
    assert faults_in(case, Scored({"a": 0.5, "b": None, "d": 1.0}, {"b": "no page"})) == []
    assert faults_in(case, Scored({"a": 0.5 + 1e-11, "b": 0.0, "e": 1.0})) == [
        "c: a is 0.50000000001, expected 0.5",
        "c: b is 0.0, expected unscored: no page",
        "c: d is expected, but was not scored",
        "c: e is not expected in the case",
    ]
    assert faults_in(case, Scored({"a": None, "b": None, "d": 1.0}, {"a": "x", "b": "y"})) == [
        "c: a is None (x), expected 0.5",
        "c: b is y, expected unscored: no page",
    ]


def test_faults_of_a_set() -> None:
    cases = [Case(f"{i}", kind, {}, "why") for i, kind in enumerate([*KINDS, "zero", "zero"])]
    assert faults_of_set(cases) == []
    assert faults_of_set(cases[1:]) == [
        "11 cases, at least 12 are wanted",
        "no case of kind perfect",
    ]
    odd = [*cases, Case("0", "odd", {}, " ")]
    assert faults_of_set(odd) == ["0: no kind odd", "0: no derivation", "0: twice"]


def test_text_of_pieces() -> None:
    assert text_of(["a", {"repeat": ["b", {"code": 0xD800}], "times": 2}]) == "ab\ud800b\ud800"
    with pytest.raises(ValueError, match="is no text"):
        text_of({"repeat": "a"})


def test_a_case_that_lacks_a_key(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('[[case]]\nname = "a"\nkind = "zero"\nwhy = "b"\n')
    with pytest.raises(DataError, match="no file of golden cases"):
        read_cases(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [("2/3", 2 / 3), ("100 * exp(1 - 4/3)", 71.65313105737893), ("-min(1, 2)**2", -1.0)],
)
def test_expressions(text: str, value: float) -> None:
    assert evaluate(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("text", ["", "1/0", "x", "__import__('os')", "'a'", "2 if 1 else 3"])
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(DataError):
        evaluate(text)


@given(st.integers(1, 99), st.integers(1, 99))
def test_fractions(a: int, b: int) -> None:
    assert evaluate(f"{a}/{b}") == a / b
