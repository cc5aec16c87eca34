"""Reading prediction files: what is taken, and the sentence for each fault with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import DataError
from harness.pipeline.predictions import read_predictions
from harness.records import Assertion
from tests.support.storing import one_sentence, quick

PLAIN = {"prediction": "<p>a</p>", "reference": "<p>b</p>"}


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "p.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))
    return path


def test_all_keys(tmp_path: Path) -> None:
    row = {
        **PLAIN,
        "id": 7,
        "prompt": "say a",
        "assertions": [{"selector": "p", "count": 1, "attribute": "class", "value": "x"}],
        "finish_reason": "length",
        "group": 3,
        "model": "other keys are ignored",
        "latency": [1],
    }
    found = read_predictions(write(tmp_path, row))
    sample = found.samples[0]
    assert (sample.id, sample.prompt, sample.finish_reason) == ("7", "say a", "length")
    assert (sample.prediction, sample.reference) == ("<p>a</p>", "<p>b</p>")
    assert sample.assertions == (Assertion("p", count=1, attribute="class", value="x"),)
    assert (found.groups, found.by_id) == (["3"], True)
    assert found.source["rows"] == 1
    assert len(found.source["sha256"]) == 64


def test_the_least_there_can_be(tmp_path: Path) -> None:
    nulls = dict.fromkeys(("id", "prompt", "assertions", "finish_reason", "group"))
    found = read_predictions(write(tmp_path, "", PLAIN, "  ", {**PLAIN, **nulls}))
    assert [sample.id for sample in found.samples] == ["2", "4"]  # lines of the file
    assert [sample.finish_reason for sample in found.samples] == [None, None]
    assert (found.groups, found.by_id) == (["", ""], False)


def test_a_byte_order_mark_and_carriage_returns(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PLAIN).encode() + b"\r\n\r\n")
    assert read_predictions(path).samples[0].prediction == "<p>a</p>"


@quick
@given(st.text(st.characters()), st.text(st.characters()))
def test_any_text_comes_through(
    tmp_path_factory: pytest.TempPathFactory, prediction: str, reference: str
) -> None:
    row = json.dumps({"prediction": prediction, "reference": reference})  # surrogates as escapes
    sample = read_predictions(write(tmp_path_factory.mktemp("any"), row)).samples[0]
    expected = json.loads(row)
    assert sample.prediction == expected["prediction"]
    assert sample.reference == expected["reference"]


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ("{", ["is not valid JSON"]),
        ("[" * 100_000, ["nested too deeply"]),
        ('["a"]', ["is a list", "one JSON object a line"]),
        ("1", ["is a number"]),
        ("null", ["is null"]),
        (
            {"predicton": "a", "reference": "b"},
            ["'predicton' is there, did you mean 'prediction'?"],
        ),
        ({"prediction": "a"}, ["has no 'reference'"]),
        ({"prediction": None, "reference": "b"}, ["'prediction'", "it is null"]),
        ({**PLAIN, "prediction": ["a"]}, ["'prediction' is a list: give a string"]),
        ({**PLAIN, "reference": 1}, ["'reference' is a number"]),
        ({**PLAIN, "prompt": {}}, ["'prompt' is an object"]),
        ({**PLAIN, "id": 1.5}, ["'id' is a number"]),
        ({**PLAIN, "id": True}, ["'id' is true or false"]),
        ({**PLAIN, "group": []}, ["'group' is a list"]),
        ({**PLAIN, "id": "1"}, ["has the id '1' of line 1"]),
        ({**PLAIN, "finish_reason": "eos"}, ["finish_reason is 'eos'", "'length'"]),
        ({**PLAIN, "finish_reason": ["stop"]}, ["finish_reason is a list"]),
        ({**PLAIN, "assertions": {}}, ["'assertions' is an object"]),
        ({**PLAIN, "assertions": ["p"]}, ["assertion 1: it is a string"]),
        ({**PLAIN, "assertions": [{"selector": "p"}, {}]}, ["assertion 2 has no 'selector'"]),
        ({**PLAIN, "assertions": [{"selektor": "p"}]}, ["did you mean 'selector'?"]),
        ({**PLAIN, "assertions": [{"selector": "p", "zzz": 1}]}, ["'zzz'", "known are selector"]),
        ({**PLAIN, "assertions": [{"selector": "p["}]}, ["assertion 1", "no CSS selector"]),
        ({**PLAIN, "assertions": [{"selector": "p", "count": -1}]}, ["'count' is '-1'"]),
        ({**PLAIN, "assertions": [{"selector": "p", "count": True}]}, ["'count'"]),
        ({**PLAIN, "assertions": [{"selector": "p", "text": 1}]}, ["'text' is a number"]),
        ({**PLAIN, "assertions": [{"selector": "p", "value": "x"}]}, ["no 'attribute'"]),
    ],
)
def test_a_fault_is_named_with_its_line(row: Any, texts: list[str], tmp_path: Path) -> None:
    path = write(tmp_path, {**PLAIN, "id": "1"}, "", row)
    with pytest.raises(DataError) as caught:
        read_predictions(path)
    one_sentence(caught.value, "p.jsonl' line 3", *texts)
    assert str(caught.value).endswith((".", "?"))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "holds no sample"),
        (b"\n \n", "holds no sample"),
        (b"\x1f\x8b\x08\x00\xff", "not UTF-8"),
        (b"\x00\x01\x02", "not valid JSON"),
        (b'{"prediction": "\xff"}', "line 1 is not UTF-8"),
    ],
)
def test_a_file_that_is_none(data: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_predictions(path)
    one_sentence(caught.value, "p.jsonl", text)


def test_a_name_with_a_nul(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_predictions(tmp_path / "a\0b")
    one_sentence(caught.value, "cannot be read")
