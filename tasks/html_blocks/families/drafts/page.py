"""A whole page with a heading and one paragraph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.records import Assertion

from ... import content
from ...banks import COLOURS
from ...choices import Choices
from ...family import quote
from ..pages import write_page
from .draft import Change, Draft


class PageDraft(Draft):
    def __init__(self, c: Choices) -> None:
        self.of = content.theme(c)
        self.title, self.new_title, self.heading, self.new_heading = content.titles(c, self.of, 4)
        self.text, self.new_text = content.sentences(c, self.of, 2)
        self.texts = [self.text]
        self.language, self.new_language = c.some(("en", "de", "fr", "es", "nl", "sv"), 2)
        self.style = ""

    def write(self) -> str:
        body = [("main", "h1", self.heading), *(("main", "p", text) for text in self.texts)]
        return write_page(self.language, self.title, self.style, *body)

    def changes(self) -> Sequence[Callable[[Choices], Change]]:
        return (self._title, self._language, self._heading, self._paragraph, self._style)

    def _title(self, c: Choices) -> Change:
        self.title = self.new_title
        text = quote(self.title)
        return Change(
            f"Change the title to {text}.",
            f"the title reads {text}",
            f"title in head, better {text}",
            (Assertion("head > title", count=1, text=self.title),),
        )

    def _language(self, c: Choices) -> Change:
        self.language = self.new_language
        return Change(
            f"Set lang to {quote(self.language)}.",
            f"lang is {quote(self.language)}",
            f"html is in {quote(self.language)}, fix lang",
            (Assertion("html", attribute="lang", value=self.language),),
        )

    def _heading(self, c: Choices) -> Change:
        self.heading = self.new_heading
        text = quote(self.heading)
        return Change(
            f"Change the text of the h1 to {text}.",
            f"the h1 reads {text}",
            f"h1 outdated, now {text}",
            (Assertion("h1", count=1, text=self.heading),),
        )

    def _paragraph(self, c: Choices) -> Change:
        self.texts.append(self.new_text)
        text = quote(self.new_text)
        return Change(
            f"After the paragraph add another one, {text}",
            f"a second paragraph follows the first, {text}",
            f"one more p at the end of main, {text}",
            (Assertion("main > p:last-child", text=self.new_text),),
        )

    def _style(self, c: Choices) -> Change:
        self.style = f"{c.one(('body', 'h1', 'p'))} {{ color: {c.one(COLOURS)}; }}"
        return Change(
            f"At the end of the head add a style element with {self.style}",
            f"the head ends with a style element, {self.style}",
            f"head needs a style element at its end: {self.style}",
            (Assertion("head > style:last-child", count=1),),
        )

    def kept(self) -> Sequence[Assertion]:
        return (
            Assertion("main > h1", count=1, text=self.heading),
            Assertion("main > p", count=len(self.texts), text=self.text),
        )
