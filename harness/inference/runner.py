"""What computes the steps of an engine: a small protocol, with a fast and a general way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from harness.inference.request import Request
from harness.inference.sampler import Choice


class Runner(Protocol):
    """Holds requests in slots and gives each its next token.

    steps:   how it computes, for people.
    mixed:   requests of different systems may be in slots at once.
    dense:   slots in use are the first ones: the engine moves requests together.
    lag:     steps that may be launched before the first of them is read.
    chunk:   tokens of prompts that are computed together; None: each prompt whole.
    """

    steps: str
    mixed: bool
    dense: bool
    lag: int
    chunk: int | None

    @property
    def slots(self) -> int:
        """Requests that are held at most; 0 before `reserve`."""
        ...

    @property
    def length(self) -> int:
        """Tokens that a request may have in all, prompt and answer."""
        ...

    def room(self, length: int) -> int:
        """How many requests of so many tokens memory has room for, one at the least."""
        ...

    def reserve(self, slots: int, length: int) -> None:
        """Have room for so many requests of so many tokens; what was held is forgotten.

        Raises torch.OutOfMemoryError.
        """
        ...

    def share(self, prefix: tuple[int, ...]) -> None:
        """Read what prompts begin with once, for each system; after `reserve`."""
        ...

    def begin(self, slot: int, request: Request) -> int:
        """The slot is the request's; how many tokens of its prompt are read already."""
        ...

    def prefill(self, parts: Sequence[tuple[int, Request, int, int]]) -> None:
        """Read tokens of prompts: each part is a slot, its request, and the first and the end of
        its tokens. The last token of a prompt is left to the first `launch`."""
        ...

    def start(self, slot: int, request: Request) -> None:
        """From the next step on, the slot gives tokens; its prompt has been read."""
        ...

    def stop(self, slot: int) -> None:
        """The slot is free."""
        ...

    def move(self, source: int, target: int) -> None:
        """What slot `source` holds becomes that of the free slot `target`."""
        ...

    def launch(self, rows: int, longest: int, choice: Choice) -> Any:
        """Begin the next token of the slots in use, all of which are below `rows`, and none of
        which is beyond `longest` tokens; returns what `read` takes."""
        ...

    def read(self, launched: Any) -> tuple[list[int], list[float] | None]:
        """The tokens of a step by slot, and where asked for their log p."""
        ...
