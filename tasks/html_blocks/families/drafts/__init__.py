"""The pages and fragments that the family of edits changes, one a file."""

from __future__ import annotations

from collections.abc import Callable

from ...choices import Choices
from .draft import Change, Draft
from .figure import FigureDraft
from .form import FormDraft
from .list import ListDraft
from .nav import NavDraft
from .page import PageDraft
from .table import TableDraft

# The one with the fewest fillings first (see choices.py).
DRAFTS: tuple[Callable[[Choices], Draft], ...] = (
    FormDraft,
    NavDraft,
    FigureDraft,
    ListDraft,
    TableDraft,
    PageDraft,
)

__all__ = ["DRAFTS", "Change", "Draft"]
