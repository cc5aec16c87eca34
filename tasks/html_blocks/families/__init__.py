"""All families, in the order in which rows take turns: page and fragment kinds mixed."""

from __future__ import annotations

from typing import Any

from ..family import Family
from .articles import ARTICLES
from .cards import CARDS
from .definitions import DEFINITIONS
from .details import DETAILS
from .edits import EDITS
from .figures import FIGURES
from .forms import FORMS
from .headings import HEADINGS
from .lists import FLAT_LIST, NESTED_LIST
from .navigation import NAVIGATION
from .pages import PAGES
from .tables import TABLES

# An odd number, so that the two kinds of test rows (which alternate) meet every family in turn.
FAMILIES: tuple[Family[Any], ...] = (
    HEADINGS,
    FORMS,
    FLAT_LIST,
    PAGES,
    EDITS,
    TABLES,
    NAVIGATION,
    CARDS,
    NESTED_LIST,
    FIGURES,
    DEFINITIONS,
    ARTICLES,
    DETAILS,
)

__all__ = ["FAMILIES"]
