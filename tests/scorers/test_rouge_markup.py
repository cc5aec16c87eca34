"""ROUGE-L over markup: the tokens by hand, the LCS by a second implementation, any text."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scorers.base import Unscored
from harness.scorers.html.markup_tokens import MAX_CHARACTERS, tokens
from harness.scorers.text.rouge import rouge
from harness.scorers.text.rouge_markup import MAX_CELLS, rouge_l_markup
from tests.support.limits import cpu_limit
from tests.support.text_pairs import HOSTILE, html_alpaca, pairs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '<a class="y x" HREF=/z>Grüße, 世界</a>',
            ["<a", "@class", '"x', '"y', "@href", '"/z', "Grüße", ",", "世", "界", "</a"],
        ),
        ("<!DOCTYPE html>", ["<!doctype", "@html"]),
        ("<BR/><hr  />", ["<br", "<hr"]),
        ("<p disabled title=''>", ["<p", "@disabled", "@title"]),
        ("<p title=' a  b '>", ["<p", "@title", '"a b']),
        ("<p title='a>b'>c", ["<p", "@title", '"a>b', "c"]),
        ('<p title="it\'s">', ["<p", "@title", "\"it's"]),
        ("<p style='color: red'>", ["<p", "@style", "color", ":", "red"]),
        ("<style>p{a:b}</style>", ["<style", "p", "{", "a", ":", "b", "}", "</style"]),
        ("<script>a<b</script>c", ["<script", "a", "<", "b", "</script", "c"]),
        ("<title>a<b></title>", ["<title", "a", "<", "b", ">", "</title"]),
        ("<scripty>a<b>", ["<scripty", "a", "<b"]),
        ("</script x>a", ["</script", "@x", "a"]),
        ("a < b <", ["a", "<", "b", "<"]),
        ("<!-- a <b> -->", ["<!--", "a", "<b", "-->"]),
        ("x&nbsp;y &#x41; &", ["x", "&nbsp;", "y", "&#x41;", "&"]),
        ("snake_case font-size 1.0", ["snake_case", "font", "-", "size", "1", ".", "0"]),
        ("हिन्दी ไทย 한국어 かな 😀", ["हिन्दी", "ไ", "ท", "ย", "한국어", "か", "な", "😀"]),
        ("«a» — “b” … c", ["«", "a", "»", "—", "“", "b", "”", "…", "c"]),
        ("你好。（世）", ["你", "好", "。", "（", "世", "）"]),
        # Cut off, or never closed: to the next quote, or to the end.
        ("<p class='a", ["<p", "@class", '"a']),
        ("<p title='a <b>c", ["<p", "@title", '"a <b>c']),
        ("<p cla", ["<p", "@cla"]),
        ("<", ["<"]),
        ("</", ["<", "/"]),
        ("<>", ["<", ">"]),
        ("<p =x>", ["<p", "@x"]),
        ("<p a= >b", ["<p", "@a", "b"]),
        ("\0\ud800a", ["\0", "\ud800", "a"]),
        ("", []),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def plain_lcs(a: list[str], b: list[str]) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        before = 0
        for at, y in enumerate(b, 1):
            before, row[at] = row[at], before + 1 if x == y else max(row[at], row[at - 1])
    return row[-1]


def test_equal_to_the_textbook_lcs() -> None:
    made = list(pairs(2000, seed=5))
    different = []
    for reference, prediction in made:
        a, b = tokens(reference), tokens(prediction)
        want = 2 * plain_lcs(a, b) / (len(a) + len(b)) if a or b else 1.0
        if rouge_l_markup(reference, prediction) != want:
            different.append((reference, prediction))
    print(f"rougeL_markup: {len(made)} pairs, {len(different)} differ")
    assert not different


def test_it_sees_what_plain_rouge_does_not() -> None:
    for a, b in [
        ("<div><p>hello</p></div>", "div p hello p div"),
        ("<p>привет мир</p>", "<p>пока мир</p>"),
        ("<p>你好</p>", "<p>世界</p>"),
        ("<p>a</p>", "<p>a<p>"),
        ("<p>A</p>", "<p>a</p>"),
    ]:
        value = rouge_l_markup(a, b)
        assert rouge(a, b)["rougeL"] == 1.0
        assert isinstance(value, float)
        assert value < 1.0


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text("<>/a=\"'!-b &; \n界é", max_size=60), st.text(max_size=60))
def test_properties_on_any_text(a: str, b: str) -> None:
    value = rouge_l_markup(a, b)
    assert isinstance(value, float)
    assert 0.0 <= value <= 1.0
    assert value == rouge_l_markup(b, a)
    assert rouge_l_markup(a, a) == rouge_l_markup(b, b) == 1.0
    # Every character but white space and the syntax of tags is in some token.
    assert "".join(tokens(b.replace("<", ""))) == "".join(b.replace("<", "").split())


def test_white_space_and_spelling_of_real_pages_do_not_matter() -> None:
    for text in html_alpaca()[::10]:
        assert rouge_l_markup(text, text.replace("\n", "\r\n  ")) == 1.0
        assert rouge_l_markup(text, text.replace("<div", "<DIV").replace("</p>", "</P >")) == 1.0


def test_hostile_texts_are_scored() -> None:
    for text in HOSTILE.values():
        with cpu_limit():
            value = rouge_l_markup(text, text[7:] + "x")
        assert isinstance(value, Unscored) or len(text) <= MAX_CHARACTERS


def test_long_texts_of_signs_are_taken_apart() -> None:
    text = "".join(random.Random(0).choices("<>a=\"'/ !-s&;\n", k=300_000))
    with cpu_limit():
        assert "".join(tokens(text)).count("a") == text.count("a")


def test_the_table_is_bounded() -> None:
    words = int(MAX_CELLS**0.5)
    with cpu_limit():
        most = rouge_l_markup("a b " * (words // 2), "b c " * (words // 2))
    assert isinstance(most, float)
    assert rouge_l_markup("a " * words, "b " * (words + 9)) == Unscored(
        "over 3,000,000,000 pairs of tokens to compare"
    )
    assert rouge_l_markup("a " * 100_000, "a " * 100_000) == 1.0
