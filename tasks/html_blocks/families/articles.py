"""Articles with landmarks: header with author and date, text, footer, and at times an aside."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import Assertion

from .. import content
from ..banks import PEOPLE
from ..choices import Choices
from ..family import Family, quote
from ..markup import el, render


@dataclass(frozen=True)
class Article:
    """last: "footer" in the article, or "aside" (with an aria-label) after it; all in a main."""

    id: str
    title: str
    author: str
    date: str
    datetime: str
    text: str
    last: str
    label: str
    last_text: str

    @property
    def byline(self) -> str:
        return f"{self.author} on {self.date}"


def _draw(c: Choices) -> Article:
    of = content.theme(c)
    date, datetime = content.date(c)
    text, last_text = content.sentences(c, of, 2)
    return Article(
        content.word(c),
        content.title(c, of),
        c.one(PEOPLE),
        date,
        datetime,
        text,
        c.one(("footer", "aside")),
        c.one(("Notes", "Related", "Background", "Good to know")),
        last_text,
    )


def _write(x: Article) -> str:
    time = el("time", {"datetime": x.datetime}, x.date)
    body = [
        el("header", None, el("h2", None, x.title), el("p", None, f"{x.author} on ", time)),
        el("p", None, x.text),
    ]
    last = el("p", None, x.last_text)
    if x.last == "footer":
        body.append(el("footer", None, last))
        return render([el("main", None, el("article", {"id": x.id}, *body))])
    aside = el("aside", {"aria-label": x.label}, last)
    return render([el("main", None, el("article", {"id": x.id}, *body), aside)])


def _check(x: Article) -> list[Assertion]:
    if x.last == "footer":
        last = [Assertion("article > footer > p", count=1, text=x.last_text)]
    else:
        last = [
            Assertion("main > aside", count=1, attribute="aria-label", value=x.label),
            Assertion("aside > p", count=1, text=x.last_text),
        ]
    return [
        Assertion("main > article", count=1, attribute="id", value=x.id),
        Assertion("article > header > h2", count=1, text=x.title),
        Assertion("header > p", count=1, text=x.byline),
        Assertion("header time", 1, x.date, "datetime", x.datetime),
        Assertion("article > p", count=1, text=x.text),
        *last,
    ]


def _order(x: Article) -> str:
    last = {
        "footer": f"The article ends with a footer holding the paragraph {quote(x.last_text)}",
        "aside": f"After the article, still in main, comes an aside with aria-label "
        f"{quote(x.label)} and the paragraph {quote(x.last_text)}",
    }
    return (
        f"Write a main with an article, id {quote(x.id)}. Its header has the h2 {quote(x.title)} "
        f"and the paragraph {quote(x.byline)}, the date in a time element with datetime "
        f"{x.datetime}. The text is one paragraph: {quote(x.text)} {last[x.last]}"
    )


def _question(x: Article) -> str:
    last = {
        "footer": f"and a footer in it with the p {quote(x.last_text)}",
        "aside": f"and, beside the article, an aside labelled {quote(x.label)} (aria-label) with "
        f"the p {quote(x.last_text)}",
    }
    return (
        f"What is the right markup for an article inside main? The article has the id "
        f"{quote(x.id)}, a header of h2 {quote(x.title)} and p {quote(x.byline)} where the date "
        f"is a time ({x.datetime}), the p {quote(x.text)}, {last[x.last]}"
    )


def _spec(x: Article) -> str:
    last = {
        "footer": f"footer in article, p: {x.last_text}",
        "aside": f"aside after article, aria-label={x.label}, p: {x.last_text}",
    }
    return (
        f"main > article, id={x.id}\nheader h2: {x.title}\nheader p: {x.byline} (time datetime="
        f"{x.datetime})\np: {x.text}\n{last[x.last]}"
    )


def _story(x: Article) -> str:
    last = {
        "footer": f"A footer within the article adds the paragraph {quote(x.last_text)}",
        "aside": f"Next to the article, an aside with the aria-label {quote(x.label)} adds the "
        f"paragraph {quote(x.last_text)}",
    }
    return (
        f"{x.author} wrote something for us on {x.date} and called it {quote(x.title)}. The "
        f"page's main holds it as an article (id {quote(x.id)}) with a header: the title as h2, "
        f"then a p {quote(x.byline)} with the date as time, datetime {x.datetime}. Its only "
        f"paragraph: {quote(x.text)} {last[x.last]}"
    )


def _tree(x: Article) -> str:
    last = {
        "footer": f"    footer\n      p {quote(x.last_text)}",
        "aside": f"  aside aria-label={quote(x.label)}\n    p {quote(x.last_text)}",
    }
    return (
        f"Write out this tree as HTML:\nmain\n  article id={quote(x.id)}\n    header\n"
        f"      h2 {quote(x.title)}\n      p {quote(x.author + ' on')} and time "
        f"datetime={quote(x.datetime)} {quote(x.date)}\n    p {quote(x.text)}\n{last[x.last]}"
    )


def _email(x: Article) -> str:
    last = {
        "footer": f"The footer of the article has one paragraph, {quote(x.last_text)}",
        "aside": f"Following the article there is an aside, {quote(x.label)} by aria-label, whose "
        f"paragraph is {quote(x.last_text)}",
    }
    return (
        f"Subject: {x.title}\nFrom: {x.author}\nDate: {x.date}\n\n{x.text}\n\nPublish this mail as "
        f"article number one of main, with {quote(x.id)} as its id, the subject as h2 and "
        f"{quote(x.byline)} as p in its header; machines read the date as {x.datetime} in a time "
        f"element. The mail's body is a paragraph. {last[x.last]}"
    )


ARTICLES = Family(
    "article", _draw, _write, _check, (_order, _question, _spec, _story), (_tree, _email)
)
