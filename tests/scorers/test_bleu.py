"""BLEU against sacrebleu, its tokenizer word for word and its score to the last bit."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from harness.scorers import get
from harness.scorers.base import Unscored
from harness.scorers.text.bleu import MAX_CHARACTERS, MAX_MARKS, bleu, tokens_13a
from tests.support.limits import cpu_limit
from tests.support.text_pairs import HOSTILE, made_up, pairs, real_pairs

PEER = BLEU(effective_order=True)


def peer(reference: str, prediction: str) -> float:
    return float(PEER.sentence_score(prediction, [reference]).score)


def peer_tokens(text: str) -> list[str]:
    return list(PEER.tokenizer(text.rstrip()).split())


def test_equal_to_sacrebleu_on_thousands_of_pairs() -> None:
    made = list(pairs(4000))
    different = [(r, p) for r, p in made if bleu(r, p) != peer(r, p)]
    print(f"bleu: {len(made)} made-up pairs, {len(different)} differ")
    assert not different


def test_equal_to_sacrebleu_on_real_pages() -> None:
    real = real_pairs(250)
    different = [(r, p) for r, p in real if bleu(r, p) != peer(r, p)]
    print(f"bleu: {len(real)} real pairs, {len(different)} differ")
    assert not different


def test_the_tokenizer_is_sacrebleus() -> None:
    rng = random.Random(3)
    signs = "".join(map(chr, range(128))) + ".,-.,-.,-.,-0123456789" * 3 + "é界\ud800"
    texts = [made_up(rng) for _ in range(3000)]
    texts += ["".join(rng.choices(signs, k=rng.randrange(25))) for _ in range(6000)]
    texts += ["".join(rng.choices("a1.,-", k=rng.randrange(9))) for _ in range(3000)]
    different = [text for text in texts if tokens_13a(text) != peer_tokens(text)]
    print(f"13a: {len(texts)} texts, {len(different)} differ")
    assert not different


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_equal_to_sacrebleu_on_any_text(reference: str, prediction: str) -> None:
    assert tokens_13a(reference) == peer_tokens(reference)
    value = bleu(reference, prediction)
    assert value == peer(reference, prediction)
    assert isinstance(value, float)
    best = bleu(reference, reference)
    assert isinstance(best, float)
    assert 0.0 <= value <= max(best, 100.0) + 1e-9


def test_the_signature_holds_sacrebleus_own() -> None:
    (metric,) = get(["bleu"])[0].metrics
    peer("a", "a")
    theirs, version = str(PEER.get_signature()).rsplit("|version:", 1)
    assert str(metric.signature) == f"bleu|{theirs}|like:sacrebleu-{version}|text:raw|v1"


def test_hostile_texts_are_scored() -> None:
    for text in HOSTILE.values():
        with cpu_limit():
            value = bleu(text, text[7:] + "x")
        marks = sum(map(text.count, ".,-"))
        assert isinstance(value, Unscored) == (len(text) > MAX_CHARACTERS or marks > MAX_MARKS)
