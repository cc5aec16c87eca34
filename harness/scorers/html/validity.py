"""HTML validity as html5lib tells it, and the balance of tags."""

from __future__ import annotations

from typing import Any

from harness.records import Sample
from harness.scorers.base import Scorer, Unscored, Value, metric
from harness.scorers.html.balance import balanced
from harness.scorers.html.page import PARSER, Page, parse

# A doctype that is missing or that is not HTML5's. A broken or misplaced one is an error.
DOCTYPE_CODES = frozenset(
    {
        "expected-doctype-but-got-chars",
        "expected-doctype-but-got-start-tag",
        "expected-doctype-but-got-end-tag",
        "expected-doctype-but-got-eof",
        "unknown-doctype",
    }
)
# The text ends within a tag: html5lib drops it, so that no start or end tag tells of it.
_UNFINISHED = frozenset(
    {
        "eof-in-tag-name",
        "eof-in-attribute-name",
        "eof-in-attribute-value-double-quote",
        "eof-in-attribute-value-single-quote",
        "eof-in-attribute-value-no-quotes",
        "expected-attribute-name-but-got-eof",
        "expected-attribute-value-but-got-eof",
        "expected-end-of-tag-but-got-eof",
        "unexpected-EOF-after-attribute-value",
        "unexpected-EOF-after-solidus-in-tag",
    }
)
_UNSEEN = frozenset({"head", "noscript", "script", "style", "template", "title"})
_SHOWN = frozenset(
    {
        "audio",
        "button",
        "embed",
        "hr",
        "iframe",
        "img",
        "input",
        "meter",
        "object",
        "progress",
        "select",
        "textarea",
        "video",
    }
)
MAX_DETAILS = 50


class Validity(Scorer):
    """Five measures of a whole answer as an HTML document, parsed by html5lib 1.1 with the rules of
    today's standard (harness.scorers.html.standard).

    html_valid_strict: 1 where the parser has no error and the gate is passed, else 0.
    html_valid:        the same with a missing or old doctype forgiven (DOCTYPE_CODES).
    parse_errors:      how many errors there are but those; lower is better, 0 is the best.
                       It has no gate: plain text and the empty answer have none.
    parse_errors_per_kb: the same over the answer's length in thousands of UTF-8 bytes; None
                       for an answer of white space, as nothing can have no rate.
    tags_balanced:     1 where there is a tag, the text does not end inside one, and tags
                       open and close one another by the standard (harness.scorers.html.balance).

    The gate: the author wrote a start tag, and something would be seen, that is text other
    than white space outside head, title, style, script, noscript and template, or an element
    that shows without text (an image, a rule, a form control, a player, a frame; an input of
    type hidden is none). A page parses even where nothing was meant as HTML: without the
    gate plain text and the empty answer would be valid.

    They see syntax. They cannot see duplicate ids, unknown or obsolete elements and
    attributes, missing alt, title or lang, what CSS hides, whether the page is what was
    asked for, or repetition. All are None for a text that parsing is not finished on within
    its bounds (harness.scorers.html.page.parse). Source: the HTML standard's parse errors.
    """

    name = "validity"
    summary = "HTML validity with and without the doctype, parse errors, balance of tags"
    version = 2
    metrics = (
        metric(
            "html_valid_strict",
            "higher",
            2,
            binary=True,
            parser=PARSER,
            doctype="required",
            gate="content",
        ),
        metric(
            "html_valid",
            "higher",
            2,
            binary=True,
            parser=PARSER,
            doctype="forgiven",
            gate="content",
        ),
        metric("parse_errors", "lower", 2, parser=PARSER, doctype="forgiven"),
        metric(
            "parse_errors_per_kb", "lower", 2, parser=PARSER, doctype="forgiven", kb="1000-bytes"
        ),
        metric(
            "tags_balanced", "higher", 2, binary=True, parser=PARSER, optional="closed", gate="tag"
        ),
    )

    def score(self, sample: Sample) -> dict[str, Value]:
        text = sample.prediction
        page = parse(text)
        if isinstance(page, Unscored):
            return dict.fromkeys((m.name for m in self.metrics), page)
        errors = sum(error.code not in DOCTYPE_CODES for error in page.errors)
        shown = has_markup(page) and has_visible_content(page)
        unfinished = any(error.code in _UNFINISHED for error in page.errors)
        return {
            "html_valid_strict": float(not page.errors and shown),
            "html_valid": float(errors == 0 and shown),
            "parse_errors": float(errors),
            "parse_errors_per_kb": _per_kb(errors, text),
            "tags_balanced": float(bool(page.tags) and not unfinished and balanced(page.tags)),
        }

    def details(self, sample: Sample) -> dict[str, Any]:
        """{"parse_errors": [{"code", "line", "column"}, …]}, doctype codes among them.

        In the order of the text, MAX_DETAILS at most, and then "parse_errors_total" says how
        many there are; nothing where there is none. line from 1, column from 0.
        """
        page = parse(sample.prediction)
        if isinstance(page, Unscored) or not page.errors:
            return {}
        listed = [
            {"code": error.code, "line": error.line, "column": error.column}
            for error in page.errors[:MAX_DETAILS]
        ]
        total = len(page.errors)
        return {
            "parse_errors": listed,
            **({"parse_errors_total": total} if total > MAX_DETAILS else {}),
        }


def _per_kb(errors: int, text: str) -> Value:
    if not text.strip():
        return Unscored("the answer is empty")
    return 1000 * errors / len(text.encode("utf-8", "surrogatepass"))


def has_markup(page: Page) -> bool:
    """Whether the author wrote a start tag (the parser itself adds html, head and body)."""
    return any(tag.kind == "start" for tag in page.tags)


def has_visible_content(page: Page) -> bool:
    """Whether a reader would see anything: the second half of the gate (see Validity)."""
    from bs4.element import NavigableString, Tag

    nodes = list(page.soup.contents)
    while nodes:
        node = nodes.pop()
        if isinstance(node, Tag):
            hidden = node.name == "input" and str(node.get("type", "")).lower() == "hidden"
            if node.name in _SHOWN and not hidden:
                return True
            if node.name not in _UNSEEN:
                nodes.extend(node.contents)
        elif type(node) is NavigableString and node.strip():  # not a comment, not the doctype
            return True
    return False
