"""DOM assertions: what the task says must stand in the page."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.records import Assertion, Sample
from harness.scorers.base import Scorer, Unscored, Value, metric
from harness.scorers.html.page import PARSER, Page, parse

if TYPE_CHECKING:
    from bs4 import Tag
    from soupsieve import SoupSieve

_NAMES = ("assertions_passed", "assertions_all")


class Assertions(Scorer):
    """Two measures of a page against the sample's assertions (see harness.records.Assertion).

    assertions_passed: the share that hold, from 0 to 1.
    assertions_all:    1 where all hold, else 0.

    They see the parsed tree only, and only what the assertions speak of: a page that parses
    with errors, or that holds more than was asked, may pass. None where the sample has no
    assertions, or where the page is not parsed within its bounds (harness.scorers.html.page.parse).
    Source: our own definition; selectors are soupsieve's.
    """

    name = "assertions"
    summary = "share of the task's DOM assertions that the answer passes, and whether all do"
    version = 2
    metrics = (
        metric("assertions_passed", "higher", 2, dom=PARSER),
        metric("assertions_all", "higher", 2, binary=True, dom=PARSER),
    )

    def score(self, sample: Sample) -> dict[str, Value]:
        if not sample.assertions:
            return dict.fromkeys(_NAMES, Unscored("the sample has no assertions"))
        page = parse(sample.prediction)
        if isinstance(page, Unscored):
            return dict.fromkeys(_NAMES, page)
        held = [check_page(page, assertion) for assertion in sample.assertions]
        return {"assertions_passed": sum(held) / len(held), "assertions_all": float(all(held))}


def check(page: str, assertion: Assertion) -> bool:
    """Whether `assertion` holds on the text `page`; False where the text cannot be parsed.

    Raises UsageError where the selector is no CSS selector.
    """
    parsed = parse(page)
    return isinstance(parsed, Page) and check_page(parsed, assertion)


def check_page(page: Page, assertion: Assertion) -> bool:
    """As `check`, on a page that harness.scorers.html.page.parse has made: many checks, one parse.

    The elements that the selector matches are counted in the whole document, the html, head
    and body that the parser adds included. `text` is compared with an element's text as the
    DOM's textContent has it, both with white space folded to one space and stripped. `text`
    and `attribute` may hold on different elements; write the attribute into the selector
    where they must not.
    """
    found: list[Tag] = _selector(assertion.selector).select(page.soup)
    if not found if assertion.count is None else len(found) != assertion.count:
        return False
    if assertion.text is not None:
        words = assertion.text.split()
        if not any(_has_text(element, words) for element in found):
            return False
    if assertion.attribute is not None:
        values = [_attribute(element, assertion.attribute) for element in found]
        if assertion.value is None:
            return any(value is not None for value in values)
        return assertion.value in values
    return True


@lru_cache(maxsize=4096)
def _selector(selector: str) -> SoupSieve:
    import soupsieve

    try:
        return soupsieve.compile(selector)
    # RuntimeError: what soupsieve knows but does not do, as pseudo-elements.
    except (soupsieve.SelectorSyntaxError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".:")
        raise UsageError(
            f"The assertion's selector {selector!r} is no CSS selector ({reason}): "
            "correct it in the task's data."
        ) from None


def _has_text(element: Tag, words: list[str]) -> bool:
    from bs4.element import CData, NavigableString

    # Piece by piece and not get_text(): in a deep page that would read all text once for
    # each element that matches.
    room = sum(map(len, words))
    pieces: list[str] = []
    for node in element.descendants:
        if type(node) in (NavigableString, CData):
            pieces.append(str(node))
            room -= sum(map(len, node.split()))
            if room < 0:
                return False
    return "".join(pieces).split() == words


def _attribute(element: Tag, name: str) -> str | None:
    value = element.get(name)
    return " ".join(value) if isinstance(value, list) else value
