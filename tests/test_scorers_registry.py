"""The registry of scorers, and the simple ones: exact match and the form of an answer."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.records import FinishReason, Sample
from harness.scorers import describe, get, names, score_all

TASKS = Path(__file__).parent.parent / "tasks"


def sample(prediction: str, reference: str = "", finish: FinishReason = "stop") -> Sample:
    return Sample("s", "", reference, prediction, finish_reason=finish)


def test_every_shipped_task_names_known_scorers() -> None:
    files = sorted(TASKS.glob("*/task.toml"))
    assert files
    for file in files:
        wanted = tomllib.loads(file.read_text(encoding="utf-8"))["scorers"]
        assert [scorer.name for scorer in get(wanted)] == wanted


def test_every_scorer_gives_exactly_its_metrics_with_a_signature() -> None:
    seen: list[str] = []
    for scorer in get(names()):
        assert list(scorer.score(sample("<p>x</p>", "<p>y</p>"))) == [
            m.name for m in scorer.metrics
        ]
        for metric in scorer.metrics:
            assert metric.signature.split("|")[0] == metric.name
            assert metric.signature.endswith(f"|text:raw|v{scorer.version}")
        seen += [metric.name for metric in scorer.metrics]
        assert describe(scorer.name)
    assert len(seen) == len(set(seen))


def test_rouge_signature_is_the_contracts() -> None:
    metric = {m.name: m for m in get(["rouge"])[0].metrics}["rougeL"]
    assert metric.signature == "rougeL|tok:rouge-score|stem:no|text:raw|v1"


@pytest.mark.parametrize(("name", "hint"), [("rogue", "'rouge'"), ("qqq", "exact_match")])
def test_an_unknown_scorer_is_one_sentence_with_the_near_name(name: str, hint: str) -> None:
    for call in (lambda: get([name]), lambda: describe(name)):
        with pytest.raises(UsageError) as error:
            call()
        assert name in str(error.value)
        assert hint in str(error.value)
        assert "\n" not in str(error.value)


def test_a_name_given_twice_is_one_scorer_and_order_is_kept() -> None:
    assert [s.name for s in get(["rouge", "answers", "rouge"])] == ["rouge", "answers"]


def test_score_all_keeps_order_and_reports_progress() -> None:
    done: list[int] = []
    rows = score_all(
        [sample("a", "a"), sample("b", "a"), sample("", "a")],
        get(["exact_match", "answers"]),
        done.append,
    )
    assert [row["exact_match"] for row in rows] == [1.0, 0.0, 0.0]
    assert [row["empty"] for row in rows] == [0.0, 0.0, 1.0]
    assert done == [1, 2, 3]


def test_scoring_imports_no_torch_and_the_registry_no_scorer() -> None:
    code = """
import sys
import harness.scorers as s
s.describe("rouge")
assert not [m for m in ("numpy", "bs4", "html5lib", "rapidfuzz", "harness.scorers.rouge")
            if m in sys.modules]
from harness.records import Sample
s.score_all([Sample("a", "", "<p>x", "<p>y")], s.get(s.names()))
assert "torch" not in sys.modules
assert "rouge_score" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=TASKS.parent)


@pytest.mark.parametrize(
    ("prediction", "reference", "value"),
    [
        ("<p>a</p>", "<p>a</p>", 1.0),
        ("\n <p>a</p>\t\n", "<p>a</p>", 1.0),
        ("<p>a</p>", "  <p>a</p>\n", 1.0),
        ("<p>a </p>", "<p>a</p>", 0.0),  # inner white space counts
        ("<P>a</P>", "<p>a</p>", 0.0),  # so does case
        ("a b", "b a", 0.0),  # and order: no sets of words
        ("a a", "a", 0.0),
        ("", "", 1.0),
        (" ", "\n", 1.0),
        ("", "<p>", 0.0),
        ("пример", "пример", 1.0),
        ("\ud800", "\ud800", 1.0),
    ],
)
def test_exact_match(prediction: str, reference: str, value: float) -> None:
    assert get(["exact_match"])[0].score(sample(prediction, reference)) == {"exact_match": value}


@pytest.mark.parametrize(
    ("text", "fenced"),
    [
        ("```html\n<p>x</p>\n```", 1.0),
        ("Sure:\n\n   ```\nx", 1.0),
        ("text\n~~~ html\n", 1.0),
        ("````\nx", 1.0),
        ("```", 1.0),
        ("    ```\nindented code", 0.0),
        ("inline ``` x", 0.0),
        ("```one span``` of code", 0.0),
        ("``\nx", 0.0),
        ("<p>x</p>", 0.0),
        ("", 0.0),
    ],
)
def test_fenced(text: str, fenced: float) -> None:
    assert get(["answers"])[0].score(sample(text))["fenced"] == fenced


@pytest.mark.parametrize(
    ("text", "empty"), [("", 1.0), (" \n\t\xa0", 1.0), (".", 0.0), ("\0", 0.0), ("<p>", 0.0)]
)
def test_empty(text: str, empty: float) -> None:
    assert get(["answers"])[0].score(sample(text))["empty"] == empty


def test_truncated_follows_the_finish_reason_not_the_text() -> None:
    answers = get(["answers"])[0]
    assert answers.score(sample("<p>x", finish="length"))["truncated"] == 1.0
    assert answers.score(sample("<p>x", finish="stop"))["truncated"] == 0.0
    assert all(m.direction == "lower" and m.binary for m in answers.metrics)
