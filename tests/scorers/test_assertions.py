"""DOM assertions: the meaning of each field, and the two metrics."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.records import Assertion, Sample
from harness.scorers import get
from harness.scorers.html.assertions import check, check_page
from harness.scorers.html.page import MAX_CHARACTERS, Page, parse
from tests.support.limits import cpu_limit

PAGE = """
<h1>Our  <em>menu</em></h1>
<form action="/join"><input type="email" required><button class=" big  red ">Join</button></form>
<ul><li>one</li><li>two</li></ul><p hidden></p><svg viewBox="0 0 1 1"></svg>
<table><tr><td>cell</td></tr></table>
"""


@pytest.mark.parametrize(
    ("assertion", "holds"),
    [
        (Assertion("form"), True),
        (Assertion("nav"), False),
        (Assertion("li", count=2), True),
        (Assertion("li", count=1), False),
        (Assertion("li", count=3), False),
        (Assertion("nav", count=0), True),
        (Assertion("li", count=0), False),
        (Assertion("form input[type=email][required]", count=1), True),
        (Assertion("h1", text="Our menu"), True),
        (Assertion("h1", text="our menu"), False),
        (Assertion("h1", text="Our"), False),
        (Assertion("h1", text="Our menu now"), False),
        (Assertion("li", text="two"), True),  # some of them
        (Assertion("li", text="three"), False),
        (Assertion("p", text=""), True),
        (Assertion("li", text=""), False),
        (Assertion("li", count=2, text="two"), True),
        (Assertion("li", count=1, text="two"), False),
        (Assertion("li", count=2, text="three"), False),
        (Assertion("input", attribute="required"), True),
        (Assertion("input", attribute="required", value=""), True),
        (Assertion("input", attribute="type", value="email"), True),
        (Assertion("input", attribute="type", value="mail"), False),
        (Assertion("input", attribute="name"), False),
        (Assertion("button", attribute="class", value="big red"), True),
        (Assertion("button", attribute="class", value="red big"), False),
        (Assertion("svg", attribute="viewBox", value="0 0 1 1"), True),
        (Assertion("li:nth-child(2)", text="two"), True),
        (Assertion("table > tbody > tr > td", text="cell"), True),  # the parser's tbody
        (Assertion("html > body h1"), True),
        (Assertion("button", text="Join", attribute="class", value="big red"), True),
        (Assertion("button", text="Join", attribute="id"), False),
    ],
)
def test_check(assertion: Assertion, holds: bool) -> None:
    assert check(PAGE, assertion) is holds
    page = parse(PAGE)
    assert isinstance(page, Page)
    assert check_page(page, assertion) is holds


def test_text_comes_from_pieces_and_not_from_comments() -> None:
    assert check("<p>a<b>b</b>\n <!-- no -->c</p>", Assertion("p", text="ab c"))
    assert check("<p>a&nbsp;b</p>", Assertion("p", text="a b"))
    assert check("<p>日本 語</p>", Assertion("p", text="日本 語"))


def score(text: str, *assertions: Assertion) -> tuple[float | None, ...]:
    sample = Sample("s", "", "", text, assertions)
    return tuple(get(["assertions"])[0].score(sample).scores.values())


def test_share_and_all() -> None:
    one, two, three = Assertion("h1"), Assertion("nav"), Assertion("li", count=2)
    assert score(PAGE, one, two, three, three) == (0.75, 0.0)
    assert score(PAGE, one, three) == (1.0, 1.0)
    assert score(PAGE, two) == (0.0, 0.0)
    assert score("", one, two) == (0.0, 0.0)


def test_unscored_without_assertions_or_past_the_bounds() -> None:
    assert score(PAGE) == (None, None)
    huge = "<h1>x</h1>" + "x" * MAX_CHARACTERS
    assert score(huge, Assertion("h1")) == (None, None)
    assert check(huge, Assertion("h1")) is False


@pytest.mark.parametrize("selector", ["div[", "", "a >", "::before", ":nosuch"])
def test_a_bad_selector_is_the_authors_error(selector: str) -> None:
    with pytest.raises(UsageError) as error:
        check(PAGE, Assertion(selector))
    assert repr(selector) in str(error.value)
    assert "\n" not in str(error.value)


def test_deep_pages_are_checked() -> None:
    page = "<ul><li>x" * 450 + '<a href="#">y</a>' * 500
    absent = (Assertion("nav ul li a"), Assertion("li", text="none of it"))
    with cpu_limit():
        assert score(page, *absent) == (0.0, 0.0)
