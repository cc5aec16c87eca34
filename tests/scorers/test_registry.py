"""The registry of scorers, and exact match."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.records import EXTRACTED, FinishReason, Sample, Signature
from harness.scorers import LIKELIHOOD, entries, get, merged, metric_names, names, score_all
from harness.scorers.likelihood import LIKELIHOOD_METRICS

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
            assert (metric.signature.name, metric.signature.text) == (metric.name, "raw")
            assert metric.signature.version == chosen.scorer.version
            assert Signature.parse(str(metric.signature)) == metric.signature
        seen += found
    assert len(seen) == len(set(seen))


def test_every_metric_is_listed_with_a_line_about_it() -> None:
    listed = {entry.name: entry for entry in entries()}
    assert list(listed) == [*names(), "likelihood", "evaluate:NAME"]
    assert all(entry.summary for entry in listed.values())
    assert listed["rouge"].metrics == metric_names("rouge")
    assert listed["likelihood"].metrics == LIKELIHOOD


def test_the_likelihood_s_metrics_are_known_and_asked_of_no_answer() -> None:
    assert tuple(each.metric.name for each in LIKELIHOOD_METRICS) == LIKELIHOOD
    perplexity = LIKELIHOOD_METRICS[1].metric.signature
    assert str(perplexity) == "perplexity|of:reference|unit:1/p|mean:corpus|v1"
    assert Signature.parse(str(perplexity)) == perplexity
    for name in ("likelihood", *LIKELIHOOD):
        with pytest.raises(UsageError, match=f"^{name} is of a model's log-likelihoods"):
            get([name])


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
        written = EXTRACTED if text == "extracted" else text
        assert f"|text:{written}|" in str(signatures["exact_match"])
        assert signatures["fenced"].text == "raw"


def test_rouge_signature_is_the_contracts() -> None:
    (metric,) = get(["rougeL"])[0].metrics
    assert str(metric.signature) == "rougeL|tok:rouge-score|stem:no|text:raw|v1"


@pytest.mark.parametrize(("name", "hint"), [("rogue", "'rouge'"), ("qqq", "exact_match")])
def test_an_unknown_scorer_is_one_sentence_with_the_near_name(name: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        get([name])
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
heavy = ("numpy", "bs4", "html5lib", "rapidfuzz", "importlib.metadata")
assert not [m for m in sys.modules if m in heavy or m.startswith("harness.scorers.text")]
s.get(["rougeL"])
found = {m for m in sys.modules if m.startswith(("harness.scorers.text.", "harness.scorers.html."))}
assert found == {"harness.scorers.text.rouge", "harness.scorers.text.union_lcs"}, found
s.entries()
from harness.records import Sample
s.score_all([Sample("a", "", "<p>x", "<p>y")], s.get(s.names()))
assert "torch" not in sys.modules
assert "rouge_score" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=TASKS.parent)
