"""Whole pages: doctype, language, head with title and style, and a body with landmarks."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import Assertion

from .. import content
from ..banks import COLOURS
from ..choices import Choices
from ..family import Family, an, quote
from ..markup import el, render

_LANGUAGES = ("en", "de", "fr", "es", "nl", "sv", "pl", "pt", "it", "fi")
_SIZES = ("1rem", "2rem", "3rem", "14px", "18px", "20px", "24px", "110%", "120%")
_SELECTORS = ("body", "h1", "p", "main")


@dataclass(frozen=True)
class Page:
    language: str
    title: str
    rule: str
    heading: str
    text: str
    last: str
    last_text: str


def _draw(c: Choices) -> Page:
    of = content.theme(c)
    title, heading = content.titles(c, of, 2)
    text, last_text = content.sentences(c, of, 2)
    declaration = c.one(("color", "background", "font-size"))
    value = c.one(_SIZES if declaration == "font-size" else COLOURS)
    rule = f"{c.one(_SELECTORS)} {{ {declaration}: {value}; }}"
    last = c.one(("footer", "aside"))
    return Page(c.one(_LANGUAGES), title, rule, heading, text, last, last_text)


def write_page(language: str, title: str, style: str, *body: tuple[str, str, str]) -> str:
    """A whole page; `body` gives landmarks as (landmark, tag, text); equal neighbours are one."""
    landmarks: list[tuple[str, list[tuple[str, str]]]] = []
    for landmark, tag, text in body:
        if not landmarks or landmarks[-1][0] != landmark:
            landmarks.append((landmark, []))
        landmarks[-1][1].append((tag, text))
    head = [el("meta", {"charset": "utf-8"}), el("title", None, title)]
    if style:
        head.append(el("style", None, style))
    inside = (
        el(landmark, None, *(el(tag, None, text) for tag, text in held))
        for landmark, held in landmarks
    )
    html = el("html", {"lang": language}, el("head", None, *head), el("body", None, *inside))
    return render([html], page=True)


def _write(x: Page) -> str:
    body = (("main", "h1", x.heading), ("main", "p", x.text), (x.last, "p", x.last_text))
    return write_page(x.language, x.title, x.rule, *body)


def _check(x: Page) -> list[Assertion]:
    return [
        Assertion("html", count=1, attribute="lang", value=x.language),
        Assertion('head > meta[charset="utf-8" i]', count=1),
        Assertion("head > title", count=1, text=x.title),
        Assertion("head > style", count=1),
        Assertion("body > main > h1", count=1, text=x.heading),
        Assertion("body > main > p", count=1, text=x.text),
        Assertion(f"body > {x.last} > p", count=1, text=x.last_text),
    ]


def _order(x: Page) -> str:
    return (
        f"Write a complete page with lang {quote(x.language)}, charset utf-8 and the title "
        f"{quote(x.title)}. Its style is: {x.rule} The body has a main with the h1 "
        f"{quote(x.heading)} and the paragraph {quote(x.text)}, then {an(x.last)} with the "
        f"paragraph {quote(x.last_text)}"
    )


def _question(x: Page) -> str:
    return (
        f"Could you write me a whole HTML page, doctype and all (html lang {x.language}, utf-8)? "
        f"The tab should show {quote(x.title)}. In main: h1 {quote(x.heading)}, p {quote(x.text)} "
        f"After main: {an(x.last)} with the p {quote(x.last_text)} In the head a style element "
        f"says {x.rule}"
    )


def _spec(x: Page) -> str:
    return (
        f"page, lang={x.language}, charset=utf-8\ntitle: {x.title}\nstyle: {x.rule}\n"
        f"main h1: {x.heading}\nmain p: {x.text}\n{x.last} p: {x.last_text}"
    )


def _story(x: Page) -> str:
    return (
        f"I need a small site of one page, from doctype to the closing html tag. Set the language "
        f"to {x.language} and the charset to utf-8, and call it {quote(x.title)} in the title. A "
        f"style element holds {x.rule} The main shows {quote(x.heading)} as h1 and a paragraph, "
        f"{quote(x.text)} Below main {an(x.last)} has one paragraph, {quote(x.last_text)}"
    )


def _head_and_body(x: Page) -> str:
    return (
        f"HEAD\nencoding utf-8\ntitle {quote(x.title)}\nCSS in a style element: {x.rule}\nBODY\n"
        f"main, containing h1 {quote(x.heading)} and p {quote(x.text)}\n{x.last}, containing p "
        f"{quote(x.last_text)}\nMake an HTML5 document of it whose root says lang={x.language}."
    )


def _body_first(x: Page) -> str:
    return (
        f"Someone opens a document and reads the heading {quote(x.heading)} (h1), then "
        f"{quote(x.text)} (p), both in main; {an(x.last)} next to main tells them "
        f"{quote(x.last_text)} (p). The window is titled {quote(x.title)}. The embedded style "
        f"sheet: {x.rule} Language code {x.language}, meta charset utf-8. Deliver that document "
        "in full."
    )


PAGES = Family(
    "page",
    _draw,
    _write,
    _check,
    (_order, _question, _spec, _story),
    (_head_and_body, _body_first),
)
