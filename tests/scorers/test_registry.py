"""The registry of scorers, and exact match."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.records import FinishReason, Sample
from harness.scorers import describe, get, merged, metric_names, names, score_all

TASKS = Path(__file__).parents[2] / "tasks"


def sample(prediction: str, reference: str = "", finish: FinishReason = "stop") -> Sample:
    return Sample("s", "", reference, prediction, finish_reason=finish)


def test_every_shipped_task_names_known_scorers() -> None:
    files = sorted(TASKS.glob("*/task.toml"))
    assert files
    for file in files:
        wanted = tomllib.loads(file.read_text(encoding="utf-8"))["scorers"]
        assert [chosen.scorer.name for chosen in get(wanted)] == wanted


def test_every_scorer_gives_exactly_its_metrics_with_a_signature() -> None:
    seen: list[str] = []
    for name in names():
        (chosen,) = get([name])
        assert chosen.scorer.name == name
        scored = chosen.score(sample("<p>x</p>", "<p>y</p>"))
        found = tuple(scored.scores)
        assert found == tuple(m.name for m in chosen.metrics) == metric_names(name)
        assert {m for m, value in scored.scores.items() if value is None} == set(scored.notes)
        for metric in chosen.metrics:
            assert metric.signature.split("|")[0] == metric.name
            assert metric.signature.endswith(f"|text:raw|v{chosen.scorer.version}")
        seen += found
        assert describe(name)
    assert len(seen) == len(set(seen))


def test_a_metric_is_chosen_alone_and_never_twice() -> None:
    (chosen,) = get(["rougeL"])
    assert (chosen.scorer.name, [m.name for m in chosen.metrics]) == ("rouge", ["rougeL"])
    assert list(chosen.score(sample("a", "a")).scores) == ["rougeL"]
    both = get(["rougeL", "rouge"])
    assert [[m.name for m in each.metrics] for each in both] == [
        ["rougeL"],
        ["rouge1", "rouge2", "rougeLsum"],
    ]


def test_the_text_that_is_scored_is_in_the_signature() -> None:
    fenced = sample("Here:\n```html\n<p>x</p>\n```\nBye.", "<p>x</p>")
    for text, equal in (("raw", 0.0), ("extracted", 1.0)):
        chosen = get(["exact_match", "fenced"], text)
        scores = merged(each.score(fenced) for each in chosen).scores
        # What the form of an answer is is told of the raw one always.
        assert (scores["exact_match"], scores["fenced"]) == (equal, 1.0)
        signatures = {m.name: m.signature for each in chosen for m in each.metrics}
        assert f"|text:{text}|" in signatures["exact_match"]
        assert "|text:raw|" in signatures["fenced"]


def test_rouge_signature_is_the_contracts() -> None:
    (metric,) = get(["rougeL"])[0].metrics
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
    assert [s.asked for s in get(["rouge", "answers", "rouge"])] == ["rouge", "answers"]


def test_score_all_keeps_order_and_reports_progress() -> None:
    done: list[int] = []
    rows = score_all(
        [sample("a", "a"), sample("b", "a"), sample("", "a")],
        get(["exact_match", "answers"]),
        done.append,
    )
    assert [row.scores["exact_match"] for row in rows] == [1.0, 0.0, 0.0]
    assert [row.scores["empty"] for row in rows] == [0.0, 0.0, 1.0]
    assert done == [1, 2, 3]


def test_scoring_imports_no_torch_and_the_registry_no_scorer() -> None:
    code = """
import sys
import harness.scorers as s
s.describe("rouge")
assert not [m for m in ("numpy", "bs4", "html5lib", "rapidfuzz", "harness.scorers.text.rouge")
            if m in sys.modules]
from harness.records import Sample
s.score_all([Sample("a", "", "<p>x", "<p>y")], s.get(s.names()))
assert "torch" not in sys.modules
assert "rouge_score" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=TASKS.parent)
