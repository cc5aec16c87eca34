"""Nothing crashes or hangs a scorer: every hostile text gets a number or a named reason.

The texts are a twentieth of what the scorers take, or so: this is about all of them together, in
a worker. That each bears the longest text within bounds is in its own test.
"""

from __future__ import annotations

import math
import random

import pytest

from harness.records import Assertion, Sample
from harness.scorers import Chosen, get, metric_names, names
from harness.scorers.workers import pool
from harness.scorers.workers.pool import score_in_workers

PLAIN = "<!DOCTYPE html><html><head><title>t</title></head><body><p>a b</p></body></html>"


def _fuzzed() -> dict[str, str]:
    """Bytes as a damaged file has them, and characters that mean something to a parser."""
    draw = random.Random(3)
    found = {
        f"fuzzed bytes {n}": draw.randbytes(size).decode("utf-8", handler)
        for n, size in enumerate((10, 1_000, 5_000))
        for handler in ("surrogateescape",)
    }
    marks = ["<", ">", "/", "!", "-", "&", ";", "#x", "'", '"', "=", "a", "svg", "table", "\0", " "]
    for n, size in enumerate((30, 1_000, 5_000)):
        found[f"fuzzed marks {n}"] = "".join(draw.choices(marks, k=size))
    tags = ["<table>", "<tr>", "<p>", "</p>", "<b>", "<i>", "<a>", "</b>", "<svg>", "<math>", "x"]
    found["fuzzed tags"] = "".join(draw.choices(tags, k=2_000))
    return found


HOSTILE = {
    "empty": "",
    "white space": " \n\t\f\r\xa0" * 500,
    "NUL": "\0",
    "NULs in tags": "<p\0 a\0='\0'>\0</p\0>" * 500,
    "a lone surrogate": "\ud800",
    "lone surrogates in tags": "<p a='\udfff'>\ud800</p>" * 500,
    "not characters": "\ufffe\uffff\U0010ffff\u202e\u0301" * 500,
    "25 kB of div": "<div>" * 5_000,
    "nested 900 deep": "<div>" * 900 + "x" + "</div>" * 900,
    "nested by the formatting rules": "<b><p>" * 2_000,
    "2,000 attributes": "<p " + " ".join(f"a{n}=1" for n in range(2_000)) + ">x",
    "an attribute 2,000 times": "<p " + "a=1 " * 2_000 + ">x",
    "5,000 comments open": "<!--" * 5_000,
    "an attribute without end": '<a href="' + "x" * 20_000,
    "20,000 angle brackets": "<" * 20_000,
    "20,000 ampersands": "&" * 20_000,
    "20,000 letters": "a" * 20_000,
    "400,001 letters": "a" * 400_001,
    "5,000 words": "word " * 5_000,
    "5,000 different words": " ".join(map(str, range(5_000))),
    "5,000 lines": "a b\n" * 5_000,
    "2,000 siblings": "<p>x</p>" * 2_000,
    "tables in tables": "<table><tr><td>" * 500,
    "a select of options": "<select>" + "<option>" * 2_000,
    "scripts": "<script>" * 2_000,
    "a style without end": "<style>" + "@import url(" * 2_000,
    "fences": "```html\n" * 5_000,
    "a fence of 25,000 ticks": "`" * 25_000,
    "the same id": "<p id=a>x" * 1_000,
    "ids": "".join(f"<p id=a{n}>x" for n in range(1_000)),
    "a selector's nightmare": "<p class='" + "a " * 12_000 + "'>x",
    **_fuzzed(),
}
ROLES = ("prediction", "reference", "both")
PAIRED = 3  # of the pairs of hostile texts every third is tried


def _samples(role: str) -> list[Sample]:
    rows = []
    texts = list(HOSTILE.values())
    for at, name in enumerate(HOSTILE):
        answer = PLAIN if role == "reference" else texts[at]
        reference = PLAIN if role == "prediction" else texts[at]
        if role == "both":
            if at % PAIRED:
                continue
            reference = texts[at - 1]
        checks = (Assertion("p.a > b", text="x"), Assertion("p:not(:has(b)) ~ p", count=3))
        rows.append(Sample(name, texts[at], reference, answer, checks, None))
    return rows


@pytest.fixture(scope="module")
def scorers() -> list[Chosen]:
    return [one for one in get(names(), "extracted") if one.scorer.in_worker]


@pytest.mark.parametrize(
    "role",
    [
        role if role == "prediction" else pytest.param(role, marks=pytest.mark.slow)
        for role in ROLES
    ],
)
def test_every_metric_is_a_number_or_a_note_and_no_sample_is_stopped(
    role: str, scorers: list[Chosen], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The scorers' own bounds hold here. The deadline would too, on most machines: a sample takes
    # a tenth of it or less.
    monkeypatch.setattr(pool, "SECONDS", 12.0)
    rows = [Sample("plain", "", PLAIN, PLAIN), *_samples(role)]
    found = score_in_workers(rows, scorers, workers=1)
    wanted = [m for one in scorers for m in metric_names(one.asked)]
    for row, one in zip(rows, found, strict=True):
        assert list(one.scores) == wanted
        for metric, value in one.scores.items():
            if value is None:
                note = one.notes[metric]
                assert 0 < len(note) < 80, (row.id, metric, note)
                for word in ("failed:", "died", "stopped"):
                    assert word not in note, (row.id, metric, note)
            else:
                assert math.isfinite(value), (row.id, metric)
                assert metric not in one.notes


def test_the_plain_page_is_scored_by_all(scorers: list[Chosen]) -> None:
    page = Sample("plain", "", PLAIN, PLAIN, (Assertion("p"),), "stop")
    (found,) = score_in_workers([page], scorers)
    assert found.notes == {}
