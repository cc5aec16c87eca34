"""Nothing crashes or hangs a scorer: every hostile text gets a number or a named reason."""

from __future__ import annotations

import math
import random

import pytest

from harness.records import Assertion, Sample
from harness.scorers import Chosen, get, metric_names, names
from harness.scorers.workers import pool
from harness.scorers.workers.pool import score_in_workers

PLAIN = "<!DOCTYPE html><html><head><title>t</title></head><body><p>a b</p></body></html>"


def _fuzzed(part: int) -> dict[str, str]:
    """Bytes as a damaged file has them, and characters that mean something to a parser."""
    draw = random.Random(3)
    found = {
        f"fuzzed bytes {n}": draw.randbytes(size).decode("utf-8", "surrogateescape")
        for n, size in enumerate((10, 1_000, 50_000 // part))
    }
    marks = ["<", ">", "/", "!", "-", "&", ";", "#x", "'", '"', "=", "a", "svg", "table", "\0", " "]
    for n, size in enumerate((30, 3_000, 60_000 // part)):
        found[f"fuzzed marks {n}"] = "".join(draw.choices(marks, k=size))
    tags = ["<table>", "<tr>", "<p>", "</p>", "<b>", "<i>", "<a>", "</b>", "<svg>", "<math>", "x"]
    found["fuzzed tags"] = "".join(draw.choices(tags, k=20_000 // part))
    return found


def _hostile(part: int) -> dict[str, str]:
    """Hostile texts by name, as long as scorers must bear, or a `part` of that."""
    few, many, most = 1_000 // part, 20_000 // part, 400_000 // part
    deep = 50_000 // part
    return {
        "empty": "",
        "white space": " \n\t\f\r\xa0" * few,
        "NUL": "\0",
        "NULs in tags": "<p\0 a\0='\0'>\0</p\0>" * few,
        "a lone surrogate": "\ud800",
        "lone surrogates in tags": "<p a='\udfff'>\ud800</p>" * few,
        "not characters": "\ufffe\uffff\U0010ffff\u202e\u0301" * few,
        "divs without end": "<div>" * many,
        "nested deep": "<div>" * deep + "x" + "</div>" * deep,
        "nested by the formatting rules": "<b><p>" * many,
        "attributes": "<p " + " ".join(f"a{n}=1" for n in range(many)) + ">x",
        "an attribute again and again": "<p " + "a=1 " * many + ">x",
        "comments open": "<!--" * many,
        "an attribute without end": '<a href="' + "x" * most,
        "angle brackets": "<" * most,
        "ampersands": "&" * most,
        "letters": "a" * most,
        "one letter too many": "a" * 400_001,
        "words": "word " * (3 * many),
        "different words": " ".join(map(str, range(3 * many))),
        "lines": "a b\n" * (3 * many),
        "siblings": "<p>x</p>" * many,
        "tables in tables": "<table><tr><td>" * (5 * few),
        "a select of options": "<select>" + "<option>" * many,
        "scripts": "<script>" * many,
        "a style without end": "<style>" + "@import url(" * many,
        "fences": "```html\n" * many,
        "a fence of ticks": "`" * (5 * many),
        "the same id": "<p id=a>x" * (10 * few),
        "ids": "".join(f"<p id=a{n}>x" for n in range(10 * few)),
        "a selector's nightmare": "<p class='" + "a " * (50 * few) + "'>x",
        **({"two million letters": "a" * 2_000_000} if part == 1 else {}),
        **_fuzzed(part),
    }


ROLES = ("prediction", "reference", "both")
PAIRED = 3  # of the pairs of hostile texts every third is tried


def _samples(role: str, part: int) -> list[Sample]:
    rows = []
    hostile = _hostile(part)
    texts = list(hostile.values())
    for at, name in enumerate(hostile):
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
    ("role", "part"),
    [("prediction", 20), *(pytest.param(role, 1, marks=pytest.mark.slow) for role in ROLES)],
)
def test_every_metric_is_a_number_or_a_note(
    role: str, part: int, scorers: list[Chosen], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The deadline is for two long texts at once; for one the scorers' own bounds hold, which a
    # slow machine shows with more time.
    monkeypatch.setattr(pool, "SECONDS", 12.0)
    rows = [Sample("plain", "", PLAIN, PLAIN), *_samples(role, part)]
    found = score_in_workers(rows, scorers, workers=1)
    wanted = [m for one in scorers for m in metric_names(one.asked)]
    for row, one in zip(rows, found, strict=True):
        assert list(one.scores) == wanted
        for metric, value in one.scores.items():
            if value is None:
                note = one.notes[metric]
                assert 0 < len(note) < 80, (row.id, metric, note)
                for word in ("failed:", "died", *(["stopped"] if role != "both" else [])):
                    assert word not in note, (row.id, metric, note)
            else:
                assert math.isfinite(value), (row.id, metric)
                assert metric not in one.notes


def test_the_plain_page_is_scored_by_all(scorers: list[Chosen]) -> None:
    page = Sample("plain", "", PLAIN, PLAIN, (Assertion("p"),), "stop")
    (found,) = score_in_workers([page], scorers)
    assert found.notes == {}
