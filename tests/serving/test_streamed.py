"""Tokens into text as they come: the pieces are the whole, whatever the tokenizer does."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from harness.serving.streamed import StreamedText


def byte_level() -> Tokenizer:
    """As GPT-2's and Falcon's: a token for each byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def sentence_piece() -> Tokenizer:
    """As Llama's: words with the space before them, a first one of its own, the rest in bytes."""
    words = [*"▁abcdefgh<>/\n", *(f"<0x{i:02X}>" for i in range(256)), "▁a", "▁b"]
    merges = [("▁", "a"), ("▁", "b")]
    made = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, merges, byte_fallback=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return made


TOKENIZERS = {"byte level": byte_level(), "sentence piece": sentence_piece()}
TEXTS = st.text(st.sampled_from([*"ab <>/\n", "é", "頁", "😀"]), max_size=30)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=TEXTS, ends=st.lists(st.integers(0, 100), max_size=20))
def test_the_pieces_are_the_whole(kind: str, text: str, ends: list[int]) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text
    at = [0, *sorted(end for end in ends if end < len(ids)), len(ids)]
    said = StreamedText(lambda some: tokenizer.decode(list(some)))
    pieces = [said.add(ids[a:b]) for a, b in pairwise(at)]
    assert "".join(pieces) == said.said == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_piece_costs_the_same_at_the_end_of_a_long_answer() -> None:
    sizes: list[int] = []

    def decode(ids: object) -> str:
        assert isinstance(ids, list)
        sizes.append(len(ids))
        return "".join(chr(97 + i) for i in ids)

    text = StreamedText(decode)
    for i in range(1000):
        assert text.add([i % 26]) == chr(97 + i % 26)
    assert max(sizes) <= 2
