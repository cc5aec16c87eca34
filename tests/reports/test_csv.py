"""comparison.csv and predictions.csv: exact, readable by any reader, no formulas."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import DataError
from harness.host.text import printable
from harness.reports import (
    COLUMNS,
    ComparisonRow,
    PredictionRow,
    comparison_csv,
    joined_predictions,
    parse_comparison_csv,
    prediction_lines,
    predictions_csv,
)
from harness.reports.csv_file import escape_formula, unescape_formula

quick = settings(derandomize=True, deadline=None, max_examples=80)

ROW = ComparisonRow(
    model="m",
    task="t",
    recipe="quick",
    seed=0,
    metric="exact_match",
    direction="higher",
    n=96,
    base=0.0,
    tuned=31 / 96,
    delta=31 / 96,
    ci_low=-0.1,
    ci_high=None,
    p_value=1e-9,
    p_adjusted=None,
    wins=31,
    ties=65,
    losses=0,
    reference=1.0,
    nearest=None,
    signature="exact_match|norm:strip|v1",
    run="m/t/quick-seed0-12",
)
LINE = (
    "m,t,quick,0,exact_match,higher,96,0.0,0.3229166666666667,0.3229166666666667,-0.1,,1e-09,,"
    "31,65,0,1.0,,exact_match|norm:strip|v1,m/t/quick-seed0-12\n"
)

# Weighted to what breaks CSV: quotes, separators, line ends, formulas, NUL, lone surrogates.
texts = st.text(
    st.one_of(st.sampled_from("\"',;=+-@\t\r\n \0\x1b\ud800＝é日"), st.characters()), max_size=30
)
numbers = st.one_of(st.none(), st.floats(allow_nan=False))
counts = st.one_of(st.none(), st.integers(0, 10**6))
rows = st.builds(
    ComparisonRow,
    **{
        **dict.fromkeys(("model", "task", "recipe", "metric", "signature", "run"), texts),
        "seed": st.integers(0, 2**31),
        "n": st.integers(0, 10**6),
        "direction": st.sampled_from(["higher", "lower"]),
        **dict.fromkeys(("wins", "ties", "losses"), counts),
        **dict.fromkeys(
            ("base", "tuned", "delta", "ci_low", "ci_high", "p_value", "p_adjusted"), numbers
        ),
        **dict.fromkeys(("reference", "nearest", "reference_as_given"), numbers),
    },
)


def records(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def test_rows_of_all_seeds_go_there_and_back() -> None:
    text = comparison_csv([dataclasses.replace(ROW, seed="all")])
    assert parse_comparison_csv(text)[0].seed == "all"
    with pytest.raises(DataError, match="whole number"):
        parse_comparison_csv(text.replace(",all,", ",some,"))


def test_header_is_the_contract() -> None:
    assert comparison_csv([]) == (
        "model,task,recipe,seed,metric,direction,n,base,tuned,delta,ci_low,ci_high,p_value,"
        "p_adjusted,wins,ties,losses,reference,nearest,signature,run\n"
    )
    assert parse_comparison_csv(comparison_csv([])) == []


def test_golden_line() -> None:
    assert comparison_csv([ROW]) == ",".join(COLUMNS) + "\n" + LINE


def test_further_columns_stand_only_where_they_say_something() -> None:
    rows = [ROW, dataclasses.replace(ROW, metric="rougeL", reference_as_given=1.0)]
    header, first, second = records(comparison_csv(rows))
    assert header == [*COLUMNS, "reference_as_given"]
    assert (first[-1], second[-1]) == ("", "1.0")
    assert parse_comparison_csv(comparison_csv(rows)) == rows


def test_numpy_numbers_are_written_as_numbers() -> None:
    row = dataclasses.replace(
        ROW, n=np.int64(96), tuned=np.float64(31 / 96), base=np.float32(0), seed=np.int64(0)
    )
    assert comparison_csv([row]) == comparison_csv([ROW])
    assert ComparisonRow.from_json(json.loads(json.dumps(row.to_json()))) == ROW


@quick
@given(st.lists(rows, max_size=4))
def test_comparison_survives_the_csv_module_and_comes_back(given_rows: list[Any]) -> None:
    given_rows = [
        dataclasses.replace(
            row,
            **{
                name: printable(getattr(row, name))
                for name in ("model", "task", "recipe", "metric", "signature", "run")
            },
            seed=index,
        )
        for index, row in enumerate(given_rows)
        if row.model and row.task and row.metric
    ]
    text = comparison_csv(given_rows)
    text.encode("utf-8")
    assert parse_comparison_csv(text) == given_rows
    further = any(row.reference_as_given is not None for row in given_rows)
    assert all(len(record) == len(COLUMNS) + further for record in records(text))


@quick
@given(texts)
def test_no_text_cell_is_a_formula_and_escaping_is_undone(text: str) -> None:
    escaped = escape_formula(text)
    assert not escaped.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert escaped.lstrip()[:1] not in ("=", "+", "-", "@", "＝")
    assert unescape_formula(escaped) == text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "  =1", "'=1", "\n=1"])
def test_formulas_get_an_apostrophe(text: str) -> None:
    assert escape_formula(text) == "'" + text


@pytest.mark.parametrize("text", ["", "<p>", "'tis", "a=b", "\n<p>"])
def test_other_text_stays(text: str) -> None:
    assert escape_formula(text) == text


def test_crlf_and_a_byte_order_mark_are_read() -> None:
    assert parse_comparison_csv("\ufeff" + comparison_csv([ROW]).replace("\n", "\r\n")) == [ROW]


def test_infinities_and_nan_are_kept() -> None:
    row = dataclasses.replace(ROW, base=math.inf, tuned=-math.inf, delta=math.nan)
    (back,) = parse_comparison_csv(comparison_csv([row]))
    assert (back.base, back.tuned) == (math.inf, -math.inf)
    assert back.delta is not None
    assert math.isnan(back.delta)


def edited(column: str, value: str) -> str:
    cells = LINE.rstrip("\n").split(",")
    cells[COLUMNS.index(column)] = value
    return ",".join(COLUMNS) + "\n" + ",".join(cells) + "\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: column 'model' is missing"),
        ("model,task\n", "line 1: column 'recipe' is missing"),
        (",".join(COLUMNS) + ",extra\n", "column 'extra' is unknown"),
        (",".join(reversed(COLUMNS)) + "\n", "not in their order"),
        (comparison_csv([ROW]) + "m,t\n", "line 3: it has 2 cells where 21 belong"),
        (comparison_csv([ROW, ROW]), "line 3: metric 'exact_match'"),
        (edited("n", "96.0"), "line 2: n is '96.0' where a whole number belongs"),
        (edited("n", ""), "n is '' where a whole number belongs"),
        (edited("base", "1_0"), "base is '1_0' where a number belongs"),
        (edited("base", " 1"), "base is '1' where a number belongs"),
        (edited("direction", "up"), "direction is 'up' where 'higher' or 'lower' belongs"),
        (edited("model", ""), "model is '' where a name belongs"),
        (comparison_csv([ROW]) + 'm,"t"x\n', "line 3: not CSV"),
        (edited("run", '"never closed'), "not CSV"),
        (edited("run", "x" * 200_000), "not CSV"),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_comparison_csv(text, source="old.csv")
    message = str(caught.value)
    assert message.startswith("old.csv, line ")
    assert said in message
    assert message.endswith(".")
    assert "\n" not in message


# --- predictions -----------------------------------------------------------------------------

PREDICTION = PredictionRow(
    model="m",
    task="t",
    recipe="quick",
    seed=0,
    id="a1",
    kind="content",
    prompt='Say "hi",\nplease',
    reference="<p>hi</p>",
    base="=HYPERLINK(1)",
    tuned="<p>hi</p>\r\n",
    base_extracted="",
    tuned_extracted="",
    base_finish_reason="length",
    tuned_finish_reason="stop",
    base_scores={"rougeL": 0.25, "exact_match": -0.0},
    tuned_scores={"exact_match": 1.0, "rougeL": None},
)


def test_predictions_golden() -> None:
    assert predictions_csv([PREDICTION], ["exact_match", "rougeL", "absent"]) == (
        "model,task,recipe,seed,id,kind,prompt,reference,reference_written,base,tuned,base_extracted,"
        "tuned_extracted,prompt_cut,base_finish_reason,tuned_finish_reason,base_exact_match,tuned_exact_match,base_rougeL,tuned_rougeL,"
        "base_absent,tuned_absent\n"
        'm,t,quick,0,a1,content,"Say ""hi"",\nplease",<p>hi</p>,,\'=HYPERLINK(1),'
        '"<p>hi</p>\r\n",,,0,length,stop,-0.0,1.0,0.25,,,\n'
    )


@quick
@given(prompt=texts, reference=texts, base=texts, tuned=texts)
def test_predictions_survive_the_csv_module(
    prompt: str, reference: str, base: str, tuned: str
) -> None:
    row = dataclasses.replace(
        PREDICTION, prompt=prompt, reference=reference, base=base, tuned=tuned
    )
    text = predictions_csv([row], ["rougeL"])
    text.encode("utf-8")
    assert "\0" not in text
    header, record = records(text)
    cells = dict(zip(header, record, strict=True))
    for name, whole in [("prompt", prompt), ("reference", reference), ("base", base)]:
        assert unescape_formula(cells[name]) == printable(whole)
        assert cells[name][:1] not in ("=", "+", "-", "@", "\t", "\r")
    assert unescape_formula(cells["tuned"]) == printable(tuned)
    assert float(cells["base_rougeL"]) == 0.25


def test_nul_escape_and_surrogate_are_shown() -> None:
    row = dataclasses.replace(PREDICTION, base="a\0b\x1b[31m\ud800c\x9b")
    assert "a␀b␛[31m\ufffdc\ufffd" in predictions_csv([row], [])


def test_a_long_cell_is_an_excerpt_that_names_the_whole() -> None:
    whole = "=" + "é" * 200_000
    row = dataclasses.replace(PREDICTION, tuned=whole, base="x" * 30_000, prompt="y" * 30_001)
    text = predictions_csv([row], [])
    header, record = records(text)
    cells = dict(zip(header, record, strict=True))
    digest = hashlib.sha256(whole.encode()).hexdigest()
    note = f"… [200001 characters, sha256 {digest}; whole text in generations/tuned.jsonl]"
    assert cells["tuned"] == "'=" + "é" * 29_999 + note
    assert cells["base"] == "x" * 30_000
    assert cells["prompt"].startswith("y" * 30_000 + "… [30001 characters, sha256 ")
    assert all(len(value) < 32_767 for value in record)


def test_a_long_cell_with_a_lone_surrogate_is_hashed() -> None:
    row = dataclasses.replace(PREDICTION, base="\udc80" * 40_000)
    text = predictions_csv([row], [])
    assert "\ufffd… [40000 characters, sha256 " in text
    text.encode("utf-8")


def test_predictions_of_several_runs_have_all_columns() -> None:
    one = predictions_csv([dataclasses.replace(PREDICTION, tuned="a\r\nb")], ["rougeL"])
    other = predictions_csv([PREDICTION], ["exact_match", "rougeL"])
    header, first, second = records(joined_predictions([one, other]))
    assert header[-4:] == ["base_rougeL", "tuned_rougeL", "base_exact_match", "tuned_exact_match"]
    assert first[header.index("tuned")] == "a\r\nb"
    assert (first[-4:], second[-4:]) == (["0.25", "", "", ""], ["0.25", "", "-0.0", "1.0"])
    assert joined_predictions([one]) == one
    assert joined_predictions([]) == ""


def test_rows_are_streamed() -> None:
    def endless() -> Any:
        while True:
            yield PREDICTION

    lines = prediction_lines(endless(), ["rougeL"])
    assert next(lines).startswith("model,")
    assert next(lines) == next(lines)
