"""A backend of another package: found by its entry point, run whole, its version in the keys."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import ROOT, make_registry

ECHO = """
from harness.records import Generation


class Echo:
    capabilities = frozenset()

    def __init__(self, context):
        self.answer = context.run.model.source.options["answer"]

    def generate(self, system, examples, decoding, done, tick):
        for example in examples:
            if example.id not in done:
                text = example.target if system.adapter else self.answer
                tick(decoding.max_new_tokens)
                yield Generation(example.id, text, "stop", len(example.prompt), len(text))

    def log_likelihoods(self, system, examples, done):
        raise NotImplementedError

    def written(self, text):
        return text
"""
MODEL = """
name = "echo"
parameters = 0
[source]
kind = "plugin"
backend = "echo"
options = { answer = "<p>echo</p>" }
"""


class Site:
    """A folder as pip would fill it, and a registry with a model that names its backend."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry = make_registry(root / "registry")
        (self.registry / "models").mkdir(exist_ok=True)
        (self.registry / "models" / "echo.toml").write_text(MODEL)

    def install(
        self, code: str = ECHO, version: str = "1.0", point: str = "acme_echo:Echo"
    ) -> None:
        site = self.root / "site"
        info = site / "acme_echo.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (site / "acme_echo.py").write_text(code)
        about = f"Metadata-Version: 2.1\nName: acme-echo\nVersion: {version}\n"
        (info / "METADATA").write_text(about)
        (info / "entry_points.txt").write_text(f"[harness.backends]\necho = {point}\n")

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        words = ["run", "--models", "echo", "--tasks", "words", "--recipe", "tiny"]
        path = os.pathsep.join([str(self.root / "site"), str(ROOT)])
        return subprocess.run(
            [sys.executable, "-m", "harness", *words, "--registry", str(self.registry), *more],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_backend_of_another_package_answers_a_whole_run(site: Site) -> None:
    site.install()
    done = site.run()
    assert done.returncode == 0, done.stderr
    (folder,) = (site.root / "runs" / "echo" / "words").iterdir()
    rows = [json.loads(line) for line in (folder / "generations/base.jsonl").open()]
    assert {row["text"] for row in rows} == {"<p>echo</p>"}
    with (site.root / "results/comparison.csv").open(newline="") as file:
        table = {row["metric"]: row for row in csv.DictReader(file)}
    assert float(table["exact_match"]["tuned"]) == 1.0
    assert (table["cross_entropy"]["n"], table["cross_entropy"]["base"]) == ("0", "")
    told = (site.root / "results/comparison.md").read_text()
    assert "gives no log-likelihoods, so the losses are unscored" in told
    with (site.root / "results/systems.csv").open(newline="") as file:
        systems = [row for row in csv.DictReader(file) if row["metric"] == "exact_match"]
    assert [row["system"] for row in systems] == ["base", "tuned", "reference", "nearest"]
    by_name = {row["system"]: row for row in systems}
    assert float(by_name["reference"]["mean"]) == 1.0
    assert by_name["base"]["to_base"] == ""
    assert float(by_name["base"]["to_tuned"]) == -1.0

    assert "cached   everything" in site.run("--dry-run").stdout
    site.install(version="1.1")
    plan = site.run("--dry-run").stdout
    assert "cached   nothing" in plan
    assert "taken    prepare: from an earlier run" in plan


def test_a_backend_that_cannot_be_used_is_one_sentence(site: Site) -> None:
    for fault, install in {
        "no installed package has the backend 'echo'": lambda: None,
        "cannot be made (AttributeError": lambda: site.install(point="acme_echo:Nothing"),
        "cannot be made (KeyError": lambda: site.install(
            ECHO.replace('options["answer"]', 'options["other"]')
        ),
    }.items():
        install()
        done = site.run()
        assert done.returncode in (1, 2)
        assert fault in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
