"""What a page would run and fetch, if a browser opened it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.records import Sample
from harness.scorers.base import Scorer, Unscored, Value, metric
from harness.scorers.html.addresses import candidates, in_css, is_external, refresh, resolve
from harness.scorers.html.elements import HTML, SVG, Elements, elements, text_of
from harness.scorers.html.names import HANDLERS, JAVASCRIPT
from harness.scorers.html.page import PARSER

if TYPE_CHECKING:
    from bs4 import Tag

MAX_DETAILS = 20
MAX_ADDRESS = 200

# Attributes whose address is fetched when the page is loaded, by element (HTML, then SVG).
_FETCHED = {
    "img": ("src",),
    "source": ("src",),
    "audio": ("src",),
    "video": ("src", "poster"),
    "track": ("src",),
    "iframe": ("src",),
    "frame": ("src",),
    "embed": ("src",),
    "object": ("data",),
    **dict.fromkeys(
        ("body", "table", "thead", "tbody", "tfoot", "tr", "td", "th"), ("background",)
    ),
}
_FETCHED_SVG = dict.fromkeys(("image", "use", "feImage"), ("href", "xlink:href"))
_FETCHED_LINKS = frozenset(
    ("stylesheet", "icon", "apple-touch-icon", "manifest", "modulepreload", "prefetch", "preload")
)
_WITH_ADDRESS = {"src", "srcset", "imagesrcset", "href", "xlink:href", "data", "poster"}
_WITH_ADDRESS |= {"background", "style", "content"}


class Inventory(NamedTuple):
    """What a page runs and fetches. external: distinct addresses in the order of the page."""

    scripts: int
    handlers: int
    external: tuple[str, ...]


class Content(Scorer):
    """Three counts of what an answer would run and fetch, opened in a browser with scripts on.

    scripts:           script elements that would run: type absent, empty, a JavaScript MIME
                       type or "module"; with text, or with a src that is not empty; without
                       nomodule; and not cut off before their end tag.
    inline_handlers:   event handler attributes (onclick, onload, …: the names that standards
                       define), on any element. No javascript: addresses.
    external_requests: distinct addresses on other hosts that loading the page may fetch.

    An address is on another host where it begins with http:, https: or //, or is relative to
    a base that does; two are one where they differ in the fragment alone. Counted are those of
    img, source, srcset (every candidate: which one is chosen depends on the screen), video,
    audio, track, iframe, frame, embed, object, input of type image, background, scripts that
    run, link (stylesheet, icon, manifest, preload, modulepreload, prefetch), SVG's image, use
    and feImage, a meta refresh, and url() and @import in style elements and style attributes.
    No a, no form: they wait for the user.

    They see the markup only: not what scripts would fetch or add, what a style sheet or frame
    that is fetched fetches in turn, what is in srcdoc, template or noscript, whether the host
    exists. Directions are "lower" as for a page that should stand alone; a task that asks for
    scripts wants them. None where the page is not parsed within its bounds
    (harness.scorers.html.page.parse). Source: our own definition; what runs and what is fetched as
    in the HTML Living Standard (4.12.1, 4.2.4, 4.8), CSS by pattern, not by a parser.
    """

    name = "content"
    summary = "what the page would run and fetch: scripts, inline handlers, external requests"
    version = 2
    metrics = (
        metric("scripts", "lower", 2, parser=PARSER),
        metric("inline_handlers", "lower", 2, parser=PARSER),
        metric("external_requests", "lower", 2, parser=PARSER, count="distinct"),
    )

    def score(self, sample: Sample) -> dict[str, Value]:
        found = inventory(sample.prediction)
        if isinstance(found, Unscored):
            return dict.fromkeys((m.name for m in self.metrics), found)
        return {
            "scripts": float(found.scripts),
            "inline_handlers": float(found.handlers),
            "external_requests": float(len(found.external)),
        }

    def details(self, sample: Sample) -> dict[str, Any]:
        """{"external_requests": [address, …]}, MAX_DETAILS at most; nothing where none is."""
        found = inventory(sample.prediction)
        if isinstance(found, Unscored) or not found.external:
            return {}
        return {"external_requests": [a[:MAX_ADDRESS] for a in found.external[:MAX_DETAILS]]}


@lru_cache(maxsize=4)
def inventory(text: str) -> Inventory | Unscored:
    """What the page that `text` makes would run and fetch, as Content says."""
    found = elements(text)
    if isinstance(found, Unscored):
        return found
    running = _running(found)
    handlers = sum(len(HANDLERS.intersection(element.attrs)) for element in found.live)
    bases = (e.attrs["href"] for e in found.live if e.name == "base" and "href" in e.attrs)
    base = next(bases, "")
    external: dict[str, None] = {}
    for element in found.live:
        if element.name != "style" and not _WITH_ADDRESS.intersection(element.attrs):
            continue
        for address in _addresses(element, running):
            if is_external(address, base):
                external[resolve(address, base)] = None
    return Inventory(len(running), handlers, tuple(external))


def _running(found: Elements) -> set[int]:
    """The ids (of Python) of the script elements that would run."""
    scripts = [element for element in found.live if element.name == "script"]
    last = found.page.tags[-1] if found.page.tags else None
    if scripts and last is not None and last.kind == "start" and last.name == "script":
        scripts.pop()  # the text ends inside of it: it is not run (13.2.6.4.8)
    return {id(script) for script in scripts if _runs(script)}


def _runs(script: Tag) -> bool:
    """Whether the standard's "prepare the script element" (4.12.1.1) goes on to run it."""
    attributes = script.attrs
    if not attributes.get("type", attributes.get("language")):
        kind = "text/javascript"
    elif "type" in attributes:
        kind = attributes["type"].strip(" \t\n\f\r").lower()
    else:
        kind = f"text/{attributes['language'].lower()}"
    if kind != "module" and (kind not in JAVASCRIPT or "nomodule" in attributes):
        return False
    source = _source(script)
    return bool(text_of(script) if source is None else source)


def _source(script: Tag) -> str | None:
    names = ("src",) if script.namespace == HTML else ("href", "xlink:href")
    return next((script.attrs[name] for name in names if name in script.attrs), None)


def _addresses(element: Tag, running: set[int]) -> Iterator[str]:
    """Every address that loading the page would fetch on account of this element."""
    attributes, name = element.attrs, element.name
    if "style" in attributes:
        yield from in_css(attributes["style"])
    if name == "style":
        if attributes.get("type", "").strip().lower() in ("", "text/css"):
            yield from in_css(text_of(element))
    elif name == "script":
        if id(element) in running:
            yield _source(element) or ""
    elif element.namespace == SVG:
        yield from (attributes[k] for k in _FETCHED_SVG.get(name, ()) if k in attributes)
    elif name == "link":
        if not _FETCHED_LINKS.isdisjoint(word.lower() for word in attributes.get("rel", ())):
            yield attributes.get("href", "")
            yield from candidates(attributes.get("imagesrcset", ""))
    elif name == "meta":
        if attributes.get("http-equiv", "").lower() == "refresh":
            yield refresh(attributes.get("content", ""))
    elif name == "input":
        if attributes.get("type", "").lower() == "image":
            yield attributes.get("src", "")
    else:
        yield from (attributes[k] for k in _FETCHED.get(name, ()) if k in attributes)
        if name in ("img", "source"):
            yield from candidates(attributes.get("srcset", ""))
