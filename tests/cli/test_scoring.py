"""score, compare and check on the command line: what they write, and what they refuse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.records import EXTRACTED
from harness.reports import parse_comparison_csv
from tests.support.commands import (
    ROOT,
    Commands,
    Fault,
    files_under,
    make_registry,
    refused,
    run_of,
    write_script,
)

FEW = ("--scorers", "exact_match", "rouge1", "assertions", "truncated")
ROWS: list[dict[str, Any]] = [
    {"id": "one", "prediction": "<p>sun</p>", "reference": "<p>sun</p>"},
    {
        "id": 2,
        "prediction": "<p>\ud800 sea</p>",
        "reference": "<p>sea</p>",
        "finish_reason": "stop",
    },
    {"id": "three", "prediction": "", "reference": "<p>oak</p>", "prompt": "say oak"},
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    return write(tmp_path / "answers.jsonl", ROWS)


@pytest.fixture(scope="module")
def two_seeds(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a scripted model was run with two seeds."""
    place = tmp_path_factory.mktemp("two")
    registry = make_registry(place / "registry")
    words = run_of(registry, {"scripted": write_script(place / "says.jsonl")})
    assert commands.run(place, *words, "--seeds", 0, 1).status == 0
    return place


@pytest.fixture
def runs(two_seeds: Path, tmp_path: Path) -> list[Path]:
    """The folders of two scripted runs, by seed, in a copy of that folder."""
    shutil.copytree(two_seeds, tmp_path, dirs_exist_ok=True, symlinks=True)
    return sorted(path.relative_to(tmp_path) for path in (tmp_path / "runs").glob("*/*/tiny-*"))


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# --- score -----------------------------------------------------------------------------------


def test_score_writes_a_line_a_sample_and_a_summary(
    answers: Path, commands: Commands, tmp_path: Path
) -> None:
    outcome = commands.run(tmp_path, "score", "--predictions", answers, *FEW)
    assert outcome.status == 0, outcome.output
    assert not {"torch", "transformers", "datasets"} & outcome.imported
    folder = tmp_path / "results" / "scores" / "answers"
    rows = jsonl(folder / "scores.jsonl")
    assert [row["id"] for row in rows] == ["one", "2", "three"]
    assert [row["scores"]["exact_match"] for row in rows] == [1, 0, 0]
    assert [row["scores"]["rouge1"] for row in rows] == [1, 1, 0]
    assert rows[0]["scores"]["truncated"] is None
    assert rows[1]["scores"]["truncated"] == 0
    assert set(rows[0]["notes"]) == {"assertions_passed", "assertions_all", "truncated"}
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    one = summary["metrics"]["exact_match"]
    assert one["mean"] == pytest.approx(1 / 3)
    assert one["standard_error"] == pytest.approx(1 / 3)  # sd of 1, 0, 0 is 1/sqrt(3)
    assert (one["n"], one["unscored"], one["direction"]) == (3, 0, "higher")
    assert one["ci_low"] <= one["mean"] <= one["ci_high"]
    assert one["signature"].startswith("exact_match|")
    told = summary["metrics"]["truncated"]
    assert (told["n"], told["unscored"], told["mean"]) == (1, 2, 0.0)
    assert list(told["notes"].values()) == [2]
    assert summary["metrics"]["assertions_all"]["mean"] is None
    assert summary["predictions"]["rows"] == 3
    assert summary["predictions"]["name"] == "answers.jsonl"
    assert (summary["text"], summary["resamples"], summary["seed"]) == ("raw", 10_000, 0)
    lines = outcome.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.split()[:3] == ["exact_match", "↑", "0.333"] for line in lines)
    assert "unscored: 3 × the sample has no assertions (assertions_passed, assertions_all)" in lines
    assert lines[-1] == "scores: results/scores/answers/scores.jsonl"


def test_scores_are_the_same_again_and_take_the_place_of_older_ones(
    answers: Path, commands: Commands, tmp_path: Path
) -> None:
    words = ["score", "--predictions", "answers.jsonl", *FEW, "--out", "mine"]
    assert commands.run(tmp_path, *words).status == 0
    before = {path.name: path.read_bytes() for path in files_under(tmp_path / "mine")}
    assert set(before) == {"scores.jsonl", "summary.json"}
    (tmp_path / "mine" / "scores.jsonl").write_text("older")
    assert commands.run(tmp_path, *words).status == 0
    assert {path.name: path.read_bytes() for path in files_under(tmp_path / "mine")} == before
    assert not (tmp_path / "results").exists()


def test_every_scorer_of_ours_by_default(answers: Path, commands: Commands, tmp_path: Path) -> None:
    from harness.scorers import metric_names, names

    outcome = commands.run(tmp_path, "score", "--predictions", answers)
    assert outcome.status == 0, outcome.output
    assert not {"torch", "transformers", "datasets"} & outcome.imported
    folder = tmp_path / "results" / "scores" / "answers"
    metrics = [metric for name in names() for metric in metric_names(name)]
    assert list(json.loads((folder / "summary.json").read_text("utf-8"))["metrics"]) == metrics
    for row in jsonl(folder / "scores.jsonl"):
        assert list(row["scores"]) == metrics
        assert set(row["notes"]) == {name for name, v in row["scores"].items() if v is None}


def test_the_extracted_text_is_kept_and_scored_where_asked(
    commands: Commands, tmp_path: Path
) -> None:
    fenced = "Here it is:\n```html\n<p>sun</p>\n```\n"
    write(tmp_path / "a.jsonl", [{"prediction": fenced, "reference": "<p>sun</p>"}])
    for text, score in (("raw", 0), ("extracted", 1)):
        words = ["score", "--predictions", "a.jsonl", "--scorers", "exact_match", "fenced"]
        assert commands.run(tmp_path, *words, "--text", text, "--out", text).status == 0
        row = jsonl(tmp_path / text / "scores.jsonl")[0]
        assert row["id"] == "1"
        assert row["extracted"].strip() == "<p>sun</p>"
        assert row["scores"]["exact_match"] == score
        assert row["scores"]["fenced"] == 1  # always of the raw answer
        summary = json.loads((tmp_path / text / "summary.json").read_text("utf-8"))
        written = EXTRACTED if text == "extracted" else text
        assert f"|text:{written}|" in summary["metrics"]["exact_match"]["signature"]


def test_groups_are_drawn_together_unless_asked_otherwise(
    commands: Commands, tmp_path: Path
) -> None:
    rows = [
        {"prediction": "a" if i < 6 else "b", "reference": "a", "group": i // 3} for i in range(12)
    ]
    write(tmp_path / "a.jsonl", rows)
    errors = []
    for option, said in (((), "clusters: 4 of 12 samples"), (("--no-clusters",), "as asked")):
        words = ["score", "--predictions", "a.jsonl", "--scorers", "exact_match", *option]
        outcome = commands.run(tmp_path, *words)
        assert said in outcome.stdout
        text = (tmp_path / "results/scores/a/summary.json").read_text("utf-8")
        errors.append(json.loads(text)["metrics"]["exact_match"]["standard_error"])
    # Means of four clusters 1, 1, 0, 0: sd 1/sqrt(3), over sqrt(4); of twelve samples, sqrt(3/11).
    assert errors == [pytest.approx(0.5 / 3**0.5), pytest.approx((3 / 11 / 12) ** 0.5)]


def test_the_order_of_samples_does_not_matter(commands: Commands, tmp_path: Path) -> None:
    rows = [
        {
            "id": i,
            "prediction": "<p>" + "sun sea oak " * (i % 4) + "</p>",
            "reference": "<p>sun oak</p>",
            "group": i % 5,
            **({"assertions": [{"selector": "p", "text": "sun sea oak"}]} if i % 3 else {}),
        }
        for i in range(20)
    ]
    bare = [{"id": f"x{i}", "prediction": "", "reference": ""} for i in range(3)]
    found = []
    for name, given in (("a", rows), ("b", rows[::-1]), ("c", [*bare, *rows])):
        write(tmp_path / f"{name}.jsonl", given)
        words = ["score", "--predictions", f"{name}.jsonl", "--scorers", "rouge1", "assertions"]
        assert commands.run(tmp_path, *words).status == 0
        text = (tmp_path / "results" / "scores" / name / "summary.json").read_text("utf-8")
        found.append(json.loads(text)["metrics"])
    assert found[0] == found[1]
    # What has no assertions changes only how many are unscored.
    for one, more in ((found[0][m], found[2][m]) for m in ("assertions_passed", "assertions_all")):
        assert more["unscored"] == one["unscored"] + 3
        for counted in (one, more):
            counted.pop("unscored")
            counted.pop("notes")
        assert one == more


def test_a_run_is_scored_again(runs: list[Path], commands: Commands, tmp_path: Path) -> None:
    outcome = commands.run(tmp_path, "score", runs[0])
    assert outcome.status == 0, outcome.output
    assert "torch" not in outcome.imported
    assert max(map(len, outcome.stdout.splitlines())) <= 100
    place = tmp_path / "results" / "scores" / runs[0].name
    for system in ("base", "tuned", "reference", "nearest"):
        stored = jsonl(tmp_path / runs[0] / "scores" / f"{system}.jsonl")
        assert jsonl(place / system / "scores.jsonl") == stored
        summary = json.loads((place / system / "summary.json").read_text("utf-8"))
        assert summary["predictions"]["system"] == system
        mean = sum(row["scores"]["rouge1"] for row in stored) / len(stored)
        assert summary["metrics"]["rouge1"]["mean"] == pytest.approx(mean)


def test_a_run_that_is_not_done_is_named(
    runs: list[Path], commands: Commands, tmp_path: Path
) -> None:
    (tmp_path / runs[0] / "generations" / "tuned.jsonl").write_text("{}")
    for argv in (["score", runs[0]], ["compare", runs[0], runs[1]]):
        outcome = commands.run(tmp_path, *argv)
        texts = ("generate-tuned", "--models scripted --tasks words --recipe tiny --seeds 0")
        refused(outcome, *texts)
    assert not (tmp_path / "results" / "scores").exists()
    # The other system is whole.
    assert commands.run(tmp_path, "compare", f"{runs[0]}:base", runs[1]).status == 0


# --- compare ---------------------------------------------------------------------------------


def table(folder: Path) -> dict[str, Any]:
    text = (folder / "comparison.csv").read_bytes().decode()
    return {row.metric: row for row in parse_comparison_csv(text)}


def test_compare_two_files_by_id(answers: Path, commands: Commands, tmp_path: Path) -> None:
    better = [{**row, "prediction": row["reference"]} for row in reversed(ROWS)]
    write(tmp_path / "better.jsonl", better)
    outcome = commands.run(tmp_path, "compare", "answers.jsonl", "better.jsonl", *FEW)
    assert outcome.status == 0, outcome.output
    assert not {"torch", "transformers", "datasets"} & outcome.imported
    folder = tmp_path / "results" / "compare" / "answers-better"
    row = table(folder)["exact_match"]
    assert (row.base, row.tuned, row.n) == (pytest.approx(1 / 3), 1.0, 3)
    assert (row.wins, row.ties, row.losses) == (2, 1, 0)
    assert (row.reference, row.nearest) == (1.0, None)
    assert row.p_value == 0.5  # McNemar, 2 to 0: 2 * (1/2)**2
    assert row.model == "answers → better"
    assert table(folder)["truncated"].n == 1
    text = (folder / "comparison.md").read_text("utf-8")
    for said in ("Base is A, answers.jsonl; tuned is B, better.jsonl.", "by id", "seed 0"):
        assert said in text
    assert "joined: 3 samples, by id" in outcome.stdout
    assert "6 × the sample has no assertions" in outcome.stdout
    assert max(map(len, outcome.stdout.splitlines())) <= 100
    assert (
        outcome.stdout.splitlines()[-1] == f"table: {folder.relative_to(tmp_path)}/comparison.csv"
    )
    back = commands.run(tmp_path, "compare", "better.jsonl", "answers.jsonl", *FEW, "--out", "back")
    assert back.status == 0
    mirrored = table(tmp_path / "back")["exact_match"]
    assert (mirrored.delta, mirrored.p_value) == (-row.delta, row.p_value)


def test_compare_by_order_where_ids_are_missing(
    answers: Path, commands: Commands, tmp_path: Path
) -> None:
    bare = [{k: v for k, v in row.items() if k != "id"} for row in ROWS]
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other" / "answers.jsonl", bare)
    outcome = commands.run(tmp_path, "compare", answers, other, *FEW)
    assert outcome.status == 0, outcome.output
    assert "joined: 3 samples, by order, for other/answers.jsonl gives no ids" in outcome.stdout
    rows = table(next((tmp_path / "results" / "compare").iterdir())).values()
    assert all(row.wins == row.losses == 0 for row in rows)
    write(other, bare[:2])
    refused(commands.run(tmp_path, "compare", answers, other), "3 samples", "2: give as many")


def test_samples_that_do_not_pair_are_named(
    answers: Path, commands: Commands, tmp_path: Path
) -> None:
    for rows, texts in (
        (ROWS[:1], ["2 ids, the first '2', are of answers.jsonl not in b.jsonl"]),
        (
            [*ROWS[:2], {**ROWS[2], "id": "3"}],
            ["the id 'three' is", "and the id '3' is of b.jsonl"],
        ),
        ([*ROWS[:2], {**ROWS[2], "reference": "x"}], ["references of sample 'three' differ"]),
    ):
        write(tmp_path / "b.jsonl", rows)
        refused(commands.run(tmp_path, "compare", answers, "b.jsonl"), *texts)
    ask, other = ([{"selector": name}] for name in ("p", "b"))
    write(answers, [{**ROWS[0], "assertions": ask}])
    write(tmp_path / "b.jsonl", [{**ROWS[0], "assertions": other}])
    refused(commands.run(tmp_path, "compare", answers, "b.jsonl"), "assertions of sample 'one'")
    # What only one of them gives is asked of both.
    write(tmp_path / "b.jsonl", ROWS[:1])
    assert commands.run(tmp_path, "compare", answers, "b.jsonl", *FEW).status == 0
    assert table(tmp_path / "results/compare/answers-b")["assertions_all"].n == 1


def test_a_runs_own_arms_give_the_runs_own_table(
    runs: list[Path], commands: Commands, tmp_path: Path
) -> None:
    outcome = commands.run(tmp_path, "compare", f"{runs[0]}:base", runs[0], "--out", "again")
    assert outcome.status == 0, outcome.output
    assert "torch" not in outcome.imported
    text = (tmp_path / "results" / "comparison.csv").read_bytes().decode()
    own = [row.to_json() for row in parse_comparison_csv(text) if row.seed == 0]
    again = [row.to_json() for row in table(tmp_path / "again").values()]
    assert [{**row, "run": ""} for row in again] == [{**row, "run": ""} for row in own]
    assert "cross_entropy" in {row["metric"] for row in again}


def test_two_runs_and_a_run_against_a_file(
    runs: list[Path], commands: Commands, tmp_path: Path
) -> None:
    assert commands.run(tmp_path, "compare", runs[0], runs[1], "--out", "two").status == 0
    row = table(tmp_path / "two")["exact_match"]
    assert (row.model, row.task, row.recipe, row.seed) == ("scripted", "words", "tiny", 1)
    assert (row.base, row.tuned, row.nearest) == (1.0, 1.0, 1.0)
    asked = jsonl(tmp_path / runs[0] / "data" / "test.jsonl")
    rows = [{"id": e["id"], "prediction": "", "reference": e["target"]} for e in asked]
    write(tmp_path / "empty.jsonl", rows)
    words = ["compare", f"{runs[0]}:reference", "empty.jsonl", "--out", "mixed"]
    assert commands.run(tmp_path, *words).status == 0
    found = table(tmp_path / "mixed")
    row = found["exact_match"]
    assert (row.model, row.task, row.base, row.tuned) == ("scripted → empty", "words", 1.0, 0.0)
    assert row.nearest is None
    assert "cross_entropy" not in found
    refused(commands.run(tmp_path, "compare", f"{runs[0]}:best", runs[1]), "'best'", "base, tuned")


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["score"], "not neither"),
        (["score", "runs/x", "--predictions", "answers.jsonl"], "not both"),
        (["score", "--prediction", "answers.jsonl"], "--prediction"),
        (["score", "--predictions", ""], "empty path"),
        (
            ["score", "--predictions", "answers.jsonl", "--scorers", "rogue"],
            "did you mean 'rouge'?",
        ),
        (["score", "--predictions", "answers.jsonl", "--text", "both"], "'both'"),
        (["score", "nowhere"], "'nowhere' does not exist"),
        (["score", "answers.jsonl"], "--predictions"),
        (["score", "empty"], "no manifest.json"),
        (["score", "damaged"], "its manifest.json is damaged"),
        (["score", "--predictions", "nowhere.jsonl"], "'nowhere.jsonl' does not exist"),
        (["score", "--predictions", "empty"], "is a folder"),
        (["score", "--predictions", "pipe"], "a named pipe"),
        (["score", "--predictions", "answers.jsonl", "--out", "answers.jsonl"], "not a folder"),
        (["score", "--predictions", "answers.jsonl", "--out", "pipe"], "not a folder"),
        (["score", "--predictions", "answers.jsonl", "--out", "answers.jsonl/x"], "not a folder"),
        (["score", "--predictions", "answers.jsonl", "--out", "blocked"], "in the way"),
        (["score", "--predictions", "mine/scores.jsonl", "--out", "mine"], "overwritten"),
        (["score", "--predictions", "answers.jsonl", "--out", ""], "empty path"),
        (["compare", "answers.jsonl"], "B"),
        (["compare", "answers.jsonl", "nowhere"], "'nowhere' does not exist"),
        (["compare", "empty", "answers.jsonl"], "no manifest.json"),
        (["compare", "answers.jsonl:base", "answers.jsonl"], "does not exist"),
        (["compare", "answers.jsonl", "answers.jsonl", "--out", "pipe"], "not a folder"),
        (["check", "--results", "x.csv"], "go together"),
    ],
)
def test_a_wrong_command_is_one_sentence_and_leaves_nothing(
    argv: list[str], text: str, answers: Path, commands: Commands, tmp_path: Path
) -> None:
    for name in ("empty", "damaged", "mine", "blocked/summary.json"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "damaged" / "manifest.json").write_text('{"schema": 1}')
    write(tmp_path / "mine" / "scores.jsonl", ROWS)
    os.mkfifo(tmp_path / "pipe")
    before = {path: path.read_bytes() for path in files_under(tmp_path)}
    refused(commands.run(tmp_path, *argv), text)
    assert {path: path.read_bytes() for path in files_under(tmp_path)} == before
    assert not (tmp_path / "results").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(answers: Path, commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    words = ["score", "--predictions", "answers.jsonl", "--out", "locked/x"]
    refused(commands.run(tmp_path, *words), "cannot be written to")


# --- stopped on the way ----------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["score", "compare"])
def test_a_signal_while_scoring_leaves_nothing(
    verb: str, answers: Path, commands: Commands, tmp_path: Path
) -> None:
    fault = Fault("call", f"harness.pipeline.{verb}:score_systems", action="TERM")
    files = ["--predictions", "answers.jsonl"] if verb == "score" else ["answers.jsonl"] * 2
    outcome = commands.run(tmp_path, verb, *files, *FEW, fault=fault)
    assert outcome.status == 75
    assert outcome.stderr.splitlines()[-1].startswith(f"python -m harness {verb} ")
    assert not (tmp_path / "results").exists()


def test_a_signal_while_writing_leaves_both_files_whole(
    answers: Path, commands: Commands, tmp_path: Path
) -> None:
    words = ["score", "--predictions", "answers.jsonl", *FEW, "--out", "mine"]
    outcome = commands.run(tmp_path, *words, fault=Fault("replace", "scores.jsonl", action="TERM"))
    assert outcome.status == 75
    assert json.loads((tmp_path / "mine" / "summary.json").read_text("utf-8"))["metrics"]
    assert len(jsonl(tmp_path / "mine" / "scores.jsonl")) == 3


def test_a_full_disk_leaves_what_was_there(
    answers: Path, commands: Commands, tmp_path: Path
) -> None:
    words = ["score", "--predictions", "answers.jsonl", *FEW, "--out", "mine"]
    assert commands.run(tmp_path, *words).status == 0
    before = {path: path.read_bytes() for path in files_under(tmp_path)}
    for count in (1, 2):
        fault = Fault("call", "harness.pipeline.outputs:sync_file", count=count, action="ENOSPC")
        outcome = commands.run(tmp_path, *words, "--scorers", "rouge", fault=fault)
        assert outcome.status == 1
        assert outcome.stderr.startswith("harness: cannot write ")
        assert len(outcome.stderr.splitlines()) == 1
        assert {path: path.read_bytes() for path in files_under(tmp_path)} == before


# --- check -----------------------------------------------------------------------------------


def test_check_is_handed_what_was_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli.main import run_cli

    asked: list[Any] = []

    def check(*, update: bool, results: Path | None, baseline: Path | None, say: Any) -> int:
        asked.append((update, results, baseline))
        say("moved: rouge1")
        return 1

    monkeypatch.setitem(sys.modules, "harness.regression.check", SimpleNamespace(check=check))
    assert run_cli(["check"]) == 1
    assert run_cli(["check", "--update", "--results", "a.csv", "--baseline", "b.csv"]) == 1
    assert asked == [(False, None, None), (True, Path("a.csv"), Path("b.csv"))]
    assert capsys.readouterr().out == "moved: rouge1\n" * 2


# --- light, and listed -----------------------------------------------------------------------


def test_no_model_library_is_imported(answers: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from harness.cli.main import run_cli
few = {FEW!r}
assert run_cli(["score", "--predictions", "answers.jsonl", *few]) == 0
assert run_cli(["compare", "answers.jsonl", "answers.jsonl", *few]) == 0
heavy = {{"torch", "transformers", "datasets", "peft", "scipy"}} & set(sys.modules)
assert not heavy, heavy
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr


def test_help_names_the_verbs(commands: Commands, tmp_path: Path) -> None:
    outcome = commands.run(tmp_path, "--help")
    for verb in ("score", "compare", "check"):
        assert verb in outcome.stdout
        said = commands.run(tmp_path, verb, "--help")
        assert said.status == 0
        assert said.stdout.startswith(f"usage: harness {verb}")
        assert max(map(len, said.stdout.splitlines())) <= 100


def test_list_scorers_names_metrics(commands: Commands, tmp_path: Path) -> None:
    from harness.scorers import LIKELIHOOD, metric_names, names

    text = commands.run(tmp_path, "list", "scorers").stdout
    assert f"metrics: {', '.join(LIKELIHOOD)}" in " ".join(text.split())
    for name in names():
        assert any(line.startswith(f"{name} ") for line in text.splitlines())
        for metric in metric_names(name):
            assert metric in text
    assert "evaluate:" in text
