"""Numbers as the tables show them. The CSV has them whole; here they are for reading."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

MISSING = "–"
_BARS = "▁▂▃▄▅▆▇█"
_SCIENTIFIC = 1e7


def format_number(value: float | None, decimals: int | None = None, sign: bool = False) -> str:
    """`value` with about four digits: "0.323", "1.842", "12.35", "1234", "0.00412".

    decimals: digits after the point, as `decimals_for` chose them for a whole row.
    sign:     a plus before what is above zero. What rounds to zero has no sign at all.
    """
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return f"{value:+}" if sign and math.isinf(value) else f"{value}"
    if abs(value) >= _SCIENTIFIC:
        return f"{value:+.3e}" if sign else f"{value:.3e}"
    text = f"{value:.{decimals_for([value]) if decimals is None else decimals}f}"
    if float(text) == 0:
        return text.removeprefix("-")
    return f"+{text}" if sign and value > 0 else text


def decimals_for(values: Iterable[float | None]) -> int:
    """Digits after the point that suit the largest of `values`: 3 from 0.01 to 10, 6 at most.

    Most rates and losses lie there, so that the points of a column stand under one another.
    """
    finite = (abs(value) for value in values if value is not None and math.isfinite(value))
    largest = max(finite, default=0.0)
    if largest == 0 or 0.01 <= largest < 10:
        return 3
    return min(6, max(0, (3 if largest >= 10 else 2) - math.floor(math.log10(largest))))


def format_p_value(p: float | None) -> str:
    """Three decimals; what rounding would put on the wrong side of a threshold shows as below."""
    if p is None or math.isnan(p):
        return MISSING
    if p < 0.001:
        return "<0.001"
    text = f"{p:.3f}"
    return "<0.050" if p < 0.05 and text == "0.050" else text


def format_interval(low: float | None, high: float | None, decimals: int | None = None) -> str:
    """Both ends, signed: "[+0.229, +0.417]"."""
    if low is None or high is None:
        return MISSING
    places = decimals_for([low, high]) if decimals is None else decimals
    return f"[{format_number(low, places, True)}, {format_number(high, places, True)}]"


def format_count(value: int | None) -> str:
    return MISSING if value is None else str(int(value))


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """The course of `values` as one line of at most `width` block characters, low to high.

    More values than `width` are averaged in equal parts; what is not finite is left out.
    """
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    count = min(width, len(finite))
    edges = [i * len(finite) // count for i in range(count + 1)]
    means = [math.fsum(finite[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    if high == low:
        return _BARS[0] * count
    top = len(_BARS) - 1
    return "".join(_BARS[round((mean - low) / (high - low) * top)] for mean in means)


def format_curve(points: Sequence[tuple[int, float]]) -> str:
    """A loss curve in one phrase: "1.920 → 0.412, steps 1 to 192 ▇▅▃▂▁"."""
    if not points:
        return MISSING
    (first_step, first), (last_step, last) = points[0], points[-1]
    if len(points) == 1:
        return f"{format_number(first)} at step {first_step}"
    places = decimals_for([first, last])
    ends = f"{format_number(first, places)} → {format_number(last, places)}"
    bars = sparkline([loss for _, loss in points])
    return f"{ends}, steps {first_step} to {last_step} {bars}".rstrip()
