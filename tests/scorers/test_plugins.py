"""Scorers of other packages: installed beside ours, found by their entry points."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.host.plugins import plugins
from harness.records import Sample
from harness.scorers import Entry, entries, get, names, registry, score_all
from tests.support.commands import ROOT, make_registry, run_of, write_script

SHOUT = """
from harness.records import Sample
from harness.scorers import Scorer, Value, metric

class Shout(Scorer):
    '''Share of the answer's letters that are capitals, and how many.'''

    name = "shout"
    summary = "how loud the answer is"
    version = 3
    metrics = (
        metric("shout_share", "lower", 3, letters="ascii"),
        metric("shouts", "lower", 3, raw=True),
    )

    def score(self, sample: Sample) -> dict[str, Value]:
        capitals = sum(c.isupper() for c in sample.prediction)
        return {"shout_share": capitals / max(1, len(sample.prediction)), "shouts": capitals}
"""
SAMPLES = [Sample("a", "", "<p>x</p>", "<P>X</P>"), Sample("b", "", "<p>x</p>", "<p>x</p>")]

Install = Callable[..., Path]


def package(folder: Path, code: str = SHOUT, version: str = "1.2", **points: str) -> Path:
    """A folder as pip would fill it: the module acme_scorers, and acme-scorers' metadata."""
    folder.mkdir(exist_ok=True)
    (folder / "acme_scorers.py").write_text(code)
    info = folder / "acme_scorers.dist-info"
    info.mkdir(exist_ok=True)
    about = f"Metadata-Version: 2.1\nName: acme-scorers\nVersion: {version}\n"
    (info / "METADATA").write_text(about)
    lines = [f"{name} = {place}" for name, place in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[harness.scorers]", *lines]) + "\n")
    return folder


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`package`, to be found by this process and the workers that it starts."""

    def installed(name: str = "site", **kwargs: str) -> Path:
        folder = package(tmp_path / name, **kwargs)
        monkeypatch.syspath_prepend(str(folder))
        forget()
        return folder

    def forget() -> None:
        sys.modules.pop("acme_scorers", None)
        plugins.cache_clear()
        registry._plugin.cache_clear()

    yield installed
    monkeypatch.undo()
    forget()


def refusal(*asked: str) -> str:
    with pytest.raises(UsageError) as error:
        get(asked)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith((".", "?"))
    return str(error.value)


def listed(name: str) -> Entry:
    (entry,) = (each for each in entries() if each.name == name)
    return entry


def test_a_scorer_of_another_package_is_as_good_as_ours(install: Install) -> None:
    install(shout="acme_scorers:Shout")
    assert listed("shout") == ("shout", "how loud the answer is", ("shout_share", "shouts"))
    assert "shout" not in names()  # "all of ours" stays what it is
    (whole,) = get(["shout"], "extracted")
    assert [str(metric.signature) for metric in whole.metrics] == [
        "shout_share|letters:ascii|by:acme-scorers-1.2|text:extracted-2|v3",
        "shouts|by:acme-scorers-1.2|text:raw|v3",
    ]
    assert [m.name for one in get(["rouge1", "shouts"]) for m in one.metrics] == [
        "rouge1",
        "shouts",
    ]
    # In worker processes, beside one of ours.
    loud, quiet = score_all(SAMPLES, get(["exact_match", "shout"]))
    assert loud.scores == {
        "exact_match": 0.0, "exact_match_normalized": 0.0, "shout_share": 3 / 8, "shouts": 3.0
    }  # fmt: skip
    assert quiet.scores["shouts"] == 0.0
    assert "did you mean 'shout_share'?" in refusal("shout_shares")


def test_another_version_is_another_signature(install: Install) -> None:
    seen = set()
    for version in ("1.2", "1.3"):
        install(version=version, shout="acme_scorers:Shout")
        seen |= {str(metric.signature) for one in get(["shout"]) for metric in one.metrics}
    assert len(seen) == 4


BROKEN = {
    "import": (SHOUT.replace("import Sample", "import Simple"), "shout", "ImportError: "),
    "end": ("raise SystemExit('no licence')", "shout", "(SystemExit: no licence)"),
    "silent": ("raise RuntimeError", "shout", "(RuntimeError: RuntimeError)"),
    "class": (SHOUT.replace("Shout(", "Cry("), "shout", "AttributeError: "),
    "abstract": (SHOUT.replace("def score", "def scores"), "shout", "TypeError: "),
    "kind": ("Shout = dict", "shout", "is no subclass of harness.scorers.Scorer"),
    "name": (SHOUT, "whisper", "calls itself 'shout'"),
    "metrics": (SHOUT.replace("metrics =", "measures ="), "shout", "has no tuple of"),
    "ours": (SHOUT.replace('"shouts"', '"rougeL"'), "shout", "metric 'rougeL', which is ours"),
    "twice": (SHOUT.replace('"shouts"', '"shout_share"'), "shout", "'shout_share', which is twice"),
    "state": (SHOUT + "    def prepare(self):\n        self.f = lambda: 0\n", "shout", "pickle"),
    "prepare": (SHOUT + "    def prepare(self):\n        1 / 0\n", "shout", "ZeroDivisionError"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_one_is_one_sentence_where_it_is_asked_for(fault: str, install: Install) -> None:
    code, name, words = BROKEN[fault]
    install(code=code, **{name: "acme_scorers:Shout"})
    said = refusal(name)
    assert said.startswith(f"the scorer '{name}' of the package acme-scorers 1.2 ")
    assert words in said
    assert said.endswith(": mend it, or uninstall the package.")
    assert listed(name).summary == said
    assert get(["rouge"])  # asked for nothing of it
    assert "there is no scorer 'qqq'" in refusal("qqq")


@pytest.mark.parametrize("name", ["rouge", "rougeL", "evaluate:rouge", "likelihood"])
def test_a_name_of_ours_is_refused(name: str, install: Install) -> None:
    install(**{name: "acme_scorers:Shout"})
    said = (
        f"the scorer '{name}' of the package acme-scorers 1.2 has a name of our own: rename it, "
        "or uninstall the package."
    )
    assert said in [entry.summary for entry in entries()]
    if name.startswith("rouge"):
        assert refusal(name) == said
    assert get(["chrf"])


def test_two_packages_of_one_name_are_refused(install: Install) -> None:
    install(shout="acme_scorers:Shout")
    other = install("other", shout="acme_scorers:Shout")
    (other / "acme_scorers.dist-info").rename(other / "bcme_scorers.dist-info")
    (other / "bcme_scorers.dist-info" / "METADATA").write_text("Name: bcme\nVersion: 2\n")
    plugins.cache_clear()
    assert "has the name of another package's: uninstall one of them." in refusal("shout")


def test_what_no_file_could_hold_is_a_note(install: Install) -> None:
    returns = 'capitals / max(1, len(sample.prediction)), "shouts": capitals'
    code = SHOUT.replace(returns, 'float("nan"), "shouts": 1.0')
    install(code=code, shout="acme_scorers:Shout")
    (row, _) = score_all(SAMPLES, get(["shout"]))
    assert row.scores == {"shout_share": None, "shouts": 1.0}
    assert row.notes == {"shout_share": "the scorer gave no finite number"}
    install("set", code=SHOUT + "    def details(self, sample):\n        return {'a': {1}}\n",
            shout="acme_scorers:Shout")  # fmt: skip
    (row, _) = score_all(SAMPLES, get(["shout"]))
    assert set(row.notes.values()) == {"scorer failed: TypeError"}


def test_on_the_command_line_and_in_a_task(tmp_path: Path) -> None:
    site = package(tmp_path / "site", shout="acme_scorers:Shout", cry="acme_scorers:Cry")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(site)])}

    def harness(*words: object) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "harness", *map(str, words)]
        return subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True)

    text = harness("list", "scorers").stdout
    assert "metrics: shout_share, shouts" in text
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"prediction": "<P>", "reference": "<p>"}\n')
    broken = harness("score", "--predictions", answers, "--scorers", "cry")
    assert broken.returncode == 2
    assert "the scorer 'cry' of the package acme-scorers 1.2 cannot be loaded" in broken.stderr
    assert "Traceback" not in broken.stderr
    done = harness("score", "--predictions", answers, "--scorers", "shouts")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "results/scores/answers/summary.json").read_text())
    assert summary["metrics"]["shouts"]["mean"] == 1.0

    entries = make_registry(tmp_path / "registry", test=2)
    task = next(entries.glob("tasks/*/task.toml"))
    lines = task.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("scorers"))
    lines[at] = 'scorers = ["exact_match", "shout"]'
    task.write_text("\n".join(lines))
    words = run_of(entries, {"scripted": write_script(tmp_path / "says.jsonl")})
    ran = harness(*words)
    assert ran.returncode == 0, ran.stderr
    with (tmp_path / "results/comparison.csv").open(newline="") as file:
        signatures = {row["metric"]: row["signature"] for row in csv.DictReader(file)}
    assert "|by:acme-scorers-1.2|" in signatures["shout_share"]
    assert "score" not in _to_do(harness(*words, "--dry-run").stdout)
    package(site, version="1.3", shout="acme_scorers:Shout")
    assert "score" in _to_do(harness(*words, "--dry-run").stdout)


def _to_do(text: str) -> str:
    return "".join(line for line in text.splitlines() if line.startswith("  to do"))
