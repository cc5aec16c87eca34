"""Numbers as shown, and text made safe to show."""

from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.host.text import clip, display_width, pad, printable, single_line, wrap
from harness.reports.formats import (
    decimals_for,
    format_curve,
    format_interval,
    format_number,
    format_p_value,
    sparkline,
)

quick = settings(derandomize=True, deadline=None, max_examples=150)
texts = st.text(
    st.one_of(
        st.sampled_from("ab \n\t\x1b\u202e日本é\u0301👩\u200d❤\ufe0f\ud800"), st.characters()
    ),
    max_size=60,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (-0.00001, "-0.000010"),
        (0.3229, "0.323"),
        (0.0104, "0.010"),
        (0.00412, "0.00412"),
        (1.84213, "1.842"),
        (9.9999, "10.000"),
        (12.3451, "12.35"),
        (123.45, "123.5"),
        (1234.4, "1234"),
        (-98765.4, "-98765"),
        (12345678.0, "1.235e+07"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
    ],
)
def test_format_number(value: float | None, shown: str) -> None:
    assert format_number(value) == shown


def test_sign_and_shared_decimals() -> None:
    assert format_number(0.5, sign=True) == "+0.500"
    assert format_number(-0.0002, 3, sign=True) == "0.000"
    assert format_number(0.0002, 3, sign=True) == "0.000"
    assert format_number(math.inf, sign=True) == "+inf"
    assert format_number(0.05, decimals_for([12.34, 0.05, None, math.nan])) == "0.05"
    assert format_interval(-0.1, 0.25) == "[-0.100, +0.250]"
    assert format_interval(None, 0.25) == "–"


@quick
@given(st.floats(), st.booleans())
def test_no_number_is_a_signed_zero_or_long(value: float, sign: bool) -> None:
    text = format_number(value, sign=sign)
    assert len(text) <= 11
    if math.isfinite(value) and float(text) == 0:
        assert text[0] == "0"


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (None, "–"),
        (0.0, "<0.001"),
        (0.00099, "<0.001"),
        (0.001, "0.001"),
        (0.0496, "<0.050"),
        (0.05, "0.050"),
        (0.9999, "1.000"),
        (math.nan, "–"),
    ],
)
def test_p_values(p: float | None, shown: str) -> None:
    assert format_p_value(p) == shown


def test_curves() -> None:
    assert sparkline([1.0]) == ""
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([0.0, 1.0, math.nan]) == "▁█"
    assert len(sparkline([float(i) for i in range(1000)], width=24)) == 24
    assert sparkline([4.0, 4.0, 0.0, 0.0], width=2) == "█▁"
    assert format_curve([(1, 2.0), (9, 0.5)]) == "2.000 → 0.500, steps 1 to 9 █▁"
    assert format_curve([(3, 2.0)]) == "2.000 at step 3"
    assert format_curve([]) == "–"
    assert format_curve([(1, 2.0), (2, math.nan)]) == "2.000 → nan, steps 1 to 2"


# --- text ------------------------------------------------------------------------------------


def columns(text: str) -> int:
    """An upper bound of the columns of `text`, written apart from the code under test."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    marks = sum(unicodedata.category(char) in ("Mn", "Me") for char in text)
    selectors = sum("\ufe00" <= char <= "\ufe0f" for char in text)
    hidden = sum(char in "\u200b\u200c\u200d\u2060\ufeff" for char in text)
    return len(text) + wide - marks + selectors - hidden


@quick
@given(texts)
def test_one_line_without_controls(text: str) -> None:
    line = single_line(text)
    assert len(line.splitlines()) <= 1
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in line)
    assert not set(line) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert single_line(line) == line


@quick
@given(texts)
def test_printable_keeps_the_length_and_the_lines(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert [c for c in shown if c in "\t\r\n"] == [c for c in text if c in "\t\r\n"]
    assert not any(
        unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\r\n" for char in shown
    )


def test_widths_of_known_texts() -> None:
    assert display_width("abc") == 3
    assert display_width("日本") == 4
    assert display_width("e\u0301") == 1
    assert display_width("↑–…─") == 4
    assert clip("日本語", 4) == "日…"
    assert clip("日本語", 5) == "日本…"
    assert clip("日本", 4) == "日本"
    assert clip("abc", 0) == ""
    assert pad("日", 4) == "日  "
    assert pad("1", 3, right=True) == "  1"


@quick
@given(texts, st.integers(8, 40))
def test_clip_and_wrap_keep_to_the_width(text: str, width: int) -> None:
    line = single_line(text)
    assert columns(clip(line, width)) <= width
    wrapped = wrap(line, width, "  ")
    assert all(columns(part) <= width for part in wrapped)
    assert "".join("".join(wrapped).split()) == "".join(line.split())
