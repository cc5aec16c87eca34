"""The Nu checker: golden cases where it is there, and where it fails, is late or is absent."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import Interrupted
from harness.host.signals import handling
from harness.records import Sample
from harness.regression.goldens import faults_of, faults_of_set, read_cases
from harness.scorers import get
from harness.scorers.base import Unscored
from harness.scorers.external import nu as nu_module
from harness.scorers.external.nu import Absent, Nu, count_errors, find
from harness.scorers.html.conformance import Conformance

ROOT = Path(__file__).resolve().parents[2]
CASES = read_cases(ROOT / "baselines" / "goldens" / "conformance.toml")
CLEAN = "<!DOCTYPE html><html lang=en><title>t</title><p>x</p>"

# Stands for `java -jar vnu.jar … FILES`: one error for each "!" of a page; it dies on "die",
# sleeps on "sleep", talks nonsense on "mumble", and says of "broken" that it is no document.
FAKE = """#!{python}
import json, pathlib, sys, time
if "--version" in sys.argv:
    print("1.2.3 (abc)")
    sys.exit()
names = [name for name in sys.argv if name.endswith(".html")]
messages = []
with open({log!r}, "a") as log:
    print(len(names), file=log)
for name in names:
    data = pathlib.Path(name).read_bytes()
    text = data.decode("utf-8")
    if "die" in text:
        sys.exit(1)
    if "sleep" in text:
        time.sleep(60)
    if "mumble" in text:
        print("Exception in thread")
        sys.exit()
    url = pathlib.Path(name).absolute().as_uri()
    kinds = ["error"] * text.count("!") + ["info"]
    kinds += ["non-document-error"] * ("broken" in text)
    messages += [dict(type=kind, url=url) for kind in kinds]
print(json.dumps(dict(messages=messages)))
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[int]]]:
    """A checker of our own as the one that is found; calls give the pages of each process."""
    home, log = tmp_path / "java", tmp_path / "log"
    (home / "bin").mkdir(parents=True)
    java = home / "bin" / "java"
    java.write_text(FAKE.format(python=sys.executable, log=str(log)), encoding="utf-8")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    jar = tmp_path / "vnu.jar"
    jar.touch()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setenv("VNU_JAR", str(jar))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    yield lambda: [int(line) for line in log.read_text().split()] if log.exists() else []
    assert list(scratch.iterdir()) == []  # nothing is left behind


def score(*texts: str) -> list[float | str]:
    found = Conformance().score_many([Sample("s", "", "", text) for text in texts])
    values = [row["conformance_errors"] for row in found]
    return [value.reason if isinstance(value, Unscored) else value for value in values]


def test_the_golden_file_is_whole() -> None:
    assert faults_of_set(CASES) == []


def test_golden_cases_and_references_where_the_checker_is() -> None:
    scorer = get(["conformance"])[0]
    assert isinstance(scorer.scorer, Conformance)
    if not isinstance(scorer.scorer.nu, Nu):
        pytest.skip(f"no Nu checker: {scorer.scorer.nu.reason}")
    scorer.score_many([case.sample() for case in CASES])  # one process; then they are known
    assert [fault for case in CASES for fault in faults_of(case, scorer.score)] == []
    odd = ["\0" * 500, "<!--" * 3000, "<div>" * 800, "\ud800<p>\udfff", "\ufeff" + CLEAN, "\x85<?"]
    assert all(isinstance(value, float) for value in score(*odd))


def test_one_process_takes_many_pages_each_text_once(fake: Callable[[], list[int]]) -> None:
    assert score("a!", "b", "a!", "!!!", "b") == [1, 0, 1, 3, 0]
    assert fake() == [3]


def test_chunks(fake: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nu_module, "CHUNK", 4)
    assert score(*(f"{n}" + "!" * n for n in range(10))) == list(range(10))
    assert fake() == [4, 4, 2]


@pytest.mark.parametrize("fault", ["die", "mumble"])
def test_a_page_that_the_checker_fails_on_costs_itself(
    fake: Callable[[], list[int]], fault: str
) -> None:
    assert score("a", "b!", fault, "c!!", "d") == [0, 1, "the Nu checker failed on it", 2, 0]
    assert fake() == [5, 2, 3, 1, 2]


def test_a_page_that_takes_too_long_costs_itself(
    fake: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nu_module, "SECONDS", 1.0)
    monkeypatch.setattr(nu_module, "SECONDS_A_PAGE", 0.0)
    start = time.monotonic()
    late = "the Nu checker was not done with it in time"
    assert score("a!", "sleep") == [1, late]
    assert time.monotonic() - start < 40  # the checker itself would sleep for 60 s


def test_a_message_that_is_not_of_a_document_is_no_number(fake: Callable[[], list[int]]) -> None:
    assert score("broken!", "b!") == ["the Nu checker failed on it", 1]


def test_a_text_is_checked_once_and_remembered(fake: Callable[[], list[int]]) -> None:
    scorer = Conformance()
    sample = Sample("s", "", "", "x!")
    assert [scorer.score(sample) for _ in range(3)] == [{"conformance_errors": 1.0}] * 3
    assert fake() == [1]


def test_pages_that_we_do_not_parse_are_not_handed_on(fake: Callable[[], list[int]]) -> None:
    assert score("<div>" * 20_000) == ["too deep or too tangled to parse in bounded time"]
    assert fake() == []


def test_surrogates_and_nul_are_written(fake: Callable[[], list[int]]) -> None:
    assert score("\ud800!", "\0!!", "\udfff\ud800!") == [1, 2, 1]


def test_the_version_is_in_the_signature(fake: Callable[[], list[int]]) -> None:
    metric = get(["conformance"], "extracted")[0].metrics[0]
    assert str(metric.signature) == "conformance_errors|nu:1.2.3|mode:buffered|text:extracted-2|v1"


def test_an_interruption_ends_the_process(
    fake: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal
    import threading

    nu = find()
    assert isinstance(nu, Nu)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    start = time.monotonic()
    timer.start()
    with pytest.raises(Interrupted), handling():
        count_errors(nu, ["sleep"])
    assert time.monotonic() - start < 40


@pytest.mark.parametrize("lacking", ["jar", "named jar", "java", "wrong java"])
def test_without_the_checker_every_sample_says_why(
    lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = tmp_path / "node_modules" / "vnu-jar" / "build" / "dist" / "vnu.jar"
    jar.parent.mkdir(parents=True)
    if lacking != "jar":
        jar.touch()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    for name in ("VNU_JAR", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nu_module, "_folders", lambda package: [])
    if lacking == "named jar":
        monkeypatch.setenv("VNU_JAR", str(tmp_path / "none.jar"))
    if lacking == "wrong java":
        java = tmp_path / "java"
        java.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
        java.chmod(0o755)
    found = find()
    assert isinstance(found, Absent)
    assert score("a", CLEAN) == [found.reason] * 2
    wanted = {
        "jar": "npm install vnu-jar",
        "named jar": "VNU_JAR names no file",
        "java": "Java not found",
        "wrong java": "Java 17",
    }
    assert wanted[lacking] in found.reason
    assert Conformance().metrics[0].signature.settings[0] == ("nu", "absent")
