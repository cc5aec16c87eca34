"""The extractor: golden cases, twice is once, nothing lost, linear on hostile input, real rows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.regression.goldens import Case, faults_of_set, read_cases, text_of
from harness.scorers.text.extract import extract
from tests.support.limits import cpu_limit

ROOT = Path(__file__).resolve().parents[2]
CASES = read_cases(ROOT / "baselines" / "goldens" / "extract.toml")
DATA = ROOT.parent / "shared" / "data"
PAGE = "<!DOCTYPE html>\n<html>\n<body>\n<p>x</p>\n\n<p>y</p>\n</body>\n</html>"


def test_the_golden_file_is_whole() -> None:
    assert faults_of_set(CASES, least=20) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden_cases(case: Case) -> None:
    assert extract(case.inputs["prediction"]) == text_of(case.inputs["extracted"])


PIECES = (
    "```html\n", "```\n", "~~~\n", "````\n", "```css\n", "\n", "\n\n", " ", "    ", "\r\n", "\x1c",
    "text", "Here:", "<p>", "</p>", "<b>", "</b>", "`<b>`", "`</html>`", "`", "<!DOCTYPE html>",
    "<html>", "</html>", "<pre>", "</pre>", "<script>", "</script>", "<|im_end|>", "<|im_start|>",
    "assistant\n", "<end_of_turn>", "### Response:", "[/INST]", "<!--", "-->", "<", ">", "<br>",
    "</s>", "\u2028", "\ud800", "\0", "<think>", "</think>", "<answer>", "</answer>", "> ", "```",
    "<|channel|>final<|message|>", "<|channel|>a<|message|>", "``", "<h1> is ", "``<p>x</p>``",
    '<link rel="stylesheet" href="a.css">', "p{}", "assistantfinal", "analysis",
)  # fmt: skip


@settings(max_examples=1500, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_twice_is_once_and_what_is_taken_is_a_part_of_the_text(text: str) -> None:
    found = extract(text)
    assert extract(found) == found
    # A quotation's marks, and a stylesheet's place, are all that is changed.
    assert found in text or re.search("^[ \t]*> ?(```|~~~)", text, re.M) or "<style>" in found


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.text(max_size=60))
def test_any_text_does(text: str) -> None:
    assert extract(extract(text)) == extract(text)


@pytest.mark.parametrize("before", ["", "Sure!\n\n", "Here is the page:\n", "Use `<p>`. "])
@pytest.mark.parametrize("after", ["", "\n", "\n\nThis page has a `<p>`.", "\nLet me know!"])
@pytest.mark.parametrize("fence", ["", "```", "~~~", "`````"])
def test_a_page_comes_out_of_its_wrapping(before: str, after: str, fence: str) -> None:
    if fence:
        text = f"{before.rstrip()}\n{fence}html\n{PAGE}\n{fence}{after}"
    else:
        text = before + PAGE + after
    assert extract(text).strip() == PAGE


@pytest.mark.parametrize("end", range(0, len(PAGE), 7))
def test_a_page_that_is_cut_off_is_kept_whole(end: int) -> None:
    cut = PAGE[:end]
    assert extract(cut) == cut
    if cut.startswith("<!DOCTYPE"):
        assert extract(f"Sure:\n```html\n{cut}") == cut.strip()


@pytest.mark.parametrize(
    "text",
    [
        "```html\n" * 50_000,
        "```\n" * 100_000,
        "<a" * 200_000,
        "`" * 400_000,
        "<p>x</p>" + "\n" * 400_000 + "x",
        "```html\n<pre>\n```\n" * 20_000,
        "Here\n" + "\n \t" * 150_000 + "x\n<p>",
        "</html>" * 50_000 + "x",
        "</html" + " " * 400_000,
        "<p>" + "<|a" * 100_000,
        "<" * 400_000,
        "~" * 400_000 + "\n<p>",
        "<!--" * 100_000,
    ],
)
def test_hostile_texts_take_linear_time(text: str) -> None:
    with cpu_limit():
        found = extract(text)
    assert extract(found) == found


def test_references_of_the_data_sets_are_html_already() -> None:
    files = {
        "output": DATA / "ttbui_html_alpaca" / "data_finetune_html.json",
        "html": DATA / "jawerty_html_dataset" / "dataset.json",
    }
    if not all(file.is_file() for file in files.values()):
        pytest.skip("../shared/data is not here: no real rows to look at")
    changed = []
    for key, file in files.items():
        texts = [row[key] for row in json.loads(file.read_text(encoding="utf-8"))]
        changed += [text for text in texts if extract(text) != text]
        wrapped = [f"Sure!\n\n```html\n{text}\n```\n\nDone." for text in texts if "```" not in text]
        fences = [extract(text) for text in wrapped]
        assert all(found.startswith(("<", "\ufeff")) for found in fences)
    # Five rows give a style sheet, a script or a word of talk after </html>.
    assert len(changed) == 5
    assert all(text.startswith(extract(text)) for text in changed)
    assert all(extract(text).endswith("</html>") for text in changed)
