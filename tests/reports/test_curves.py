"""The picture of a training: valid XML, the same bytes again, nothing outside its frame."""

from __future__ import annotations

import math
from xml.etree import ElementTree

from harness.reports.curves import HEIGHT, WIDTH, Curves, curves_svg, smoothed

SVG = "{http://www.w3.org/2000/svg}"


def curves(n: int = 60, **changes: object) -> Curves:
    values: dict[str, object] = {
        "title": "model · task · recipe · seed 0",
        "note": "n = 8 examples",
        "train": [(i, 2.0 / i) for i in range(1, n + 1)],
        "validation": [(i, 1.0 / i) for i in range(10, n + 1, 10)],
        "rates": [(i, 2e-4 * i / n) for i in range(1, n + 1)],
    }
    return Curves(**{**values, **changes})  # type: ignore[arg-type]


def test_it_is_valid_deterministic_and_within_its_frame() -> None:
    text = curves_svg(curves(best=20))
    assert text == curves_svg(curves(best=20))
    root = ElementTree.fromstring(text)
    lines = root.findall(f"{SVG}polyline")
    assert len(lines) == 4
    assert len(root.findall(f"{SVG}circle")) == 6
    for line in lines:
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert {"training", "validation", "learning rate", "n = 8 examples", "0", "60"} <= set(words)


def test_text_of_the_user_cannot_leave_its_place() -> None:
    title = '</text><script>"&\x00'
    root = ElementTree.fromstring(curves_svg(curves(title=title)))
    assert not list(root.iter(f"{SVG}script"))
    assert root.findtext(f"{SVG}title") == '</text><script>"& '


def test_odd_curves_are_drawn_too() -> None:
    odd = [
        curves(train=[], validation=[], rates=[]),
        curves(n=1),
        curves(train=[(1, math.nan), (2, math.inf), (3, 1.0)]),
        curves(train=[(1, 0.0), (2, 0.0)], rates=[(1, 0.0), (2, 0.0)]),
        curves(train=[(1, -3.0), (2, 1e9)]),
    ]
    for each in odd:
        text = curves_svg(each)
        ElementTree.fromstring(text)
        assert "nan" not in text
        assert "inf" not in text


def test_the_average_of_a_constant_is_that_constant() -> None:
    assert all(abs(v - 2.5) < 1e-12 for _, v in smoothed([(i, 2.5) for i in range(200)]))
    assert smoothed([(1, 4.0)]) == [(1, 4.0)]
