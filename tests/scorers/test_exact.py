"""Exact match and the normal form: by hand, properties, hostile pages, mutations."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.records import Sample
from harness.regression.goldens import faults_of, read_cases
from harness.scorers import get
from harness.scorers.base import Unscored
from harness.scorers.html import normal_form as module
from harness.scorers.html.normal_form import normal_form
from harness.scorers.text.exact import ExactMatch
from tests.support.blocks import rows_of
from tests.support.limits import cpu_limit

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"


def score(reference: str, prediction: str) -> tuple[object, object]:
    """exact_match and exact_match_normalized."""
    scored = get(["exact_match"])[0].score(Sample("s", "", reference, prediction)).scores
    return scored["exact_match"], scored["exact_match_normalized"]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("<p>a</p>", "<P>a"),
        ("<p class='b a'>x</p>", "<p class='a b  a'>x</p>"),
        ("<ul>\n <li>a</li>\n <li> b </li>\n</ul>", "<ul><li>a<li>b</ul>"),
        ("<p>a <b>b</b> </p>", "<p>a <b>b</b></p>"),
        ("<p>a <b> b</b></p>", "<p>a <b>b</b></p>"),
        ("a<!-- c -->b", "ab"),
        ("a <!-- c --> b", "a b"),
        ("<p>a <br> b</p>", "<p>a<br>b</p>"),
        ("<button> ok </button>", "<button>ok</button>"),
        ("<select>\n<option> a\n<option>b </select>", "<select><option>a<option>b</select>"),
        ("<head>\n<script>\n a()\n</script>\n</head>", "<script>a()</script>"),
        ("<style>\na {\n b: c\n}</style>", "<style>a { b: c }</style>"),
        (" <textarea> a</textarea> ", "<textarea> a</textarea>"),
        ("<pre>\na</pre>", "<pre>a</pre>"),  # the first line break is no content
        ("&amp;lt;", "&#38;lt;"),
        ("<html><body>x</body></html>", "x"),
        ("<p>x <span></span></p>", "<p>x<span></span></p>"),
        ("<div>a <script>b</script></div>", "<div>a<script>b</script></div>"),
    ],
)
def test_same(one: str, two: str) -> None:
    assert normal_form(one) == normal_form(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("<b>a</b> <b>b</b>", "<b>a</b><b>b</b>"),
        ("<b>a </b>b", "<b>a</b> b"),
        ("<pre>a  b</pre>", "<pre>a b</pre>"),
        ("<pre><b> a</b></pre>", "<pre><b>a</b></pre>"),
        ("<p>x", "<!DOCTYPE html><p>x"),
        ("<p id=a>", "<p id=A>"),
        ("<p id='a b'>", "<p id='b a'>"),
        ("<img> a", "<img>a"),
        ("<button>a</button> b", "<button>a</button>b"),
        ("<textarea> a</textarea>", "<textarea>a</textarea>"),
        ("<p>a&nbsp;</p>", "<p>a</p>"),
        ("a <script></script>b", "a<script></script>b"),
        ("<p class=a>", "<p>"),
        ("<p class>", "<p>"),
        ("<div><p>a</p></div>b", "<div><p>a</p>b</div>"),
        ("<svg><path d=''/></svg>", "<svg><g d=''/></svg>"),
        ("<script>a</script>", "<style>a</style>"),
    ],
)
def test_different(one: str, two: str) -> None:
    assert normal_form(one) != normal_form(two)


TAGS = ["p", "div", "ul", "li", "b", "pre", "textarea", "td", "table", "br", "img", "script"]
bits = st.sampled_from(
    [f"<{t}>" for t in TAGS]
    + [f"</{t}>" for t in TAGS]
    + ["<i class='b a' id=x>", "<!-- c -->", "x", " ", "\n", " y ", "&nbsp;", "я", "\0"]
)
pages = st.lists(bits, max_size=20).map("".join)


@settings(max_examples=150, deadline=None)
@given(pages)
def test_a_page_written_out_again_is_the_same_page(text: str) -> None:
    # Written by BeautifulSoup from its tree: other spelling, same page, where the tree is one
    # that can be written (no p in a p, no line break that the parser drops).
    written = str(BeautifulSoup(text, "html5lib"))
    if str(BeautifulSoup(written, "html5lib")) == written:
        assert score(text, written)[1] == 1


@settings(max_examples=150, deadline=None)
@given(pages, pages)
def test_exact_match_is_never_above_the_normalised(one: str, two: str) -> None:
    assert score(one, one) == (1, 1)
    exact, normalized = score(one, two)
    assert exact in (0, 1)
    assert normalized in (0, 1)
    assert exact <= normalized  # type: ignore[operator]
    assert score(two, one) == (exact, normalized)


def indented(text: str) -> str:
    """A line of its own for each block's tag."""
    return re.sub(
        r"(</?(?:div|ul|ol|li|section|form|main|header|footer|nav)\b[^>]*>)", r"\n  \1\n", text
    )


def test_indentation_does_not_matter_and_one_letter_does() -> None:
    texts = [row.target for row in rows_of("train", 1, 60)]
    for text in texts:
        assert score(text, indented(text))[1] == 1, text
        letters = [i for i in range(1, len(text)) if text[i].isalpha() and text[i - 1] == ">"]
        for i in letters[:3]:
            assert score(text, f"{text[:i]}_{text[i + 1 :]}") == (0, 0)


def test_references_among_one_another() -> None:
    file = SHARED / "ttbui_html_alpaca" / "data_finetune_html.json"
    if not file.is_file():
        pytest.skip("../shared/data is not here: no real pages to compare")
    texts = [row["output"] for row in json.loads(file.read_text(encoding="utf-8"))]
    forms = {}
    for text in dict.fromkeys(text.strip() for text in texts):
        forms.setdefault(normal_form(text), []).append(text)
    same = [group for group in forms.values() if len(group) > 1]
    print(f"{len(same)} groups of references that differ in spelling only")
    assert len(same) < 20


HOSTILE = {
    "depth": "<div>" * 50_000,
    "attributes": "<p " + " ".join(f"a{i}" for i in range(20_000)) + ">",
    "comments": "<!--" * 20_000,
    "pieces": "abcdefgh<!---->" * 20_000,
    "spaces": " " * 399_000 + "x",
    "inline": "a <b></b>" * 5000,
    "too long": "x" * 400_001,
    "odd": "\0<p>\ud800<pre>\udfff",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pages(kind: str) -> None:
    text = HOSTILE[kind]
    with cpu_limit():
        exact, normalized = score("<p>a</p>", text)
    assert exact == 0
    assert normalized in (0, None)
    assert isinstance(normal_form(text), Unscored) == (normalized is None)
    assert score(text, text + " ") == (1, 1)


MUTATIONS = {
    "constant 1": (
        ExactMatch,
        "score",
        lambda *_: dict.fromkeys(["exact_match", "exact_match_normalized"], 1.0),
    ),
    "nothing verbatim": (module, "_VERBATIM", frozenset()),
    "everything inline": (module, "_BLOCKS", frozenset()),
    "space never counts": (module, "fold", lambda text: "".join(text.split())),
    "attributes ignored": (module, "_attributes", lambda element: ()),
    "attributes as written": (module, "_attributes", lambda e: tuple(map(str, e.attrs.items()))),
    "doctype ignored": (module, "Doctype", Unscored),
    "all values are sets": (
        module,
        "_value",
        lambda key, v: str(sorted(v if isinstance(v, list) else v.split())),
    ),
    "case folded": (module, "fold", lambda text: " ".join(text.lower().split(" "))),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_goldens_notice_a_mutation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*MUTATIONS[name])
    normal_form.cache_clear()
    cases = read_cases(ROOT / "baselines" / "goldens" / "exact_match.toml")
    scorer = get(["exact_match"])[0]
    noticed = any(faults_of(case, scorer.score) for case in cases)
    normal_form.cache_clear()
    assert noticed
