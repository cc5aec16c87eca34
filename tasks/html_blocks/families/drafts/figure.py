"""A figure that lacks its alt text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.records import Assertion

from ... import content
from ...choices import Choices
from ...family import quote
from ...markup import el, render
from ..figures import image_name
from .draft import Change, Draft


class FigureDraft(Draft):
    def __init__(self, c: Choices) -> None:
        self.of = content.theme(c)
        self.src = image_name(c, self.of.name)
        self.alt_text = content.title(c, self.of)
        self.caption, self.new_caption = content.sentences(c, self.of, 2)
        self.image: dict[str, str | None] = {"src": self.src}
        self.css_class = ""

    def write(self) -> str:
        attributes: dict[str, str | None] = {"class": self.css_class} if self.css_class else {}
        image: dict[str, str | None] = {
            name: self.image[name] for name in ("src", "alt", "loading") if name in self.image
        }
        return render(
            [el("figure", attributes, el("img", image), el("figcaption", None, self.caption))]
        )

    def needed(self) -> Sequence[Callable[[Choices], Change]]:
        return (self._alt,)

    def changes(self) -> Sequence[Callable[[Choices], Change]]:
        return (self._lazy, self._caption, self._class)

    def _alt(self, c: Choices) -> Change:
        self.image["alt"] = self.alt_text
        text = quote(self.alt_text)
        return Change(
            f"Add the alt text {text} to the image.",
            f"the image has the alt text {text}",
            f"img lacks alt, should be {text}",
            (Assertion("img", attribute="alt", value=self.alt_text),),
        )

    def _lazy(self, c: Choices) -> Change:
        self.image["loading"] = "lazy"
        return Change(
            'Set loading="lazy" on the image.',
            'the image has loading="lazy"',
            "img to load lazily (loading attribute)",
            (Assertion("img", attribute="loading", value="lazy"),),
        )

    def _caption(self, c: Choices) -> Change:
        self.caption = self.new_caption
        text = quote(self.caption)
        return Change(
            f"Change the figcaption to {text}",
            f"the figcaption reads {text}",
            f"wrong figcaption, use {text}",
            (Assertion("figcaption", text=self.caption),),
        )

    def _class(self, c: Choices) -> Change:
        self.css_class = content.word(c)
        name = quote(self.css_class)
        return Change(
            f"Give the figure the class {name}.",
            f"the figure has the class {name}",
            f"figure without class, add {name}",
            (Assertion("figure", attribute="class", value=self.css_class),),
        )

    def kept(self) -> Sequence[Assertion]:
        return (
            Assertion("figure > img", count=1, attribute="src", value=self.src),
            Assertion("figure > figcaption", count=1, text=self.caption),
        )
