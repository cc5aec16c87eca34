"""A second HTML5 parser, html5ever (in markupever), on the trees and the verdicts of html5lib.

Where the two differ, and why:
- trees of pages with `template`, `select`, `ruby`, `svg` or `math`, broken ones only: html5lib
  1.1 knows no template contents, and follows the standard of 2017 for what may stand in a
  select, for ruby and for end tags in foreign content;
- the order of what is moved out of a broken table (one page in thousands);
- verdicts: html5lib takes "&word" for a reference without its semicolon, and tells of some
  characters in unquoted values and of some elements open at the end where html5ever does not.
html5ever runs with scripting on (it cannot be told otherwise): no page here has a noscript.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from bs4.element import Comment, Doctype, Tag
from markupever import HtmlOptions, Parser

from harness.scorers.html.page import Page, parse
from tests.support.blocks import rows_of
from tests.support.pages import soup_of_tags

SHARED = Path(__file__).parents[3] / "shared" / "data"
Flat = list[tuple[int, str, str]]  # depth, kind, content, in document order

KNOWN_TREES = re.compile(r"<(template|select|rt|svg|math)\b", re.IGNORECASE)
KNOWN_VERDICTS = {
    "equals-in-unquoted-attribute-value",
    "unexpected-character-in-unquoted-attribute-value",
    "expected-closing-tag-but-got-eof",
}


def add_text(tree: Flat, depth: int, text: str) -> None:
    if tree and tree[-1][:2] == (depth, "text"):
        text = tree.pop()[2] + text
    tree.append((depth, "text", text))


def element(name: str, attributes: dict[str, str]) -> str:
    """The values' white space folded, as BeautifulSoup folds those that are lists of words."""
    folded = sorted((key, " ".join(value.split())) for key, value in attributes.items())
    return f"{name} {folded}"


def ours(page: Page) -> Flat:
    tree: Flat = []
    nodes = [(node, 0) for node in reversed(page.soup.contents)]
    while nodes:
        node, depth = nodes.pop()
        if isinstance(node, Tag):
            values = {
                str(key): " ".join(value) if isinstance(value, list) else value
                for key, value in node.attrs.items()
            }
            tree.append((depth, "element", element(node.name, values)))
            nodes.extend((child, depth + 1) for child in reversed(node.contents))
        elif isinstance(node, Doctype):
            tree.append((depth, "doctype", str(node).split(" ")[0]))
        elif isinstance(node, Comment):
            tree.append((depth, "comment", str(node)))
        else:
            add_text(tree, depth, str(node))
    return tree


def html5evers(text: str) -> tuple[Flat, list[str]]:
    """The tree, and the errors."""
    parser = Parser(HtmlOptions())
    parser.process(text)
    parser.finish()
    errors = parser.errors()
    tree: Flat = []
    nodes = [(node, 0) for node in reversed(list(parser.into_dom().root().children()))]
    while nodes:
        node, depth = nodes.pop()
        kind = type(node).__name__
        if kind == "Element":
            values = {
                f"{key.prefix}:{key.local}" if key.prefix else key.local: value
                for key, value in node.attrs.items()
            }
            tree.append((depth, "element", element(node.name.local, values)))
            nodes.extend((child, depth + 1) for child in reversed(list(node.children())))
        elif kind == "Text":
            add_text(tree, depth, node.content)
        else:
            content = node.name if kind == "Doctype" else node.content
            tree.append((depth, kind.lower(), content))
    return tree, errors


def references() -> list[str]:
    file = SHARED / "ttbui_html_alpaca" / "data_finetune_html.json"
    if not file.is_file():
        pytest.skip("../shared/data is not here: no real pages to compare")
    return [row["output"] for row in json.loads(file.read_text(encoding="utf-8"))]


def damaged(rng: random.Random, text: str) -> str:
    """Cut off, an end tag or a character dropped, something put in, or a piece torn out."""
    i, j = sorted(rng.randrange(len(text)) for _ in range(2))
    ends = list(re.finditer("</[a-z0-9]+>", text))
    junk = rng.choice(["<", ">", '"', "&", "</p>", "<div>", "<table>", "<b>", "\0", "<!--"])
    end = rng.choice(ends).span() if ends else (i, i + 1)
    start, stop, put = rng.choice(
        [(j, len(text), ""), (*end, ""), (i, i + 1, ""), (i, i, junk), (i, j, "")]
    )
    return text[:start] + put + text[stop:]


def compare(name: str, texts: list[str]) -> tuple[list[str], list[str], Counter[str]]:
    """Texts whose trees differ, whose verdicts differ, and html5lib's codes in the latter."""
    trees, verdicts, codes = [], [], Counter[str]()
    compared = 0
    for text in texts:
        page = parse(text)
        if not isinstance(page, Page):
            continue  # html5lib's own crash, a named reason for us
        compared += 1
        tree, errors = html5evers(text)
        if ours(page) != tree:
            trees.append(text)
        if bool(page.errors) != bool(errors):
            verdicts.append(text)
            codes.update({error.code for error in page.errors})
    print(
        f"{name}: {compared} pages, same tree {compared - len(trees)}, "
        f"same verdict {compared - len(verdicts)} {dict(codes)}"
    )
    return trees, verdicts, codes


def test_references() -> None:
    texts = references()
    trees, verdicts, codes = compare("html_alpaca", texts)
    assert trees == []
    assert len(verdicts) <= 0.02 * len(texts)
    assert codes.keys() <= KNOWN_VERDICTS


def test_targets_of_html_blocks() -> None:
    trees, verdicts, _ = compare("html_blocks", [row.target for row in rows_of("train", 0, 150)])
    assert (trees, verdicts) == ([], [])


def test_damaged_references() -> None:
    rng = random.Random(0)
    texts = [damaged(rng, text) for text in references() for _ in range(2)][:900]
    trees, verdicts, codes = compare("damaged", texts)
    assert [text for text in trees if not KNOWN_TREES.search(text)] == []
    assert len(trees) <= 0.02 * len(texts)
    assert len(verdicts) <= 0.02 * len(texts)
    assert codes.keys() <= KNOWN_VERDICTS


def test_soups_of_tags() -> None:
    rng = random.Random(3)
    texts = [soup_of_tags(rng) for _ in range(1500)]
    trees, verdicts, codes = compare("soups", texts)
    unexplained = [text for text in trees if not KNOWN_TREES.search(text)]
    print(f"soups: {len(trees)} trees differ, {len(unexplained)} of unknown cause")
    assert len(unexplained) <= 0.002 * len(texts)
    assert len(verdicts) <= 0.02 * len(texts)
    assert codes.keys() <= KNOWN_VERDICTS
