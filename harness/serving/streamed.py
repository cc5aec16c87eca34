"""Tokens into text as they come, at a cost that does not grow with the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What a tokenizer says for a character whose last token is still to come."""


class StreamedText:
    """The text of growing token ids, piece by piece.

    A token's text may depend on the one before it (a leading space that a first word does not
    have), so a piece is what the tokens since the last but one piece say together, less what they
    said without the new ones. decode: ids into text. said: all pieces so far.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._before = self._shown = 0
        self.said = ""

    def add(self, tokens: Sequence[int]) -> str:
        """The text that the tokens add; "" while they end within a character."""
        self._ids += tokens
        shown = self._decode(self._ids[self._before : self._shown])
        text = self._decode(self._ids[self._before :])
        if len(text) <= len(shown) or text.endswith(UNFINISHED):
            return ""
        self._before, self._shown = self._shown, len(self._ids)
        piece = text[len(shown) :]
        self.said += piece
        return piece
