"""The form of an answer: fences, loops against a plain second count, lengths, both texts."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.records import EXTRACTED, FinishReason, Sample
from harness.scorers import get
from harness.scorers.base import Unscored
from harness.scorers.text.form import MAX_CHARACTERS, length_ratio, repetition
from tests.support.limits import cpu_limit
from tests.support.text_pairs import HOSTILE, html_alpaca


def sample(prediction: str, reference: str = "", finish: FinishReason | None = "stop") -> Sample:
    return Sample("s", "", reference, prediction, finish_reason=finish)


@pytest.mark.parametrize(
    ("text", "fenced"),
    [
        ("```html\n<p>x</p>\n```", 1.0),
        ("Sure:\n\n   ```\nx", 1.0),
        ("text\n~~~ html\n", 1.0),
        ("````\nx", 1.0),
        ("```", 1.0),
        ("    ```\nindented code", 0.0),
        ("inline ``` x", 0.0),
        ("```one span``` of code", 0.0),
        ("``\nx", 0.0),
        ("<p>x</p>", 0.0),
        ("", 0.0),
    ],
)
def test_fenced(text: str, fenced: float) -> None:
    assert get(["answers"])[0].score(sample(text)).scores["fenced"] == fenced


@pytest.mark.parametrize(
    ("text", "empty"), [("", 1.0), (" \n\t\xa0", 1.0), (".", 0.0), ("\0", 0.0), ("<p>", 0.0)]
)
def test_empty(text: str, empty: float) -> None:
    assert get(["answers"])[0].score(sample(text)).scores["empty"] == empty


def test_truncated_follows_the_finish_reason_not_the_text() -> None:
    answers = get(["answers"])[0]
    assert answers.score(sample("<p>x", finish="length")).scores["truncated"] == 1.0
    assert answers.score(sample("<p>x", finish="stop")).scores["truncated"] == 0.0
    unknown = answers.score(sample("<p>x", finish=None))
    assert unknown.scores["truncated"] is None
    assert unknown.notes["truncated"] == "why the answer ended is not known"


def test_directions_and_what_is_yes_or_no() -> None:
    metrics = {m.name: m for m in get(["answers"])[0].metrics}
    assert {n for n, m in metrics.items() if m.direction == "higher"} == {"length_ratio"}
    assert [n for n, m in metrics.items() if m.binary] == ["empty", "truncated", "fenced"]


def test_extracted_text_is_scored_where_the_signature_says_so_and_raw_elsewhere() -> None:
    (answers,) = get(["answers"], "extracted")
    got = answers.score(sample("Sure:\n```html\n<p>x</p>\n```\n", "<p>x</p>"))
    assert got.scores["fenced"] == 1.0
    assert got.scores["length_ratio"] == 1.0
    assert got.details == {"characters": {"answer": 8, "reference": 8}}
    texts = {m.name: m.signature.text for m in answers.metrics}
    assert texts["fenced"] == "raw"
    assert texts["repetition"] == texts["length_ratio"] == EXTRACTED


def plain_repetition(text: str) -> float:
    """The definition, word for word and slowly."""
    text = "".join(text.split())
    lies = [False] * len(text)
    for end in range(32, len(text) + 1):
        if text.find(text[end - 32 : end]) < end - 32:
            lies[end - 32 : end] = [True] * 32
    return sum(lies) / len(text) if text else 0.0


def looping(rng: random.Random) -> str:
    piece = "".join(rng.choice("ab<>é界😀 ") for _ in range(rng.choice([1, 3, 20, 31, 32, 33, 50])))
    other = "".join(rng.choice("abcdefgh\ud800\0 ") for _ in range(rng.choice([0, 1, 40])))
    return "".join(rng.choice([piece, piece, other]) for _ in range(rng.randint(0, 8)))


def test_repetition_equals_a_plain_count() -> None:
    rng = random.Random(0)
    texts = [looping(rng) for _ in range(1500)]
    values = [repetition(text) for text in texts]
    assert values == [plain_repetition(text) for text in texts]
    assert sum(value not in (0.0, 1.0) for value in values) > 300


@pytest.mark.parametrize("copies", [2, 5, 40])
def test_copies_of_a_page_are_repeated_but_the_first(copies: int) -> None:
    page = "<h1>Title</h1><p>Some words that are said once only.</p>"
    assert repetition(page * copies) == pytest.approx((copies - 1) / copies)


def test_repetition_is_low_on_references() -> None:
    values = sorted(map(repetition, html_alpaca()))
    assert statistics.mean(values) < 0.05
    assert values[len(values) // 2] == 0.0
    assert values[len(values) * 9 // 10] < 0.15


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.text(max_size=80), st.text(max_size=80))
def test_bounds_and_symmetry(a: str, b: str) -> None:
    assert 0.0 <= repetition(a + b + a) < 1.0
    ratio = length_ratio(a, b)
    assert isinstance(ratio, Unscored) == (not a.strip())
    if not isinstance(ratio, Unscored):
        assert 0.0 <= ratio <= 1.0
        assert length_ratio(a, a) == 1.0
        assert not b.strip() or length_ratio(b, a) == ratio


def test_hostile_texts_are_scored() -> None:
    (answers,) = get(["answers"])
    for text in HOSTILE.values():
        if len(text) <= MAX_CHARACTERS:
            text = text[:100_000]
        with cpu_limit():
            got = answers.score(sample(text, "x"))
        assert (got.scores["repetition"] is None) == (len(text) > MAX_CHARACTERS)
