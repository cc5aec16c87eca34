"""How verbs print: what a command is for on standard output, or why that cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.errors import StorageError
from harness.host.console import color, emit, width

if TYPE_CHECKING:
    from harness.pipeline.publishing import Published
    from harness.reports import RunReport


def print_text(text: str) -> None:
    """Print what the command is for. Raises StorageError where standard output takes nothing."""
    if reason := emit(text):
        raise StorageError(f"standard output cannot be written to ({reason}); send it elsewhere.")


def print_filed(text: str, where: object, *, bold: bool = False) -> None:
    """Print what stands in files too, `where`: they are there, whatever standard output takes."""
    if reason := emit(text, bold=bold):
        from harness.host.progress import write

        write(
            f"harness: standard output cannot be written to ({reason}); the work is done, "
            f"see {where}."
        )


def print_published(reports: Sequence[RunReport], published: Published) -> None:
    """The comparison, and where its files are."""
    from harness.reports import comparison_terminal

    bold = color()
    table = comparison_terminal(reports, width(), bold)
    print_filed(f"{table}\n{published.text()}", published.folder / "comparison.md", bold=bold)


def short(line: str, most: int = 2_000) -> str:
    """A line for people: names from a file or a command line can have any length."""
    return line if len(line) <= most else f"{line[:most]}…"
