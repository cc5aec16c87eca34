"""Loss curves of a run as an SVG: text made by hand, the same bytes for the same numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

Points = Sequence[tuple[int, float]]

WIDTH, HEIGHT = 720, 360
_LEFT, _RIGHT = 64, 700
_LOSS = (64, 248)  # top and bottom of the upper panel
_RATE = (276, 322)  # of the lower one
_TRAIN, _HELD, _RATED = "#3b7dd8", "#e07b39", "#8a8f98"
_INK, _GRID = "#7a7f87", "#9aa0a8"  # greys that are legible on white and on black alike


@dataclass(frozen=True, slots=True)
class Curves:
    """What is drawn of one training.

    note: a line under the title, such as how much was seen. best: the step whose adapter is
    published where it is not the last one, else None.
    """

    title: str
    note: str
    train: Points
    validation: Points
    rates: Points
    best: int | None = None


def curves_svg(curves: Curves) -> str:
    """Training loss (thin, and smoothed), validation loss, and the learning rate below.

    Values that are not finite are left out.
    """
    train, held, rates = map(_finite, (curves.train, curves.validation, curves.rates))
    smooth = smoothed(train)
    steps = [step for step, _ in (*train, *held, *rates)]
    last = max(steps, default=1)
    across = _Axis(0, max(last, 1), _LEFT, _RIGHT)
    # The first steps of a training may be far above the rest: the axis shows all of them.
    down = _Axis(*_span([value for _, value in (*train, *held)]), _LOSS[1], _LOSS[0])
    top = max((value for _, value in rates), default=1.0) or 1.0
    rate = _Axis(0, top, _RATE[1], _RATE[0])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" font-family="sans-serif" font-size="11" fill="{_INK}">',
        f"<title>{_text(curves.title)}</title>",
        _label(_LEFT, 20, curves.title, "start", 'font-size="14" font-weight="bold"'),
        _label(_LEFT, 37, curves.note, "start"),
        *_key(bool(held)),
        *(_rule(down.at(v), _label(_LEFT - 8, down.at(v) + 4, t, "end")) for v, t in down.ticks(7)),
        *(_rule(rate.at(v), _label(_LEFT - 8, rate.at(v) + 4, t, "end")) for v, t in rate.ticks(2)),
        *(_label(across.at(v), _RATE[1] + 16, t, "middle") for v, t in across.ticks(8, whole=True)),
        _label((_LEFT + _RIGHT) / 2, HEIGHT - 5, "optimiser step", "middle"),
        _label(_LEFT, _LOSS[0] - 8, "loss (nats a scored token)", "start"),
        _label(_LEFT, _RATE[0] - 8, "learning rate", "start"),
    ]
    if curves.best is not None:
        x = _number(across.at(curves.best))
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="{_LOSS[0]}" y2="{_LOSS[1]}" stroke="{_HELD}" '
            'stroke-dasharray="3 3"/>'
        )
    parts += [
        _line(train, across, down, f'stroke="{_TRAIN}" stroke-width="1" opacity="0.4"'),
        _line(smooth, across, down, f'stroke="{_TRAIN}" stroke-width="2"'),
        _line(held, across, down, f'stroke="{_HELD}" stroke-width="1.5"'),
        *(
            f'<circle cx="{_number(across.at(s))}" cy="{_number(down.at(v))}" r="3" '
            f'fill="{_HELD}"/>'
            for s, v in held
        ),
        _line(rates, across, rate, f'stroke="{_RATED}" stroke-width="1.5"'),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def smoothed(points: Points) -> list[tuple[int, float]]:
    """Exponential moving average over about a twentieth of the points, corrected for its start."""
    keep = 1 - 1 / max(1.0, len(points) / 20)
    mean, weight, found = 0.0, 0.0, []
    for step, value in points:
        mean = keep * mean + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        found.append((step, mean / weight))
    return found


@dataclass(frozen=True, slots=True)
class _Axis:
    """Values from `low` to `high` on pixels from `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self, most: int, whole: bool = False) -> list[tuple[float, str]]:
        """Round values, `most` or so, with their text."""
        step = _round_step((self.high - self.low) / most)
        if whole:
            step = max(1.0, step)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        places = max(0, -math.floor(math.log10(step) + 1e-9))
        small = self.high < 0.01
        return [
            (n * step, "0" if n == 0 else f"{n * step:.0e}" if small else f"{n * step:.{places}f}")
            for n in range(first, last + 1)
        ]


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not under `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))


def _span(values: Sequence[float]) -> tuple[float, float]:
    """A little more than the values' range; never empty."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or max(abs(high) * 0.05, 0.05)
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _finite(points: Points) -> list[tuple[int, float]]:
    return [(step, value) for step, value in points if math.isfinite(value)]


def _number(value: float) -> str:
    return f"{value:.1f}"


def _text(text: str) -> str:
    clean = "".join(char if char.isprintable() else " " for char in text)
    return escape(clean)


def _label(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    return (
        f'<text x="{_number(x)}" y="{_number(y)}" text-anchor="{anchor}"'
        f"{' ' + style if style else ''}>{_text(text)}</text>"
    )


def _rule(y: float, label: str) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{_number(y)}" y2="{_number(y)}" '
        f'stroke="{_GRID}" stroke-width="0.5" opacity="0.5"/>{label}'
    )


def _line(points: Iterable[tuple[int, float]], x: _Axis, y: _Axis, style: str) -> str:
    marks = " ".join(f"{_number(x.at(step))},{_number(y.at(value))}" for step, value in points)
    return f'<polyline points="{marks}" fill="none" {style}/>' if marks else ""


def _key(held: bool) -> list[str]:
    """What the colours mean, on the right above the curves."""
    names = [("training", _TRAIN), *([("validation", _HELD)] if held else [])]
    found = []
    for place, (name, colour) in enumerate(reversed(names)):
        x = _RIGHT - 60 - 90 * place
        found.append(
            f'<line x1="{x - 24}" x2="{x - 6}" y1="{_LOSS[0] - 12}" y2="{_LOSS[0] - 12}" '
            f'stroke="{colour}" stroke-width="2"/>{_label(x, _LOSS[0] - 8, name, "start")}'
        )
    return found
