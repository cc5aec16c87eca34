"""ROUGE against rouge-score itself, by hand, and on huge texts."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from harness.scorers import Unscored
from harness.scorers.text import union_lcs
from harness.scorers.text.rouge import MAX_CELLS, rouge
from tests.support.limits import cpu_limit

PEER = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=False)


def peer(reference: str, prediction: str) -> dict[str, float]:
    return {name: float(s.fmeasure) for name, s in PEER.score(reference, prediction).items()}


def assert_equal(reference: str, prediction: str) -> None:
    ours, theirs = rouge(reference, prediction), peer(reference, prediction)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), (name, reference, prediction)


def words(rng: random.Random) -> str:
    vocabulary = "abcdefghijkl"[: rng.choice([1, 2, 3, 5, 12])]
    if rng.random() < 0.3:
        vocabulary += "Ж<K"
    space = " " * rng.choice([1, 2, 8])
    size = rng.choice([0, 1, 4, 12, 40])
    return "".join(rng.choice(vocabulary) + rng.choice(space + "\n") for _ in range(size))


def markup(rng: random.Random) -> str:
    lines = []
    for _ in range(rng.randint(0, 25)):
        tag = rng.choice(["div", "p", "li", "ul", "h1", "a"])
        text = " ".join(rng.choice(["home", "Join", "us", "42"]) for _ in range(rng.randint(0, 4)))
        lines.append(
            rng.choice([f"<{tag}>", f"</{tag}>", f'  <{tag} class="{text}">{text}</{tag}>', ""])
        )
    return rng.choice(["\n", "\r\n", "\n\n"]).join(lines)


@pytest.mark.parametrize(("make", "pairs"), [(words, 1500), (markup, 500)])
def test_equal_to_rouge_score_on_many_pairs(
    make: Callable[[random.Random], str], pairs: int
) -> None:
    rng = random.Random(0)
    for _ in range(pairs):
        assert_equal(make(rng), make(rng))


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_equal_to_rouge_score_on_any_text(reference: str, prediction: str) -> None:
    assert_equal(reference, prediction)


def test_long_lines_cross_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    pairs = [[" ".join(rng.choices("abcde", k=30)) for _ in range(2)] for _ in range(150)]
    monkeypatch.setattr(union_lcs, "_BLOCK", 7)
    for reference, prediction in pairs:
        assert_equal(reference, prediction)


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        # Reference a b c d (3 pairs), prediction a c b d: 4 common words, no common pair,
        # LCS a b d (or a c d): P = R = 3/4.
        ("a b c d", "a c b d", (1.0, 0.0, 0.75, 0.75)),
        # P = 2/2, R = 2/4, F = 2/3; pairs: 1/1, 1/3, F = 1/2.
        ("a b c d", "a b", (2 / 3, 0.5, 2 / 3, 2 / 3)),
        # Lines change places: LCS 2 of 4; line by line all 4. Pairs: a b, b c, c d against
        # c d, d a, a b: 2 of 3.
        ("a b\nc d", "c d\na b", (1.0, 2 / 3, 0.5, 1.0)),
        # The word counts at most as often as the prediction has it: 1 of 3, 1 of 1.
        ("a a a", "a", (0.5, 0.0, 0.5, 0.5)),
        # Lin 2004, 3.2: w1..w5 against w1 w2 w6 w7 w8 / w1 w3 w8 w9 w5: union w1 w2 w3 w5, 4/5
        # of the reference, 4/10 of the prediction; LCS of the whole: w1 w2 w3 w5, too.
        (
            "w1 w2 w3 w4 w5",
            "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5",
            (8 / 15, 2 / 13, 8 / 15, 8 / 15),
        ),
        ("<div><p>hello</p></div>", "div p hello p div", (1.0, 1.0, 1.0, 1.0)),
        ("привет", "привет", (0.0, 0.0, 0.0, 0.0)),
        ("", "", (0.0, 0.0, 0.0, 0.0)),
        ("a", "", (0.0, 0.0, 0.0, 0.0)),
        ("a", "A", (1.0, 0.0, 1.0, 1.0)),
    ],
)
def test_by_hand(reference: str, prediction: str, expected: tuple[float, ...]) -> None:
    assert tuple(rouge(reference, prediction).values()) == pytest.approx(expected, abs=1e-12)


def test_which_lcs_is_taken_decides_the_union() -> None:
    # x y against y x: rouge-score walks back to "y"; against x, y alone: both.
    assert union_lcs.union_hits([[1, 2]], [[2, 1]]) == 1
    assert union_lcs.union_hits([[1, 2]], [[1], [2]]) == 2
    assert union_lcs.union_hits([[1, 2], [1, 2]], [[1, 2]]) == 2
    assert union_lcs.union_hits([], []) == 0


def page(seed: int, tokens: int, lines: int) -> str:
    rng = random.Random(seed)
    each = tokens // lines
    return "\n".join(
        " ".join(f"w{int(rng.paretovariate(0.7)) % 300}" for _ in range(each)) for _ in range(lines)
    )


@pytest.mark.parametrize("lines", [1, 2000])
def test_huge_texts_are_scored(lines: int) -> None:
    """A table of 30,000 x 30,000 words, cell by cell in Python, would take many minutes."""
    a, b = page(1, 30_000, lines), page(2, 30_000, lines)
    with cpu_limit():
        assert rouge(a, a)["rougeLsum"] == 1.0
        assert isinstance(rouge(a, b)["rougeLsum"], float)


def test_what_is_compared_is_bounded() -> None:
    many = int(MAX_CELLS**0.5) + 10
    scores = rouge("a " * many, "a " * (many - 1))
    assert isinstance(scores["rougeL"], Unscored)
    assert isinstance(scores["rougeLsum"], Unscored)
    assert scores["rouge1"] == pytest.approx(1.0, abs=1e-4)
    assert rouge("a " * many, "a " * many)["rougeL"] == 1.0
