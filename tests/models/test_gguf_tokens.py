"""A tokenizer made of a GGUF file is held against the file's own merges."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gguf import GGUFWriter

from harness.errors import RunError
from harness.models.gguf_tokens import PROBE, check_tokenizer, merged

SCORES = {
    "ab": -1.0,
    "bc": -0.5,
    "abc": -3.0,
    "a": -9.0,
    "b": -9.0,
    "c": -9.0,
    "▁": -9.0,
    "▁a": -2.0,
}


def test_the_best_neighbours_are_joined_first() -> None:
    assert merged("abc", SCORES) == ["abc"]  # b and c, then a before them
    assert merged("ab ab", SCORES) == ["ab", "▁", "ab"]  # not ▁ and a: a and b come before
    assert merged("xbcx", SCORES) == ["x", "bc", "x"]
    assert merged("", SCORES) == []


def file_of(path: Path, kind: str) -> Path:
    writer = GGUFWriter(path, "llama")
    words = PROBE.replace(" ", " ▁").split()
    tokens = [*dict.fromkeys([*"".join(words), *(w[:n] for w in words for n in range(2, 20))])]
    writer.add_tokenizer_model(kind)
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(i) for i in range(len(tokens))])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_a_tokenizer_that_spells_words_out_is_refused(tmp_path: Path) -> None:
    def tokenizer(cut: Any) -> Any:
        return SimpleNamespace(tokenize=cut)

    spelling = tokenizer(lambda text: [*text.replace(" ", "▁")])
    file = file_of(tmp_path / "m.gguf", "llama")
    check_tokenizer(tokenizer(lambda text: text.replace(" ", " ▁").split()), file)
    with pytest.raises(RunError, match=r"into \d+ tokens, where the file's own merges make 15"):
        check_tokenizer(spelling, file)
    check_tokenizer(spelling, file_of(tmp_path / "other.gguf", "gpt2"))
