"""What a page runs and fetches: golden cases, addresses as pages write them, hostile input."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.records import Sample
from harness.scorers.html.addresses import candidates, in_css, is_external, refresh, resolve
from harness.scorers.html.content import MAX_ADDRESS, MAX_DETAILS, Content, Inventory, inventory
from harness.scorers.html.names import HANDLERS
from harness.scorers.html.page import Page, parse
from tests.support.limits import cpu_limit

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "baselines" / "goldens" / "content.toml"


def external(text: str) -> tuple[str, ...]:
    found = inventory(text)
    assert isinstance(found, Inventory)
    return found.external


def test_details_list_the_addresses_and_are_cut() -> None:
    few = Sample("s", "", "", "<img src=//a.example/1><img src=//a.example/2>")
    assert Content().details(few) == {
        "external_requests": ["//a.example/1", "//a.example/2"],
    }
    many = "".join(f"<img src=//a.example/{'x' * 300}{n}>" for n in range(30))
    listed = Content().details(Sample("s", "", "", many))["external_requests"]
    assert len(listed) == MAX_DETAILS
    assert {len(address) for address in listed} == {MAX_ADDRESS}
    assert Content().score(Sample("s", "", "", many))["external_requests"] == 30
    assert Content().details(Sample("s", "", "", "<img src=a>")) == {}


def test_handlers_are_names_of_events() -> None:
    assert {"onclick", "onload", "ontouchstart", "onpointerdown", "onanimationend"} <= HANDLERS
    assert all(name.startswith("on") and name[2:].isalpha() for name in HANDLERS)


@pytest.mark.parametrize(
    ("address", "base", "expected"),
    [
        ("http://a.example", "", True),
        (" \nHTTPS:\t//a.example ", "", True),
        ("https:a.example", "", True),  # as browsers read it
        ("//a.example", "", True),
        ("\\/a.example", "", True),
        ("http://", "", False),
        ("/a", "", False),
        ("a/b.png", "", False),
        ("a//b", "", False),
        ("", "http://a.example", False),
        ("#x", "http://a.example", False),
        ("a", "http://a.example", True),
        ("a", "/x/", False),
        ("data:text/html,http://a.example", "http://a.example", False),
        ("javascript:x()", "http://a.example", False),
    ],
)
def test_external_addresses(address: str, base: str, expected: bool) -> None:
    assert is_external(address, base) is expected


def test_addresses_are_joined_to_the_base() -> None:
    assert resolve("b#c", "https://a.example/x/y") == "https://a.example/x/b"
    assert resolve("//b.example/#c", "https://a.example") == "//b.example/"
    assert resolve("b", "http://[") == "b"


@pytest.mark.parametrize(
    ("srcset", "expected"),
    [
        ("a", ["a"]),
        ("a 1x, b 2x", ["a", "b"]),
        (" ,a, b 2x ,c", ["a", "b", "c"]),
        ("a,b 1x", ["a,b"]),  # no white space, no new candidate
        ("data:x,y 1x, b", ["data:x,y", "b"]),
        ("a 1x,b 2x", ["a", "b"]),
        (" , ", []),
        ("", []),
    ],
)
def test_candidates_of_a_srcset(srcset: str, expected: list[str]) -> None:
    assert list(candidates(srcset)) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("5; url=x", "x"),
        ("0;URL='x y'z", "x y"),
        ("1.5, x", "x"),
        ('3 url = "x"', "x"),
        ("5", ""),
        ("5;", ""),
        ("url=x", ""),
        ("", ""),
    ],
)
def test_address_of_a_refresh(content: str, expected: str) -> None:
    assert refresh(content) == expected


@pytest.mark.parametrize(
    ("sheet", "expected"),
    [
        ("a{b:url(x)}", ["x"]),
        ("a{b:URL( 'x y' ), url(\"z\")}", ["x y", "z"]),
        ("@import 'x'; @import url(y);", ["x", "y"]),
        ("/* url(x) */ a{b:url(y)} /* url(z)", ["y"]),
        ("a{content:'url(x)'}", []),
        ("@namespace url(x); a{b:url(y)}", ["y"]),
        ("a{b:curl(x)}", []),
        ("a{b:url(x", ["x"]),
        ("a{b:'\n;c:url(x)}", ["x"]),  # a string ends with its line
    ],
)
def test_addresses_in_css(sheet: str, expected: list[str]) -> None:
    assert list(in_css(sheet)) == expected


def test_the_same_address_written_in_other_places_is_one_request() -> None:
    one = "//a.example/x"
    text = f"<style>@import '{one}';</style><img src={one}><p style='b:url({one})'>"
    assert external(text) == ("//a.example/x",)


PIECES = (
    "<script>", "</script>", "x", "<img src=//a.example>", "<p onclick=x>", ">",
    "<base href=//b.example>", "<img src=c>", "<template>", "</template>", "<noscript>",
    "</noscript>", "<style>", "</style>", "@import '//d.example';", "url(//e.example)", "<svg>",
    "</svg>", "<image href=//f.example />",
    "<meta http-equiv=refresh content='0;//g.example'>", "<link rel=icon href=//h.example>", "\0",
    "\ud800", "<", "'", "<img srcset='//i.example,'>",
)  # fmt: skip


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_counts_are_whole_and_within_what_was_written(text: str) -> None:
    found = inventory(text)
    assert isinstance(found, Inventory)
    assert 0 <= found.scripts <= text.count("<script>")
    assert 0 <= found.handlers <= text.count("onclick")
    assert len(found.external) == len(set(found.external)) <= 10


@pytest.mark.parametrize(
    "text",
    [
        "<style>" + "/*" * 150_000,
        "<style>" + "url(" * 90_000,
        "<style>url(" + " " * 350_000,
        "<style>" + "\"'" * 150_000,
        "<img srcset='" + ", " * 150_000 + "'>",
        "<meta http-equiv=refresh content='" + "1 " * 150_000 + "'>",
        "<img src=//a.example>" * 10_000,
        "<base href='http://['>" + "<img src=a>" * 10_000,
    ],
)
def test_hostile_pages_are_done_soon(text: str) -> None:
    assert isinstance(parse(text), Page)
    with cpu_limit():
        assert len(Content().score(Sample("s", "", "", text))) == 3
