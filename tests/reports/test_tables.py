"""The tables as people see them: Markdown and terminal, golden and under hostile names."""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from html import unescape
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.host.text import single_line
from harness.reports import (
    ComparisonRow,
    KindRow,
    RunReport,
    comparison_markdown,
    comparison_terminal,
)
from harness.reports.comparison import best_system, exact_match_counts, group_reports, verdict
from harness.reports.markdown import escape

quick = settings(derandomize=True, deadline=None, max_examples=60)

RUN = "gemma3-270m/html_blocks/quick-seed0-4f1c"


def row(metric: str, base: float | None, tuned: float | None, **changes: Any) -> ComparisonRow:
    delta = None if base is None or tuned is None else tuned - base
    values: dict[str, Any] = {
        **dict.fromkeys([f.name for f in dataclasses.fields(ComparisonRow)]),
        "model": "gemma3-270m",
        "task": "html_blocks",
        "recipe": "quick",
        "seed": 0,
        "metric": metric,
        "direction": "higher",
        "n": 96,
        "base": base,
        "tuned": tuned,
        "delta": delta,
        "signature": f"{metric}|v1",
        "run": RUN,
    }
    return ComparisonRow(**{**values, **changes})


LOSS = row(
    "cross_entropy",
    1.84213,
    0.91345,
    direction="lower",
    ci_low=-0.9511,
    ci_high=-0.9064,
    p_value=0.0001,
    p_adjusted=0.0013,
    wins=96,
    ties=0,
    losses=0,
)
EXACT = row(
    "exact_match",
    0.0,
    31 / 96,
    ci_low=0.229,
    ci_high=0.417,
    p_value=1e-9,
    p_adjusted=1e-8,
    wins=31,
    ties=65,
    losses=0,
    reference=1.0,
    nearest=0.0,
)
EMPTY = row(
    "empty",
    2 / 96,
    2 / 96,
    direction="lower",
    ci_low=0.0,
    ci_high=0.0,
    p_value=1.0,
    p_adjusted=1.0,
    wins=0,
    ties=96,
    losses=0,
    reference=0.0,
    nearest=0.0,
)
DONE = RunReport(
    model="gemma3-270m",
    task="html_blocks",
    recipe="quick",
    seed=0,
    run=RUN,
    status="done",
    rows=[LOSS, EXACT, EMPTY],
    kinds=[
        KindRow("content", "exact_match", "higher", 48, 0.0, 0.5, 0.5, 0.4, 0.6, 1e-6),
        KindRow("phrasing", "exact_match", "higher", 48, 0.0, 0.146, 0.146, 0.1, 0.2, 0.04),
    ],
    facts=[("commit", "b43869a"), ("contamination", "0 of 96")],
    measured=[("train", "171 s"), ("speed", "1,072 tokens/s")],
    training={"train": [(1, 2.1), (96, 0.9), (192, 0.5)]},
)
FAILED = RunReport(
    model="falcon7b",
    task="html_blocks",
    recipe="quick",
    seed=0,
    run="falcon7b/html_blocks/quick-seed0-12",
    status="diverged",
    error="The loss became NaN at step 17: lower learning_rate in the recipe.",
)


def on_seed(report: RunReport, seed: int, **changes: Any) -> RunReport:
    rows = [dataclasses.replace(r, seed=seed) for r in report.rows]
    return dataclasses.replace(report, seed=seed, run=f"run-{seed}", rows=rows, **changes)


# --- what is read off the rows ---------------------------------------------------------------


def test_best_system_goes_by_direction() -> None:
    assert best_system(LOSS) == "tuned"
    assert best_system(EXACT) == "tuned"
    assert best_system(EMPTY) is None
    assert best_system(row("x", 0.5, 0.4)) == "base"
    assert best_system(row("x", 0.5, 0.6, direction="lower")) == "base"
    assert best_system(row("x", None, 0.4)) is None
    assert best_system(row("x", float("nan"), 0.4)) is None


def test_verdict_and_counts() -> None:
    assert verdict(DONE.rows) == "Tuned is better on 2 of 3 metrics (2 significantly), worse on 0."
    assert verdict([row("x", 0.5, 0.4)]) == (
        "Tuned is better on 0 of 1 metric, worse on 1 (none significantly)."
    )
    assert verdict([row("x", None, 0.4)]) is None
    assert exact_match_counts(DONE.rows) == "exact match: base 0 of 96, tuned 31 of 96"
    assert exact_match_counts([LOSS]) is None


def test_reports_come_back_from_json() -> None:
    for report in (DONE, FAILED):
        assert RunReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_groups_are_in_order_and_know_what_varies() -> None:
    groups = group_reports([DONE, FAILED, on_seed(DONE, 1)])
    assert [(g.model, len(g.reports)) for g in groups] == [("gemma3-270m", 2), ("falcon7b", 1)]
    assert [(g.by_recipe, g.by_seed) for g in groups] == [(False, True), (False, False)]
    assert [(r.metric, r.seed) for r in groups[0].rows][:3] == [
        ("cross_entropy", 0),
        ("cross_entropy", 1),
        ("exact_match", 0),
    ]


# --- Markdown --------------------------------------------------------------------------------

MARKDOWN_BODY = """\
## gemma3-270m · html_blocks

Recipe quick, seed 0. Tuned is better on 2 of 3 metrics (2 significantly), worse on 0. \
Exact match: base 0 of 96, tuned 31 of 96.

| metric          |   n |  base |     tuned |  delta |    95 % interval | p (Holm) | \
wins/ties/losses | reference | nearest |
| --------------- | --: | ----: | --------: | -----: | ---------------: | -------: | \
---------------: | --------: | ------: |
| cross_entropy ↓ |  96 | 1.842 | **0.913** | -0.929 | [-0.951, -0.906] |  0.001 * | \
          96/0/0 |         – |       – |
| exact_match ↑   |  96 | 0.000 | **0.323** | +0.323 | [+0.229, +0.417] | <0.001 * | \
         31/65/0 |     1.000 |   0.000 |
| empty ↓         |  96 | 0.021 |     0.021 |  0.000 |   [0.000, 0.000] |  1.000   | \
          0/96/0 |     0.000 |   0.000 |

By kind of prompt (p not adjusted):

| metric        | kind of prompt |   n |  base |     tuned |  delta |    95 % interval |      p |
| ------------- | -------------- | --: | ----: | --------: | -----: | ---------------: | -----: |
| exact_match ↑ | content        |  48 | 0.000 | **0.500** | +0.500 | [+0.400, +0.600] | <0.001 |
|               | phrasing       |  48 | 0.000 | **0.146** | +0.146 | [+0.100, +0.200] |  0.040 |

| run           | gemma3-270m/html_blocks/quick-seed0-4f1c |
| ------------- | ---------------------------------------- |
| commit        | b43869a                                  |
| contamination | 0 of 96                                  |
| train loss    | 2.100 → 0.500, steps 1 to 192 █▃▁        |

Measured: train 171 s · speed 1,072 tokens/s
"""


def test_markdown_golden() -> None:
    text = comparison_markdown([DONE], "python -m harness run")
    head, body = text.split("## gemma3", 1)
    assert head.startswith("# Base against tuned\n\n")
    assert head.endswith("```sh\npython -m harness run\n```\n\n")
    body, tail = ("## gemma3" + body).split("\n## How to read the tables", 1)
    assert body == MARKDOWN_BODY
    assert "- **reference**: " in tail
    assert "- **nearest**: " in tail
    assert tail.endswith("- empty: `empty|v1`\n\n</details>\n")


def test_markdown_names_what_failed_and_lists_all_first() -> None:
    text = comparison_markdown([DONE, FAILED], "x")
    sentence = "**Diverged**: The loss became NaN at step 17: lower learning_rate in the recipe."
    overview, body = text.split("\n## gemma3-270m", 1)
    assert f"- **falcon7b · html_blocks**: {sentence}\n" in overview
    assert f"## falcon7b · html_blocks\n\nRecipe quick, seed 0. {sentence}\n" in body


def test_markdown_of_several_seeds_has_one_table_with_a_seed_column() -> None:
    text = comparison_markdown([DONE, on_seed(DONE, 1, kinds=[])], "x")
    assert text.count("| metric          | seed |   n |") == 1
    assert "| cross_entropy ↓ |    0 |" in text
    assert "|                 |    1 |" in text
    assert "### quick, seed 1\n\n| run           | run-1 " in text
    assert text.count("\nMeasured: ") == 2
    assert " recipe |" not in text


def test_only_the_measured_lines_differ_between_repetitions() -> None:
    again = dataclasses.replace(DONE, measured=[("train", "99\n9 s"), ("peak memory", "2 GiB")])
    first = comparison_markdown([DONE, FAILED], "x").splitlines()
    second = comparison_markdown([again, FAILED], "x").splitlines()
    differing = [b for a, b in zip(first, second, strict=True) if a != b]
    assert differing == ["Measured: train 99 9 s · peak memory 2 GiB"]


def test_signatures_that_differ_by_task_are_both_listed() -> None:
    other = dataclasses.replace(
        DONE, task="u", rows=[dataclasses.replace(EXACT, task="u", signature="a`b|v2")]
    )
    text = comparison_markdown([DONE, other], "x")
    assert "- exact_match (html_blocks): `exact_match|v1`\n- exact_match (u): ``a`b|v2``\n" in text


def test_markdown_of_no_runs() -> None:
    assert comparison_markdown([], "a\n```\nb").endswith(
        "````sh\na ``` b\n````\n\nThere are no runs to compare.\n"
    )


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("exact_match", "exact_match"),
        ("a|b", "a\\|b"),
        ("_a_ *b* `c`", "\\_a\\_ \\*b\\* \\`c\\`"),
        ("x < 3 <b>", "x < 3 &lt;b>"),
        ("&lt; & c", "&amp;lt; & c"),
        ("a\n\n# b", "a \\# b"),
        ("1. x", "1\\. x"),
        ("- x", "\\- x"),
        ("-0.5", "-0.5"),
        ("\x1b[1mx", "␛\\[1mx"),
    ],
)
def test_escape(text: str, escaped: str) -> None:
    assert escape(text) == escaped


hostile = st.text(
    st.one_of(
        st.sampled_from("ab1 \n\t|`~<>&;#*_-+.=![](){}\\/:\"'$\0\x1b\u202e日é\u0301\ud800"),
        st.characters(),
    ),
    max_size=40,
)


@quick
@given(hostile)
def test_escaped_text_renders_as_it_was(text: str) -> None:
    """In a cell, a list and a heading, as a CommonMark implementation sees them."""
    markdown_it = pytest.importorskip("markdown_it", reason="no Markdown renderer is installed")
    line = single_line(text)
    cell = escape(text)
    html = (
        markdown_it.MarkdownIt("commonmark")
        .enable("table")
        .render(f"| {cell} | end |\n| --- | --- |\n| {cell} | end |\n\n- {cell}\n\n# {cell}\n")
    )
    assert re.findall(r"<([a-z0-9]+)", html) == re.findall(
        r"[a-z0-9]+", "table thead tr th th tbody tr td td ul li h1"
    )
    shown = [unescape(part).strip() for part in re.findall(r"<(?:th|td|li|h1)>([^<]*)", html)]
    assert shown == [line, "end", line, "end", line, line]


@quick
@given(hostile, hostile, hostile)
def test_hostile_text_adds_no_line_and_no_column(name: str, value: str, error: str) -> None:
    def lines(name: str, value: str, error: str) -> list[str]:
        rows = [dataclasses.replace(r, signature=value or "s") for r in DONE.rows]
        report = dataclasses.replace(
            DONE, rows=rows, facts=[(name, value)], measured=[(name, value)]
        )
        failed = dataclasses.replace(FAILED, error=f"It failed: {error}")
        text = comparison_markdown([report, failed], f"harness {value}")
        text.encode("utf-8")
        return text.split("\n")

    plain, dirty = lines("a", "b", "c"), lines(name, value, error)
    assert len(dirty) == len(plain)
    for was, now in zip(plain, dirty, strict=True):
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", now)) >= was.startswith("|") * 3
        assert now.startswith("|") == was.startswith("|")
        assert not any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in now)


def test_what_looks_equal_is_not_bold() -> None:
    close = dataclasses.replace(DONE, rows=[row("x", 0.50001, 0.50002)], kinds=[])
    assert best_system(close.rows[0]) == "tuned"
    assert "**0.500**" not in comparison_markdown([close], "x")


# --- terminal --------------------------------------------------------------------------------

TERMINAL = """\
gemma3-270m · html_blocks · quick, seed 0 · n = 96
metric            base  tuned   delta     95 % interval  p (Holm)    w/t/l    ref   near
────────────────────────────────────────────────────────────────────────────────────────
cross_entropy ↓  1.842  0.913  -0.929  [-0.951, -0.906]   0.001 *   96/0/0      –      –
exact_match ↑    0.000  0.323  +0.323  [+0.229, +0.417]  <0.001 *  31/65/0  1.000  0.000
alike in both systems: empty 0.021 (ref 0.000)
Tuned is better on 2 of 3 metrics (2 significantly), worse on 0.
exact match: base 0 of 96, tuned 31 of 96
measured: train 171 s · speed 1,072 tokens/s

falcon7b · html_blocks · quick, seed 0
Run diverged: The loss became NaN at step 17: lower learning_rate in the recipe.

↑ higher is better, ↓ lower is better · * p below 0.05 after Holm's correction
w/t/l: prompts on which tuned wins, ties, loses · ref: the references' own score (ceiling)
near: copying the nearest training answer (floor)
"""


def test_terminal_golden() -> None:
    assert comparison_terminal([DONE, FAILED]) == TERMINAL


def test_metrics_that_tell_no_prompt_apart_are_one_line() -> None:
    def row(metric: str, **more: Any) -> ComparisonRow:
        given = {"metric": metric, "wins": 0, "losses": 0, "ties": 96, "reference": 0.021, **more}
        return dataclasses.replace(DONE.rows[-1], **given)

    rows = [*DONE.rows[:1], row("scripts"), row("conformance_errors", n=0, base=None, tuned=None)]
    text = comparison_terminal([dataclasses.replace(DONE, rows=rows)])
    assert "alike in both systems: scripts 0.021 · conformance_errors not scored\n" in text
    seeds = [
        dataclasses.replace(DONE, rows=[row("a"), row("b")]),
        dataclasses.replace(DONE, seed=1, rows=[row("a", wins=1)]),
    ]
    text = comparison_terminal(seeds)
    assert "alike in both systems: b 0.021\n" in text
    assert sum(line.startswith("a ") for line in text.splitlines()) == 1


def test_color_adds_bold_to_the_best_and_nothing_else() -> None:
    colored = comparison_terminal([DONE, FAILED], color=True)
    assert re.findall(r"\x1b\[1m(.*?)\x1b\[0m", colored) == ["0.913", "0.323"]
    assert re.sub(r"\x1b\[[01]m", "", colored) == TERMINAL


def test_terminal_of_several_seeds() -> None:
    text = comparison_terminal(
        [DONE, on_seed(DONE, 1), on_seed(FAILED, 2, model="gemma3-270m", status="failed")]
    )
    assert "cross_entropy ↓     0  1.842" in text
    assert "\n                    1  1.842" in text
    assert "quick, seed 1: exact match: base 0 of 96, tuned 31 of 96\n" in text
    assert "quick, seed 2 failed: The loss became NaN" in text


def test_n_is_a_column_where_it_differs() -> None:
    mixed = dataclasses.replace(DONE, rows=[LOSS, dataclasses.replace(EXACT, n=90)])
    assert "metric            n   base" in comparison_terminal([mixed])


def test_no_runs() -> None:
    assert comparison_terminal([]) == "There are no runs to compare.\n"


def test_a_name_is_cut_before_its_arrow() -> None:
    long = dataclasses.replace(DONE, rows=[dataclasses.replace(EXACT, metric="m" * 90)])
    text = comparison_terminal([long])
    assert re.search(r"^m+… ↑  0\.000", text, re.MULTILINE)
    assert "near" in text.splitlines()[1]


def columns(line: str) -> int:
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in line)
    return len(line) + wide - sum(unicodedata.category(char) in ("Mn", "Me") for char in line)


names = st.one_of(st.text(st.sampled_from("ab_日本é\x1b\n"), max_size=120), hostile)
numbers = st.one_of(st.none(), st.floats())


@st.composite
def reports(draw: st.DrawFn) -> RunReport:
    model, task = draw(names), draw(st.sampled_from(["t", "日" * 70]))
    recipe, seed = draw(st.sampled_from(["quick", "r" * 64])), draw(st.integers(0, 2**31))
    rows = [
        ComparisonRow(
            model,
            task,
            recipe,
            seed,
            draw(names),
            draw(st.sampled_from(["higher", "lower"])),
            draw(st.integers(0, 10**7)),
            *(draw(numbers) for _ in range(7)),
            *(draw(st.one_of(st.none(), st.integers(0, 10**7))) for _ in range(3)),
            draw(numbers),
            draw(numbers),
            draw(names),
            draw(names),
        )
        for _ in range(draw(st.integers(0, 3)))
    ]
    return RunReport(
        *(model, task, recipe, seed, draw(names)),
        status=draw(st.sampled_from(["done", "failed"])),
        error=draw(st.one_of(st.none(), names)),
        rows=rows,
        measured=[(draw(names), draw(names)) for _ in range(draw(st.integers(0, 2)))],
    )


@quick
@given(st.lists(reports(), max_size=3), st.sampled_from([100, 100, 72, 40, 24]), st.booleans())
def test_no_line_is_wider_than_asked(given_reports: Any, width: int, color: bool) -> None:
    text = comparison_terminal(given_reports, width=width, color=color)
    text.encode("utf-8")
    plain = re.sub(r"\x1b\[[01]m", "", text)
    assert "\x1b" not in plain
    assert not any(unicodedata.category(c) == "Cc" and c != "\n" for c in plain)
    assert text.endswith("\n")
    assert max(map(columns, plain.split("\n"))) <= width
