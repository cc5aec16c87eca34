"""Pages to time scorers on: put together from html_blocks, and two systems' damaged versions."""

from __future__ import annotations

import random
from collections.abc import Sequence

from harness.config.registry import Registry
from harness.data.load import load
from harness.records import Assertion, Sample

PAGE = 2_500  # characters of one page, about


def answers_of_both(count: int, seed: int = 0) -> tuple[list[Sample], list[Sample]]:
    """`count` samples of a base and of a tuned system, answers to the same references.

    A reference is a document of some nine blocks. The answers have blocks exchanged, moved and
    changed, tags dropped, the end cut: the base system's more of it.
    """
    registry = Registry()
    task = registry.task("html_blocks")
    loaded = load(task, task_dir=registry.path("tasks", task.name).parent)
    blocks = [(e.target, e.assertions) for e in loaded.examples]
    rng = random.Random(seed)
    base: list[Sample] = []
    tuned: list[Sample] = []
    for number in range(count):
        chosen: list[tuple[str, tuple[Assertion, ...]]] = []
        while sum(len(text) for text, _ in chosen) < PAGE - 160:
            chosen.append(rng.choice(blocks))
        texts = [text for text, _ in chosen]
        reference = _document(texts, number)
        spare = [text for text, _ in rng.sample(blocks, 3)]
        for into, damage in ((base, 3), (tuned, 1)):
            answer = _damaged(texts, spare[:damage], number, rng)
            into.append(
                Sample(
                    id=f"{number:04}",
                    prompt=f"Write page {number}.",
                    reference=reference,
                    prediction=answer,
                    assertions=chosen[0][1],
                )
            )
    return base, tuned


def _document(blocks: Sequence[str], number: int) -> str:
    body = "\n".join(blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>Page {number}</title>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _damaged(blocks: Sequence[str], spare: Sequence[str], number: int, rng: random.Random) -> str:
    """The document with as many blocks exchanged, tags dropped and words changed as spares."""
    kept = list(blocks)
    for text in spare:
        kept[rng.randrange(len(kept))] = text
        a, b = rng.randrange(len(kept)), rng.randrange(len(kept))
        kept[a], kept[b] = kept[b], kept[a]
    page = _document(kept, number)
    for _ in spare:
        ends = [at for at in range(len(page)) if page.startswith("</", at)]
        at = rng.choice(ends)
        page = page[:at] + page[page.index(">", at) + 1 :]
        page = page.replace(rng.choice(page.split()), "word", 1)
    return page[: rng.randrange(len(page) // 2, len(page))] if rng.random() < 0.1 else page
