"""Figures: an image with alt text and size, and a caption with an emphasis or a link."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import Assertion

from .. import content
from ..banks import PEOPLE
from ..choices import Choices
from ..family import Family, quote
from ..markup import el, render


@dataclass(frozen=True)
class Figure:
    attribute: str
    word: str
    src: str
    alt: str
    width: int
    height: int
    lazy: bool
    caption: str
    credit: str


def image_name(c: Choices, theme_name: str) -> str:
    folder = c.one(("img", "images", "media", "photos"))
    return f"/{folder}/{theme_name}-{c.between(1, 99)}.{c.one(('jpg', 'png', 'webp'))}"


def _draw(c: Choices) -> Figure:
    of = content.theme(c)
    alt, caption = content.title(c, of), content.sentence(c, of)
    return Figure(
        c.one(("id", "class")),
        content.word(c),
        image_name(c, of.name),
        alt,
        c.between(8, 64) * 10,
        c.between(8, 48) * 10,
        c.one((False, True)),
        caption,
        c.one(PEOPLE),
    )


def _write(x: Figure) -> str:
    image: dict[str, str | None] = {
        "src": x.src,
        "alt": x.alt,
        "width": str(x.width),
        "height": str(x.height),
    }
    if x.lazy:
        image["loading"] = "lazy"
    caption = el("figcaption", None, f"{x.caption} ", el("small", None, f"Photo: {x.credit}"))
    return render([el("figure", {x.attribute: x.word}, el("img", image), caption)])


def _check(x: Figure) -> list[Assertion]:
    lazy = [Assertion("img", attribute="loading", value="lazy")] if x.lazy else []
    return [
        Assertion("figure", count=1, attribute=x.attribute, value=x.word),
        Assertion("figure > img", count=1, attribute="src", value=x.src),
        Assertion("img", attribute="alt", value=x.alt),
        Assertion(f'img[width="{x.width}"]', attribute="height", value=str(x.height)),
        *lazy,
        Assertion("figure > figcaption", count=1, text=f"{x.caption} Photo: {x.credit}"),
        Assertion("figcaption small", count=1, text=f"Photo: {x.credit}"),
    ]


def _order(x: Figure) -> str:
    lazy = ' and loading="lazy"' if x.lazy else ""
    return (
        f"Make a figure with {x.attribute} {quote(x.word)}: the image {x.src} with alt text "
        f"{quote(x.alt)}, width {x.width}, height {x.height}{lazy}, and the figcaption "
        f"{quote(x.caption)} followed by {quote('Photo: ' + x.credit)} in small."
    )


def _question(x: Figure) -> str:
    lazy = " It should load lazily (loading attribute)." if x.lazy else ""
    return (
        f"How do I show {x.src} ({x.width} by {x.height}) as a figure? Its alt says {quote(x.alt)}."
        f"{lazy} The figure has the {x.attribute} {quote(x.word)}, and the figcaption is "
        f"{quote(x.caption)} and then, as small, {quote('Photo: ' + x.credit)}."
    )


def _spec(x: Figure) -> str:
    lazy = ", loading lazy" if x.lazy else ""
    return (
        f"figure {x.attribute}={x.word}\nimg: {x.src}, {x.width} x {x.height}{lazy}\nalt: {x.alt}\n"
        f"figcaption: {x.caption}\nsmall in figcaption, at its end: Photo: {x.credit}"
    )


def _story(x: Figure) -> str:
    lazy = " The page is long, so let the browser load it lazily." if x.lazy else ""
    return (
        f"{x.credit} took a picture for us, saved as {x.src}, {x.width} wide and {x.height} high. "
        f"For those who cannot see it the alt text is {quote(x.alt)}.{lazy} Put it in a figure "
        f"({x.attribute} {quote(x.word)}) with the figcaption {quote(x.caption)} that ends in "
        f"small print: {quote('Photo: ' + x.credit)}."
    )


def _checklist(x: Figure) -> str:
    lazy = "[ ] img is lazy (loading)\n" if x.lazy else ""
    return (
        f"Checklist for one figure:\n[ ] {x.attribute} of the figure is {x.word}\n[ ] img comes "
        f"from {x.src}\n[ ] {x.width} px wide, {x.height} px high (attributes)\n{lazy}"
        f"[ ] described as {quote(x.alt)}\n[ ] figcaption reads {quote(x.caption)}\n"
        f"[ ] then, in a small element of the figcaption, {quote('Photo: ' + x.credit)}"
    )


def _caption_first(x: Figure) -> str:
    lazy = ', loading = "lazy"' if x.lazy else ""
    return (
        f"Given the caption {quote(x.caption)} with the credit {quote('Photo: ' + x.credit)} "
        f"after it in small, produce figure and figcaption. src = {quote(x.src)}, alt = "
        f"{quote(x.alt)}, width = {quote(str(x.width))}, height = {quote(str(x.height))}{lazy} "
        f"for the image above the caption; {x.attribute} = {quote(x.word)} for the whole."
    )


FIGURES = Family(
    "figure",
    _draw,
    _write,
    _check,
    (_order, _question, _spec, _story),
    (_checklist, _caption_first),
)
