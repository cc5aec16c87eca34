"""Lint: golden cases, the Nu checker's messages as a second witness, and hostile input."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.records import Sample
from harness.scorers.base import Unscored
from harness.scorers.external.nu import Nu, find
from harness.scorers.html.lint import MAX_DETAILS, Lint
from harness.scorers.html.names import ELEMENTS, OBSOLETE
from harness.scorers.html.page import Page, parse
from tests.support.limits import cpu_limit

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "baselines" / "goldens" / "lint.toml"
ALPACA = ROOT.parent / "shared" / "data" / "ttbui_html_alpaca" / "data_finetune_html.json"
NAMES = [metric.name for metric in Lint.metrics]


def score(text: str) -> dict[str, float]:
    values = Lint().score(Sample("s", "", "", text))
    return {name: v for name, v in values.items() if not isinstance(v, Unscored)}


def test_the_lists_of_names_do_not_overlap() -> None:
    assert not ELEMENTS & OBSOLETE
    assert len(ELEMENTS) == 115
    assert len(OBSOLETE) == 29


def test_details_name_what_was_found_and_are_cut() -> None:
    sample = Sample("s", "", "", "<html lang=en><title>t</title><p id=a><p id=a><Foo>")
    assert Lint().details(sample) == {
        "lint": [
            {"code": "duplicate-id", "what": "a"},
            {"code": "unknown-element", "what": "foo"},
        ]
    }
    many = Lint().details(Sample("s", "", "", "<center>" * 60))
    assert len(many["lint"]) == MAX_DETAILS
    assert Lint().details(Sample("s", "", "", "<html lang=en><title>t</title>")) == {}
    long = Lint().details(Sample("s", "", "", f"<p id={'a' * 500}><p id={'a' * 500}>"))
    assert max(len(row["what"]) for row in long["lint"]) == 80


PIECES = (
    "<p id=a>", "</p>", "<b id=a>", "</b>", "<foo>", "<center>", "<img>", "<svg>", "</svg>",
    "<figure>", "<figcaption>", "c", "</figure>", "<template>", "</template>", "<title>t</title>",
    "<html lang=en>", "<select>", "<table>", "<area href=x>", "\0", "\ud800", ">",
)  # fmt: skip


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_counts_are_whole_and_no_more_than_what_was_written(text: str) -> None:
    found = score(text)
    assert list(found) == NAMES
    assert all(value >= 0 and value == int(value) for value in found.values())
    assert found["lint_missing_title"] <= 1
    assert found["lint_missing_lang"] <= 1
    assert found["lint_duplicate_ids"] <= text.count("id=a")
    assert found["lint_unknown_elements"] <= text.count("<foo>")
    assert found["lint_obsolete_elements"] <= text.count("<center>")
    assert found["lint_missing_alt"] <= text.count("<img>") + text.count("<area")


@pytest.mark.parametrize(
    "text",
    [
        "<br id=a>" * 12_000,
        "<figure>" + "<figcaption>c</figcaption>" * 4000 + "<img>" * 4000,
        "<figure>" * 300 + "<img>" * 3000,
        "<foo>" * 900,
        "<b id=a>" * 300 + "<p>" * 300,
    ],
)
def test_hostile_pages_are_done_soon(text: str) -> None:
    assert isinstance(parse(text), Page)
    with cpu_limit():
        assert list(score(text)) == NAMES


MESSAGES = {
    "lint_duplicate_ids": re.compile(r'Duplicate ID "'),
    "lint_unknown_elements": re.compile(r'The "([^"]+)" element is a completely-unknown .* HTML'),
    "lint_obsolete_elements": re.compile(r'The "[^"]+" element is obsolete'),
    "lint_missing_alt": re.compile(
        r'An "img" element must have an "alt"|"(?:area|input)" is missing required attribute "alt"'
    ),
    "lint_missing_title": re.compile(
        r'"head" is missing a required instance of child element "title"|"title" must not be empty'
    ),
    "lint_missing_lang": re.compile(r'Consider adding a "lang" attribute to the "html" start tag'),
}


def nus_counts(nu: Nu, pages: list[str], folder: Path) -> list[Counter[str]]:
    for number, page in enumerate(pages):
        (folder / f"{number}.html").write_text(page, encoding="utf-8")
    options = ["--format", "json", "--exit-zero-always", "--stdout", "--no-stream"]
    done = subprocess.run(
        [
            nu.java,
            "-Xss16m",
            "-jar",
            str(nu.jar),
            *options,
            *(f"{n}.html" for n in range(len(pages))),
        ],
        cwd=folder,
        capture_output=True,
        check=True,
    )
    counts: list[Counter[str]] = [Counter() for _ in pages]
    for message in json.loads(done.stdout)["messages"]:
        number = int(Path(message["url"]).stem)
        for name, pattern in MESSAGES.items():
            found = pattern.search(re.sub("[“”]", '"', message["message"]))
            # Nu calls some obsolete elements unknown as well.
            if found and not (found.lastindex and found.group(1) in OBSOLETE):
                counts[number][name] += 1
    return counts


def blocks() -> list[str]:
    """Answers of the embedded task, or so many of them."""
    folder, package = ROOT / "tasks" / "html_blocks", "_html_blocks_for_lint"
    spec = importlib.util.spec_from_file_location(
        package, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[package] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[package])
    generator = importlib.import_module(f"{package}.generator")
    return [row.target for _, row in generator.generate(seed=0, train=0, test=60)]


def damaged(page: str, rng: random.Random) -> str:
    """The page with one to three faults of the kinds that lint counts."""
    for _ in range(rng.randint(1, 3)):
        spots = [m.start() for m in re.finditer(r"<(?:p|li|h[1-6]|div|span)\b", page)] or [
            len(page)
        ]
        at = rng.choice(spots)
        added = rng.choice(
            [
                '<span id="dup">a</span><span id="dup">b</span>',
                "<center>x</center>",
                "<b><font color=red>x</font></b>",
                "<foo>x</foo>",
                "<x-y>x</x-y>",
                '<img src="x">',
                '<img src="x" alt="y">',
                '<img src="x" title="y">',
                '<svg><g id="s"></g><g id="s"></g></svg>',
            ]
        )
        page = page[:at] + added + page[at:]
    without_title = re.sub("<title>.*</title>", "<title></title>", page)
    return rng.choice([page, without_title, re.sub(r' lang="[^"]*"', "", page)])


def test_counts_are_the_nu_checkers(tmp_path: Path) -> None:
    nu = find()
    if not isinstance(nu, Nu):
        pytest.skip(f"no second witness: {nu.reason}")
    rng = random.Random(0)
    pages = blocks()
    if ALPACA.is_file():
        rows = json.loads(ALPACA.read_text(encoding="utf-8"))
        pages += [row["output"] for row in rows[::9]]
    pages += [damaged(page, rng) for page in pages]
    wrong = [
        (name, found[name], theirs[name], page)
        for page, theirs in zip(pages, nus_counts(nu, pages, tmp_path), strict=True)
        for found in [score(page)]
        for name in NAMES
        if found[name] != theirs[name]
    ]
    print(f"{len(pages)} pages, {len(pages) * len(NAMES)} counts, {len(wrong)} differ")
    for row in wrong[:10]:
        print(row[:3], repr(row[3][:200]))
    assert len(wrong) <= 0.005 * len(pages) * len(NAMES)
