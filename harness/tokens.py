"""Text to token ids, the same way in training, in the measured loss and in generation.

A sample is the prompt's ids followed by the completion's ids and end-of-text. Prompt and
completion are tokenised apart, so that the boundary stands where generation will stand too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.data.prompt import render
from harness.records import Example


@dataclass(frozen=True, slots=True)
class TokenSample:
    """ids: prompt then completion then end-of-text. `prompt_tokens` of them carry no label.

    cut: the completion did not fit and lost its end (and so its end-of-text).
    bytes: UTF-8 bytes of the completion text whose tokens are kept.
    """

    id: str
    ids: tuple[int, ...]
    prompt_tokens: int
    bytes: int
    cut: bool

    @property
    def scored_tokens(self) -> int:
        """Tokens that carry a label: a causal model predicts each from those before it."""
        return len(self.ids) - max(self.prompt_tokens, 1)


class Codec:
    """A tokenizer with this project's rules: exactly one BOS where the model has one, ids only."""

    def __init__(self, tokenizer: Any, template: str) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.eos: int = tokenizer.eos_token_id

    def prompt_ids(self, prompt: str) -> list[int]:
        """Ids of the rendered template, led by one BOS where the tokenizer adds it."""
        ids: list[int] = self.tokenizer(render(self.template, prompt))["input_ids"]
        bos, eos = self.tokenizer.bos_token_id, self.eos
        while len(ids) > 1 and bos is not None and ids[0] == bos and ids[1] == bos:
            ids = ids[1:]
        # Some tokenizers end every text with end-of-text: a prompt goes on, so it must not.
        while len(ids) > 1 and ids[-1] == eos:
            ids = ids[:-1]
        return ids

    def completion_ids(self, text: str) -> list[int]:
        """Ids of an answer without special tokens, then end-of-text."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self.eos]

    def sample(self, example: Example, max_length: int) -> TokenSample:
        """`example` as ids, at most `max_length` of them; the completion's end goes first."""
        prompt = self.prompt_ids(example.prompt)
        ids = [*prompt, *self.completion_ids(example.target)]
        cut = len(ids) > max_length
        kept = ids[:max_length]
        text = self.decode(kept[len(prompt) :]) if cut else example.target
        return TokenSample(
            id=example.id,
            ids=tuple(kept),
            prompt_tokens=min(len(prompt), len(kept)),
            bytes=len(text.encode("utf-8", "replace")),
            cut=cut,
        )

    def decode(self, ids: list[int]) -> str:
        """Text of generated ids; special tokens are left out, HTML tags that are tokens stay."""
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text
