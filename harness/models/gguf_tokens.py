"""The tokens of a GGUF file by its own merges: the second witness of a converted tokenizer."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.errors import RunError
from harness.host.machine import version_of

PROBE = "Write a page whose heading says hello, with two paragraphs about the sea below it."


def check_tokenizer(tokenizer: Any, gguf: Path) -> None:
    """Hold the tokenizer that transformers made of a file against the file's own merges.

    Some versions of transformers make one of SentencePiece's merges that spells every word out:
    nothing fails, and all that is then trained and scored is wrong. Files with merges of another
    kind are not checked. Raises RunError.
    """
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields
    if fields["tokenizer.ggml.model"].contents() != "llama":
        return
    tokens = fields["tokenizer.ggml.tokens"].contents()
    scores = dict(zip(tokens, fields["tokenizer.ggml.scores"].contents(), strict=True))
    wanted, found = merged(PROBE, scores), tokenizer.tokenize(PROBE)
    # Some tokenizers put a space before a text's first word.
    if found not in (wanted, merged(f" {PROBE}", scores)):
        raise RunError(
            f"transformers {version_of('transformers')} makes a tokenizer of {gguf.name} that cuts "
            f"a sentence into {len(found)} tokens, where the file's own merges make {len(wanted)}: "
            "install the version in constraints.txt."
        )


def merged(text: str, scores: dict[str, float]) -> list[str]:
    """The pieces of `text` as SentencePiece's BPE makes them: from its letters on, the two
    neighbours are joined that make the token with the highest score, the leftmost first."""
    parts = [*text.replace(" ", "▁")]
    while True:
        pairs = [a + b for a, b in pairwise(parts)]
        known = [at for at, pair in enumerate(pairs) if pair in scores]
        if not known:
            return parts
        at = max(known, key=lambda at: (scores[pairs[at]], -at))
        parts[at : at + 2] = [pairs[at]]
