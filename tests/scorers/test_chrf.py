"""chrF against sacrebleu, to the last bit, and on hostile texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from harness.scorers import get
from harness.scorers.base import Unscored
from harness.scorers.text.chrf import MAX_CHARACTERS, chrf
from harness.scorers.text.ngrams import common_ngrams
from tests.support.limits import cpu_limit
from tests.support.text_pairs import HOSTILE, pairs, real_pairs

PEER = CHRF()


def peer(reference: str, prediction: str) -> float:
    return float(PEER.sentence_score(prediction, [reference]).score)


def many_characters() -> list[tuple[str, str]]:
    """Texts with more than 1,021 distinct characters: too many for one key."""
    han = "".join(map(chr, range(0x4E00, 0x4E00 + 1500)))
    return [(han, han[3:] + han), (han * 2, han[::-1]), (han + "a", "ab" + han[700:])]


def test_equal_to_sacrebleu_on_thousands_of_pairs() -> None:
    made = [*pairs(4000), *many_characters()]
    different = [(r, p) for r, p in made if chrf(r, p) != peer(r, p)]
    print(f"chrf: {len(made)} made-up pairs, {len(different)} differ")
    assert not different


def test_equal_to_sacrebleu_on_real_pages() -> None:
    real = real_pairs(250)
    different = [(r, p) for r, p in real if chrf(r, p) != peer(r, p)]
    print(f"chrf: {len(real)} real pairs, {len(different)} differ")
    assert not different


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_equal_to_sacrebleu_on_any_text(reference: str, prediction: str) -> None:
    value = chrf(reference, prediction)
    assert value == peer(reference, prediction)
    assert isinstance(value, float)
    assert 0.0 <= value <= 100.0 + 1e-9
    assert chrf(reference, reference) == (100.0 if reference.split() else 0.0)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("top", [3, 900, 2_000_000])
def test_common_ngrams_equals_counting(order: int, top: int) -> None:
    rng = np.random.default_rng(0)
    for size in (0, 1, order - 1, order, 50, 3000):
        steps = rng.integers(0, 2, size + 40).cumsum() * (top // 1600 or 1) % top
        a, b = steps[:size], steps[20 : size + 20]
        if top == 3:
            a, b = rng.integers(0, top, size), rng.integers(0, top, size)
        grams = [
            [tuple(s[at : at + n]) for at in range(len(s) - n + 1)]
            for n in range(1, order + 1)
            for s in (a.tolist(), b.tolist())
        ]
        counted = [
            sum(min(x.count(gram), y.count(gram)) for gram in set(x)) if size <= 50 else None
            for x, y in zip(grams[::2], grams[1::2], strict=True)
        ]
        got = common_ngrams(a, b, order)
        assert len(got) == order
        assert all(want is None or have == want for have, want in zip(got, counted, strict=True))


def test_the_signature_holds_sacrebleus_own() -> None:
    (metric,) = get(["chrf"])[0].metrics
    peer("a", "a")
    theirs, version = str(PEER.get_signature()).rsplit("|version:", 1)
    assert str(metric.signature) == f"chrf|{theirs}|like:sacrebleu-{version}|text:raw|v1"


def test_hostile_texts_are_scored() -> None:
    for text in HOSTILE.values():
        with cpu_limit():
            value = chrf(text, text[7:] + "x")
        assert isinstance(value, Unscored) == (len(text) > MAX_CHARACTERS)
