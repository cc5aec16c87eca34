"""Tree scorers: against apted and a textbook algorithm, properties, hostile pages, mutations."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from apted import APTED, Config  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.records import Sample
from harness.regression.goldens import faults_of, read_cases
from harness.scorers import get
from harness.scorers.base import Unscored
from harness.scorers.html.page import parse
from harness.scorers.html.tree import Tree, tree_of
from harness.scorers.html.tree_distance import MAX_WORK, TooMuchWork, edit_distance
from harness.scorers.html.tree_edit import similarity
from tests.support.limits import cpu_limit

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
Forest = tuple[list[str], list[int]]  # labels and sizes in postorder


def distance(a: Forest, b: Forest) -> int:
    return edit_distance(*a, *b)


def random_forest(rng: random.Random, size: int, letters: str) -> Forest:
    children: list[list[int]] = [[] for _ in range(size + 1)]
    reach = rng.choice([1, 2, 5, size + 1])  # 1: a chain; large: bushy
    for node in range(1, size + 1):
        children[rng.randint(max(0, node - reach), node - 1)].append(node)
    labels: list[str] = []
    sizes: list[int] = []

    def walk(node: int) -> int:
        below = sum(walk(child) for child in children[node])
        if node:
            labels.append(rng.choice(letters))
            sizes.append(below + 1)
        return below + 1

    walk(0)
    return labels, sizes


def textbook(a: Forest, b: Forest) -> int:
    """Zhang and Shasha as in their paper, under one more root each."""
    labels_a, labels_b = [*a[0], ""], [*b[0], ""]
    sizes_a, sizes_b = [*a[1], len(a[1]) + 1], [*b[1], len(b[1]) + 1]
    left_a = [i - size + 1 for i, size in enumerate(sizes_a)]
    left_b = [i - size + 1 for i, size in enumerate(sizes_b)]
    trees = [[0] * len(labels_b) for _ in labels_a]
    for i in sorted({left: i for i, left in enumerate(left_a)}.values()):
        for j in sorted({left: j for j, left in enumerate(left_b)}.values()):
            p, q = left_a[i], left_b[j]
            table = [[0] * (j - q + 2) for _ in range(i - p + 2)]
            for x in range(i - p + 2):
                table[x][0] = x
            table[0] = list(range(j - q + 2))
            for x in range(p, i + 1):
                for y in range(q, j + 1):
                    one, two = x - p + 1, y - q + 1
                    best = 1 + min(table[one - 1][two], table[one][two - 1])
                    if left_a[x] == p and left_b[y] == q:
                        other = table[one - 1][two - 1] + (labels_a[x] != labels_b[y])
                        trees[x][y] = min(best, other)
                    else:
                        other = table[left_a[x] - p][left_b[y] - q] + trees[x][y]
                    table[one][two] = min(best, other)
    return trees[-1][-1]


class Node:
    """apted's kind of tree."""

    def __init__(self, name: str, children: list[Node]) -> None:
        self.name, self.children = name, children


class Names(Config):  # type: ignore[misc]
    def rename(self, a: Node, b: Node) -> int:
        return int(a.name != b.name)


def node_of(forest: Forest) -> Node:
    waiting: list[tuple[int, Node]] = []
    for i, (label, size) in enumerate(zip(*forest, strict=True)):
        children: list[Node] = []
        while waiting and waiting[-1][0] > i - size:
            children.insert(0, waiting.pop()[1])
        waiting.append((i, Node(label, children)))
    return Node("", [node for _, node in waiting])


def by_apted(a: Forest, b: Forest) -> int:
    return int(APTED(node_of(a), node_of(b), Names()).compute_edit_distance())


def test_distance_is_the_textbooks_on_random_forests() -> None:
    rng = random.Random(0)
    for _ in range(1000):
        letters = rng.choice(["a", "ab", "abcdef"])
        a = random_forest(rng, rng.randint(0, 12), letters)
        b = random_forest(rng, rng.randint(0, 12), letters)
        assert distance(a, b) == textbook(a, b), (a, b)
    for _ in range(12):
        a, b = random_forest(rng, 60, "abcde"), random_forest(rng, 50, "abcde")
        assert distance(a, b) == textbook(a, b)


def test_distance_is_apteds_on_random_forests() -> None:
    rng = random.Random(1)
    for _ in range(350):
        a = random_forest(rng, rng.randint(0, 14), "abc")
        b = random_forest(rng, rng.randint(0, 14), "abc")
        assert distance(a, b) == by_apted(a, b), (a, b)


def test_distance_of_small_edits_is_the_textbooks() -> None:
    # Mostly equal trees: what is taken off before the tables are made must cost nothing.
    rng = random.Random(2)
    for _ in range(700):
        labels, sizes = random_forest(rng, rng.randint(2, 14), "ab")
        other = [rng.choice("ab") if rng.random() < 0.15 else label for label in labels]
        assert distance((labels, sizes), (other, sizes)) == textbook(
            (labels, sizes), (other, sizes)
        )


def forest_of(text: str) -> Forest:
    tree = tree_of(text)
    assert isinstance(tree, Tree)
    return list(tree.labels), list(tree.sizes)


def references() -> list[str]:
    file = SHARED / "ttbui_html_alpaca" / "data_finetune_html.json"
    if not file.is_file():
        pytest.skip("../shared/data is not here: no real pages to compare")
    return [row["output"] for row in json.loads(file.read_text(encoding="utf-8"))]


def test_distance_is_apteds_on_real_pages() -> None:
    forests = [forest_of(text) for text in references()[:240]]
    compared = 0
    for a, b in pairwise(forests):
        if len(a[0]) * len(b[0]) < 900:
            assert distance(a, b) == by_apted(a, b)
            compared += 1
    assert compared > 150


TAGS = ["p", "div", "ul", "li", "b", "table", "tr", "td", "br", "h1"]
bits = st.sampled_from([f"<{t}>" for t in TAGS] + [f"</{t}>" for t in TAGS] + ["x", "y", " ", "я"])
pages = st.lists(bits, max_size=25).map("".join)


@settings(max_examples=150, deadline=None)
@given(pages, pages, pages)
def test_distance_is_a_metric(a: str, b: str, c: str) -> None:
    x, y, z = forest_of(a), forest_of(b), forest_of(c)
    assert distance(x, x) == 0
    assert (distance(x, y) == 0) == (x == y)
    assert distance(x, y) == distance(y, x)
    assert distance(x, z) <= distance(x, y) + distance(y, z)
    assert abs(len(x[0]) - len(y[0])) <= distance(x, y) <= len(x[0]) + len(y[0])


@settings(max_examples=150, deadline=None)
@given(pages, pages)
def test_scores_are_bounded_and_best_for_the_reference(a: str, b: str) -> None:
    edit = similarity(a, b)
    assert isinstance(edit, float)
    assert 0 <= edit <= 1
    assert edit == similarity(b, a)
    assert similarity(a, a) == 1
    bleu = tree_bleu(a, b)
    assert isinstance(bleu, Unscored) or 0 <= bleu <= 1
    assert tree_bleu(a, a) in (1, Unscored("the reference has no element but html, head and body"))


def tree_bleu(reference: str, prediction: str) -> float | Unscored:
    scored = get(["tree_bleu"])[0].scorer.score(Sample("s", "", reference, prediction))
    return scored["tree_bleu"]


def test_tree_of_a_page() -> None:
    page = "<!DOCTYPE html><title> t\n u </title><ul><li>a<!-- c -->b <li><b>c</b></ul>\n<script>s"
    assert tree_of(page) == Tree(
        labels=('"t u', "<title", '"ab', "<li", '"c', "<b", "<li", "<ul", '"s', "<script"),
        sizes=(1, 2, 1, 2, 1, 2, 3, 6, 1, 2),
        families=(("head", "title"), ("body", "ul", "script"), ("ul", "li", "li"), ("li", "b")),
    )


HOSTILE = {
    "flat": "<br>" * 5000,
    "paragraphs": "<p>a</p>" * 1500,
    "deep": "<div>" * 400,
    "leaning right": "<i>a</i><div>" * 200,
    "leaning both ways": "<div>a" * 200 + "</div>b" * 200,
    "soup": "".join(random.Random(5).choices(["<div>", "</div>", "x", "<b>y</b>"], k=3000)),
    "nested too deep": "<div>" * 50_000,
    "attributes": "<p " + " ".join(f"a{i}" for i in range(20_000)) + ">",
    "comments": "<!--" * 20_000,
    "text": "x" * 400_000,
    "too long": "x" * 400_001,
    "NUL": "\0<p>\0" * 1000,
    "surrogates": "\ud800<p>\udfff",
    "empty": "",
}


def test_hostile_pages_are_scored_or_refused_with_a_reason() -> None:
    others = {"page": "<ul><li>a<li>b</ul>", **{k: HOSTILE[k] for k in ("flat", "leaning right")}}
    for text in HOSTILE.values():
        for other_kind, other in others.items():
            if isinstance(parse(text), Unscored) and other_kind != "page":
                continue
            tree_of(text)
            tree_of(other)
            with cpu_limit():
                edit, bleu = similarity(other, text), tree_bleu(other, text)
            for value in (edit, bleu):
                assert value.reason if isinstance(value, Unscored) else 0 <= value <= 1


def test_equal_and_nearly_equal_trees_are_scored_whatever_their_size() -> None:
    large, mixed = (
        tuple(part * 12 for part in random_forest(random.Random(seed), 700, "abc"))
        for seed in (7, 8)
    )
    assert distance(large, large) == 0
    one, two = ((large[0] + [tag], large[1] + [1]) for tag in "xy")
    assert distance(one, two) == 1
    with pytest.raises(TooMuchWork):
        distance(large, mixed)
    assert len(large[0]) * len(mixed[0]) > MAX_WORK


def _sets(items: Sequence[object]) -> tuple[object, ...]:
    return tuple(dict.fromkeys(items))


MUTATIONS = {
    "sets": lambda tree: Tree(tree.labels, tree.sizes, _sets(tree.families)),
    "children unordered": lambda tree: Tree(
        tree.labels, tree.sizes, tuple((f[0], *sorted(f[1:])) for f in tree.families)
    ),
    "parent ignored": lambda tree: Tree(
        tree.labels, tree.sizes, tuple(("", *f[1:]) for f in tree.families)
    ),
    "html counted": lambda tree: Tree(
        tree.labels, tree.sizes, (("html", "head", "body"), *tree.families)
    ),
    "texts all alike": lambda tree: Tree(
        tuple(label if label[0] == "<" else '"' for label in tree.labels), tree.sizes, tree.families
    ),
    "tags all alike": lambda tree: Tree(
        tuple("<" if label[0] == "<" else label for label in tree.labels), tree.sizes, tree.families
    ),
    "case folded": lambda tree: Tree(
        tuple(label.lower() for label in tree.labels), tree.sizes, tree.families
    ),
    "flat": lambda tree: Tree(tree.labels, (1,) * len(tree.sizes), tree.families),
}
OF_BLEU = ("sets", "children unordered", "parent ignored", "html counted")


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_goldens_notice_a_broken_tree(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "tree_bleu" if mutation in OF_BLEU else "tree_edit_similarity"
    module = {"tree_bleu": "tree_bleu", "tree_edit_similarity": "tree_edit"}[name]

    def broken(text: str) -> object:
        tree = tree_of(text)
        return MUTATIONS[mutation](tree) if isinstance(tree, Tree) else tree  # type: ignore[no-untyped-call]

    monkeypatch.setattr(f"harness.scorers.html.{module}.tree_of", broken)
    cases = read_cases(ROOT / "baselines" / "goldens" / f"{name}.toml")
    scorer = get([name])[0]
    assert any(faults_of(case, scorer.score) for case in cases)
