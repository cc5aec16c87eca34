"""The README and docs/: links lead somewhere, commands parse, examples work, names are today's."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from harness.cli.main import VERBS, _parser
from harness.config.registry import Registry
from harness.reports.comparison import COLUMNS, FURTHER
from harness.reports.systems import SystemRow
from harness.scorers import LIKELIHOOD, names, registry
from harness.scorers.likelihood import LIKELIHOOD_METRICS
from harness.stages import stage_names
from tests.support.commands import ROOT, make_registry, write_script

PAGES = {
    str(file.relative_to(ROOT)): file.read_text("utf-8")
    for file in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))
}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    return [text for kind, text in FENCED.findall(PAGES[page]) if kind == language]


def inline(page: str) -> list[str]:
    """What stands in backticks, on one line each."""
    prose = FENCED.sub("", PAGES[page])
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


def commands() -> Iterator[tuple[str, str]]:
    """Each command of ours with its page; a synopsis stands in a block of text, and is none."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            yield from ((page, line) for line in block.splitlines() if line)
        for code in inline(page):
            if code.startswith(("python -m harness ", "harness ", "make ")):
                yield page, code


def anchors(page: str) -> set[str]:
    """The names that GitHub gives to the headings."""
    found = re.findall(r"^#+ (.*)$", FENCED.sub("", PAGES[page]), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


# --- links and names -------------------------------------------------------------------------


def test_every_relative_link_leads_somewhere() -> None:
    for page, text in PAGES.items():
        for link in re.findall(r"\]\(([^)]+)\)", FENCED.sub("", text)):
            if link.startswith("https://"):
                continue
            target, _, anchor = link.partition("#")
            path = (ROOT / page).parent / target if target else ROOT / page
            assert path.exists(), f"{page}: {link}"
            if anchor:
                name = str(path.resolve().relative_to(ROOT))
                assert anchor in anchors(name), f"{page}: {link}"


def test_every_file_of_ours_that_is_named_is_there() -> None:
    """The pages name those of harness/ with and without that folder."""
    for page in PAGES:
        for code in inline(page):
            ours = re.fullmatch(r"[\w/.]*/[\w/.]*", code) and not code.startswith(("~", "runs/"))
            if ours and code.split("/")[0] in {"docs", "harness", "tasks", "tests", "baselines"}:
                known = code in ("harness/decoder/NAME.py",)
                assert known or (ROOT / code).exists(), f"{page}: {code}"
            elif ours and code.endswith(".py"):
                assert (ROOT / "harness" / code).exists(), f"{page}: {code}"


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].split()) <= 900


# --- commands --------------------------------------------------------------------------------


def test_every_command_parses() -> None:
    parser, parsed = _parser(), 0
    verbs = [verb.__name__.rpartition(".")[2] for verb in VERBS]
    for page, line in commands():
        words = shlex.split(line, comments=True)
        if words[:3] == ["python", "-m", "harness"] or words[:1] == ["harness"]:
            given = words[words.index("harness") + 1 :]
            if given in (["VERB"], *([verb] for verb in verbs)):
                continue  # the verb's name
            try:
                parser.parse_args(given)
            except Exception as error:
                raise AssertionError(f"{page}: {line}: {error}") from error
            parsed += 1
    assert parsed > 30


def test_every_target_of_make_is_there() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page, line in commands():
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            target = next(word for word in words[1:] if "=" not in word)
            assert target in phony.split(), f"{page}: {line}"


# --- examples --------------------------------------------------------------------------------


def entries(folder: Path, pages: tuple[str, ...]) -> Registry:
    """A registry of what the pages show as files of one: blocks that begin with `# DIR/…`."""
    for page in pages:
        for language in ("toml", "python"):
            for block in blocks(page, language):
                if named := re.match(r"# DIR/(\S+)\n", block):
                    (folder / named[1]).parent.mkdir(parents=True, exist_ok=True)
                    (folder / named[1]).write_text(block)
    return Registry(folder)


def package(site: Path, group: str) -> None:
    """docs/adding.md's package acme, as pip would fill it, with its entry point of the group."""
    (site / "acme").mkdir(parents=True)
    (site / "acme" / "__init__.py").touch()
    for block in blocks("docs/adding.md", "python"):
        if named := re.match(r"# acme/(\w+\.py)\n", block):
            (site / "acme" / named[1]).write_text(block)
    heading = f'[project.entry-points."{group}"]\n'
    (point,) = (b for b in blocks("docs/adding.md", "toml") if heading in b)
    line = point.partition(heading)[2].replace('"', "")
    info = site / "acme.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{line}")


def harness(folder: Path, *words: object) -> str:
    """What a command prints, with the package of `package` installed."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder / 'site'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("pages", [("README.md",), ("docs/adding.md",)])
def test_the_entries_that_are_shown_load(pages: tuple[str, ...], tmp_path: Path) -> None:
    shown = entries(tmp_path, pages)
    found = {
        kind: [path.parent.name if kind == "tasks" else path.stem for path in paths]
        for kind, paths in {
            "models": sorted(tmp_path.glob("models/*.toml")),
            "recipes": sorted(tmp_path.glob("recipes/*.toml")),
            "tasks": sorted(tmp_path.glob("tasks/*/task.toml")),
        }.items()
    }
    assert found["models"]
    assert found["tasks"]
    for name in found["models"]:
        model = shown.model(name)
        assert shown.recipe(model.recipe or "")
        assert shown.task(model.task or "")
    for name in found["recipes"]:
        assert shown.recipe(name)
    for name in found["tasks"]:
        assert shown.task(name)


def test_the_generator_that_is_shown_runs(tmp_path: Path) -> None:
    entries(tmp_path / "own", ("docs/adding.md",))
    script = write_script(tmp_path / "says.jsonl")
    harness(
        tmp_path,
        *("run", "--models", "scripted", "--weights", f"scripted={script}"),
        *("--tasks", "words", "--registry", tmp_path / "own"),
    )
    table = (tmp_path / "results" / "comparison.csv").read_text()
    assert "scripted,words,small,0,assertions_all,higher,40,0.0,1.0" in table


def test_the_scorer_that_is_shown_is_found(tmp_path: Path) -> None:
    package(tmp_path / "site", "harness.scorers")
    assert "share of the reference's headings" in harness(tmp_path, "list", "scorers")
    (tmp_path / "a.jsonl").write_text('{"prediction": "<h1>", "reference": "<h1><h2>"}\n')
    told = harness(tmp_path, "score", "--predictions", "a.jsonl", "--scorers", "headings")
    assert "heading_share ↑  0.500" in told


def test_the_backend_that_is_shown_answers(tmp_path: Path) -> None:
    package(tmp_path / "site", "harness.backends")
    entries(tmp_path / "own", ("docs/adding.md",))
    make_registry(tmp_path / "own")  # a task and recipe that are smaller than those shown
    harness(
        tmp_path,
        *("run", "--models", "echo", "--tasks", "words", "--recipe", "tiny"),
        *("--registry", tmp_path / "own"),
    )
    assert "<p>echo</p>" in (tmp_path / "results" / "predictions.csv").read_text()


# --- tables that the code has too --------------------------------------------------------------


def test_every_metric_is_described_with_its_direction() -> None:
    (table,) = re.findall(r"\| metric \|.*?\n\n", PAGES["docs/scoring.md"], re.DOTALL)
    described: dict[str, str] = {}
    for row in table.strip().splitlines()[2:]:
        # An arrow is that of the names before it, since the last arrow.
        for some, arrow in re.findall(r"([^↑↓|]+)([↑↓])", row.split("|")[1]):
            described |= dict.fromkeys(re.findall(r"`(\w+)`", some), arrow)
    measured = [m for name in names() for m in registry._ours(name).metrics]
    measured += [each.metric for each in LIKELIHOOD_METRICS]
    assert described == {m.name: "↑" if m.direction == "higher" else "↓" for m in measured}
    assert set(LIKELIHOOD) <= described.keys()


def test_the_columns_of_the_tables_are_those_that_are_written() -> None:
    text = PAGES["docs/results.md"]
    assert f"`{','.join(COLUMNS)}`" in text
    assert all(f"`{name}`" in text for name in FURTHER)
    head = [f.name for f in fields(SystemRow)]
    start = ",".join(head[: head.index("to_base")])
    assert f"`{start}`" in text
    assert head[head.index("to_base") :] == [
        *(f"to_base{end}" for end in ("", "_ci_low", "_ci_high", "_p_value")),
        *(f"to_tuned{end}" for end in ("", "_ci_low", "_ci_high", "_p_value")),
        *("signature", "run"),
    ]


def test_every_stage_is_in_the_table() -> None:
    (table,) = re.findall(r"\| stage \| makes.*?\n\n", PAGES["docs/architecture.md"], re.DOTALL)
    named = re.findall(r"`([\w-]+)`(?=[^|]*\|[^|]*\|[^|]*\|$)", table, re.MULTILINE)
    assert sorted(named) == sorted(stage_names())
