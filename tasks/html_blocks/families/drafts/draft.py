"""What a draft is: a page or fragment that is drawn, written, changed and written again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.records import Assertion

from ...choices import Choices


@dataclass(frozen=True)
class Change:
    """One change in three wordings, and what holds after it.

    order: a sentence in the imperative. state: a clause that is true afterwards. terse: a note.
    """

    order: str
    state: str
    terse: str
    checks: tuple[Assertion, ...]


class Draft(ABC):
    """A draft; its changes touch different parts of it, so that they go together in any order."""

    @abstractmethod
    def write(self) -> str:
        """The draft as it is now."""

    def needed(self) -> Sequence[Callable[[Choices], Change]]:
        """The change (at most one) that is always asked, since the draft is not valid without."""
        return ()

    @abstractmethod
    def changes(self) -> Sequence[Callable[[Choices], Change]]:
        """What else may be asked of this draft; calling one changes it."""

    @abstractmethod
    def kept(self) -> Sequence[Assertion]:
        """What holds once the changes are made and nothing else was."""
