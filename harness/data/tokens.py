"""Text to token ids, the same way in training, in the measured loss and in generation.

A sample is the prompt's ids followed by the completion's ids and end-of-text. Prompt and
completion are tokenised apart, so that the boundary stands where generation will stand too.

What stands in the data is text, whatever it looks like: `<s>` and `</s>`, HTML's strike-through,
are llama's BOS and end-of-text, and encoded as such an answer would be trained to end in its
middle. Control tokens come from the template and from the tokenizer's own rules only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

from harness.data.prompt import render
from harness.errors import RunError
from harness.records import Example

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


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


def with_labels(samples: Iterable[TokenSample]) -> list[TokenSample]:
    """The samples that have a token to learn from or to score; the others were cut before it."""
    return [sample for sample in samples if sample.scored_tokens > 0]


def spelling(bytes_per_token: float, vocabulary: int) -> str | None:
    """What to say of a tokenizer that makes hardly any use of its tokens; None of another."""
    if vocabulary <= 5_000 or bytes_per_token >= 1.5:
        return None
    return (
        f"the tokenizer cuts answers into tokens of {bytes_per_token:.1f} bytes, as if it spelt "
        "every word out; if it came with these weights it may be damaged, and all numbers with it"
    )


def prompt_room(context: int, max_new_tokens: int) -> int:
    """Tokens that a prompt may have: what the answer leaves of the context, and at least half."""
    return max(context - max_new_tokens, context // 2)


def left_open(ids: list[int], bos: int | None, eos: int | None) -> list[int]:
    """A text's ids as those of a prompt: at most one BOS, and nothing that ends it.

    Some tokenizers end every text with end-of-text: a prompt goes on, so it must not.
    """
    while len(ids) > 1 and bos is not None and ids[0] == bos and ids[1] == bos:
        ids = ids[1:]
    while len(ids) > 1 and ids[-1] == eos:
        ids = ids[:-1]
    return ids


def within(ids: list[int], room: int, bos: int | None) -> tuple[list[int], bool]:
    """A prompt's ids, at most `room` of them, and whether some were cut.

    The beginning is cut, but for the BOS: what is asked mostly stands at the end.
    """
    if len(ids) <= room:
        return ids, False
    lead = ids[:1] if ids[0] == bos and room > 1 else []
    return [*lead, *ids[len(ids) - room + len(lead) :]], True


class Codec:
    """A tokenizer with this project's rules: exactly one BOS where the model has one, ids only.

    ends: ids that end an answer beside the tokenizer's own end-of-text, as the model declares them.
    embeddings: how many ids the model has an embedding for; None where that is not known.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str,
        ends: Collection[int] = (),
        embeddings: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.eos: int = tokenizer.eos_token_id
        self._declared = frozenset(ends)
        self._embeddings = embeddings

    @property
    def ends(self) -> frozenset[int]:
        """The ids that end an answer."""
        return self._declared | {self.eos}

    # --- to ids ------------------------------------------------------------------------------

    def prompt_ids(self, prompt: str) -> list[int]:
        """Ids of the rendered template, led by one BOS where the tokenizer adds it.

        Raises RunError where the prompt cannot be written without control tokens of its own.
        """
        text = render(self.template, prompt)
        ids: list[int] = self.tokenizer(text)["input_ids"]
        if self._controls(ids) != self._templates_own or self._says_unknown(prompt):
            ids = self._around(prompt)
        return self._known(left_open(ids, self.tokenizer.bos_token_id, self.eos))

    def prompt_within(self, prompt: str, room: int) -> tuple[list[int], bool]:
        """`prompt_ids`, at most `room` of them, and whether some were cut (see `within`)."""
        return within(self.prompt_ids(prompt), room, self.tokenizer.bos_token_id)

    @cached_property
    def lead(self) -> tuple[int, ...]:
        """Ids that prompts begin with: what is before the prompt in the template. A prompt whose
        first characters merge with it may begin otherwise."""
        found = [self.prompt_ids(text) for text in ("a", "0", "<p>", "Write", "中")]
        return tuple(
            same[0] for same in takewhile(lambda c: len({*c}) == 1, zip(*found, strict=False))
        )

    def completion_ids(self, text: str) -> list[int]:
        """Ids of an answer, all of it text, then end-of-text."""
        return self._known([*self._plain(text), self.eos])

    def sample(self, example: Example, max_length: int) -> TokenSample:
        """`example` as ids, at most `max_length` of them; the completion's end goes first."""
        prompt = self.prompt_ids(example.prompt)
        completion = self.completion_ids(example.target)
        kept = [*prompt, *completion][:max_length]
        cut = len(prompt) + len(completion) > max_length
        size = len(example.target.encode("utf-8", "replace"))
        if cut:
            size = self._bytes(example.target, completion, max(0, len(kept) - len(prompt)))
        return TokenSample(
            id=example.id,
            ids=tuple(kept),
            prompt_tokens=min(len(prompt), len(kept)),
            bytes=size,
            cut=cut,
        )

    # --- to text -----------------------------------------------------------------------------

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids; control tokens are left out, text that looks like one stays."""
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def written(self, text: str) -> str:
        """What comes back of `text` as an answer: the best that a model with this tokenizer can
        say. Another text where the tokenizer folds case, drops line ends or lacks characters.

        Raises RunError where it cannot be encoded at all.
        """
        return self.decode(self.completion_ids(text)[:-1])

    # --- inside ------------------------------------------------------------------------------

    @cached_property
    def _control_tokens(self) -> dict[int, str]:
        """Id to text of the tokens that data must not be encoded as."""
        tokenizer = self.tokenizer
        found = {
            int(i): token.content
            for i, token in tokenizer.added_tokens_decoder.items()
            if token.special or i in self.ends
        }
        for token in tokenizer.all_special_tokens:
            if (known := tokenizer.convert_tokens_to_ids(token)) is not None:
                found.setdefault(int(known), str(token))
        for end in self.ends:
            found.setdefault(end, str(tokenizer.convert_ids_to_tokens(end)))
        unknown = tokenizer.unk_token_id
        if unknown is not None and unknown not in self.ends:
            # An unknown character is no control token.
            found.pop(unknown, None)
        return {i: text for i, text in found.items() if text}

    def _controls(self, ids: Sequence[int]) -> list[int]:
        return [i for i in ids if i in self._control_tokens]

    @cached_property
    def _templates_own(self) -> list[int]:
        """The control tokens that every prompt has: the template's and the tokenizer's."""
        return self._controls(self.tokenizer(render(self.template, "x"))["input_ids"])

    def _says_unknown(self, text: str) -> bool:
        """Whether the text of the token for unknown characters stands in `text`."""
        unknown = self.tokenizer.unk_token
        return bool(unknown) and unknown in text

    def _plain(self, text: str) -> list[int]:
        """Ids of `text` with nothing in it taken for a control token. Raises RunError."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not self._controls(ids) and not self._says_unknown(text):
            return ids
        try:
            found = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
            ids = found["input_ids"]
        except (TypeError, ValueError):
            pass  # a tokenizer that always takes text for text has no such switch
        # Merges of the vocabulary can make a control token of plain characters all the same.
        return [part for i in ids for part in self._spelled(i)]

    def _spelled(self, token: int) -> list[int]:
        """`token`, or where it is a control token its text, character by character."""
        text = self._control_tokens.get(token)
        if text is None:
            return [token]
        ids = [self.tokenizer.convert_tokens_to_ids(char) for char in text]
        lost = (None, self.tokenizer.unk_token_id)
        if any(i in lost or i in self._control_tokens for i in ids):
            raise RunError(
                f"the tokenizer cannot write {text[:60]!r} as text, only as its control token "
                f"{token}; take a tokenizer that can, or leave such rows out of the data."
            )
        return ids

    def _around(self, prompt: str) -> list[int]:
        """Ids of the rendered template where the prompt holds the text of control tokens.

        The prompt is taken apart at those texts; each piece is encoded for itself.
        """
        texts = sorted(self._control_tokens.values(), key=len, reverse=True)
        texts += [self.tokenizer.unk_token] if self.tokenizer.unk_token else []
        pieces = re.split(f"({'|'.join(map(re.escape, texts))})", prompt)
        before, after = self.template.split("{}", 1)
        pieces[0], pieces[-1] = before + pieces[0], pieces[-1] + after
        ids: list[int] = self.tokenizer(pieces[0])["input_ids"]
        while len(ids) > 1 and ids[-1] == self.eos:
            ids = ids[:-1]
        for at, piece in enumerate(pieces[1:], 1):
            ids += self._continued(piece, as_text=at % 2 == 1)
        own = [i for i in self._templates_own if i != self.eos]
        if [i for i in self._controls(ids) if i != self.eos] != own:
            raise RunError(
                f"the prompt {prompt[:60]!r} makes a control token together with the template; "
                "put a space or a line end around {} in the template."
            )
        return ids

    def _continued(self, text: str, as_text: bool) -> list[int]:
        """Ids of a piece in the middle of a text: encoded behind a line end, which is taken off
        again, since some tokenizers begin a text with a space of their own."""

        def encode(text: str) -> list[int]:
            if as_text:
                return self._plain(text)
            ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            return ids

        if not text:
            return []
        lead, whole = encode("\n"), encode(f"\n{text}")
        return whole[len(lead) :] if whole[: len(lead)] == lead else encode(text)

    def _known(self, ids: list[int]) -> list[int]:
        """`ids`, each of which has an embedding. Raises RunError."""
        if self._embeddings is not None and (top := max(ids, default=0)) >= self._embeddings:
            token = str(self.tokenizer.convert_ids_to_tokens(top))[:60]
            raise RunError(
                f"the tokenizer writes {token!r} as id {top}, for which the model has no embedding "
                f"(it has {self._embeddings}); take the tokenizer that belongs to the model, or "
                "leave such rows out of the data."
            )
        return ids

    def _bytes(self, target: str, completion: Sequence[int], kept: int) -> int:
        """UTF-8 bytes of `target` that the first `kept` ids of its completion stand for.

        Whole characters are counted as text; of one that is cut in two, the bytes of its tokens.
        """
        if kept >= len(completion) - 1:  # only end-of-text is missing
            return len(target.encode("utf-8", "replace"))
        text = self.decode(completion[:kept])
        same = _common(text, target)
        if same == len(text):
            return len(text.encode("utf-8", "replace"))
        if text[same:].strip("\ufffd"):  # not the target's text at all: a tokenizer that folds
            return len(text.encode("utf-8", "replace"))
        whole = kept
        while whole and _common(self.decode(completion[: whole - 1]), target) >= same:
            whole -= 1  # the fewest tokens that say all of the whole characters
        partial = sum(self._token_bytes(i) for i in completion[whole:kept])
        character = len(target[same].encode("utf-8", "replace"))
        return len(target[:same].encode("utf-8", "replace")) + min(partial, character - 1)

    def _token_bytes(self, token: int) -> int:
        """Bytes of a token that is a part of a character."""
        text = str(self.tokenizer.convert_ids_to_tokens(token))
        # In a byte-level vocabulary each character of a token stands for one byte.
        return 1 if _BYTE.fullmatch(text) else len(text)


def _common(a: str, b: str) -> int:
    """Characters that both texts begin with."""
    for at, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return at
    return min(len(a), len(b))
