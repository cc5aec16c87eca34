"""How the answer came out, whatever it says: empty, cut off, fenced, in a loop, how long."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from harness.records import Sample
from harness.scorers.base import Scorer, Unscored, Value, metric

MAX_CHARACTERS = 400_000
_RUN = 32  # characters; a power of two

# CommonMark 0.31, 4.5: three or more backticks or tildes, indented by at most three spaces.
# No backtick may follow backticks on the line: ```x``` is a span of code.
_FENCE = r"^ {0,3}(?:`{3,}[^`\n]*|~{3,}.*)$"
_FENCE_OR_HOLDER = re.compile(rf"<(/?)(?:pre|textarea)\b|({_FENCE})", re.MULTILINE | re.IGNORECASE)


class Form(Scorer):
    """Five measures of an answer's form. They see no meaning: a good page may be long.

    Yes or no, of the answer as generated; lower is better:
    empty:     nothing but white space.
    truncated: generation stopped at its limit of tokens, not at an end-of-text; None where the
               sample does not say how it ended.
    fenced:    some line opens or closes a Markdown code fence (CommonMark 0.31, 4.5); one inside
               a pre or textarea is a part of the page.

    Of the raw or the extracted answer:
    repetition:   see `repetition`; 0 to 1, lower is better. None over MAX_CHARACTERS.
    length_ratio: the shorter of answer and reference over the longer, in characters, white
                  space at the ends off; 0 to 1, and higher is better: 1/15 is an answer 15
                  times too long or too short (the two lengths, which tell, are in the
                  details). A plain ratio has its best in the middle, and its mean is the few
                  longest answers'. None where the reference is empty.
    """

    name = "answers"
    summary = "the answer's form: empty, cut off, fenced, repeating itself, how long"
    version = 2
    metrics = (
        metric("empty", "lower", 2, binary=True, raw=True),
        metric("truncated", "lower", 2, binary=True, raw=True),
        metric("fenced", "lower", 2, binary=True, raw=True, fence="commonmark"),
        metric("repetition", "lower", 2, run=str(_RUN), space="no"),
        metric("length_ratio", "higher", 2, of="min/max", unit="char"),
    )

    def score(self, sample: Sample) -> dict[str, Value]:
        text = sample.prediction
        return {
            "empty": float(not text.strip()),
            "truncated": (
                Unscored("why the answer ended is not known")
                if sample.finish_reason is None
                else float(sample.finish_reason == "length")
            ),
            "fenced": float(_fenced(text)),
            "repetition": repetition(text),
            "length_ratio": length_ratio(sample.reference, text),
        }

    def details(self, sample: Sample) -> dict[str, Any]:
        lengths = {"answer": sample.prediction, "reference": sample.reference}
        return {"characters": {name: len(text.strip()) for name, text in lengths.items()}}


def _fenced(text: str) -> bool:
    found = [*_FENCE_OR_HOLDER.finditer(text)]
    last = max((tag.start() for tag in found if tag.group(1)), default=-1)
    depth = 0
    for each in found:
        if each.group(2) is None:
            depth = max(0, depth + (-1 if each.group(1) else 1))
        elif not depth or each.start() > last:
            return True
    return False


def repetition(text: str) -> Value:
    """The share of the characters that lie in a run of 32 which the text had before, 0 to 1.

    White space is taken out first; the earlier run may overlap the later one, so that a loop
    of any period counts from its second turn on: k copies of a long enough piece, however
    short its period, give (k - 1) / k. Under 33 characters, 0.

    32 characters are more than what holds a table, a list or a form together: of the 636
    references of html_alpaca half have 0, a tenth over 0.10, one in a hundred over 0.39 (mean
    0.03), and `<p>spam` forty times has 39/40. By characters, not words: a loop inside an
    address, a number or a Chinese sentence is one too. It cannot see a loop that counts
    ("Item 1", "Item 2"), nor whether the page had reason to repeat itself.
    Source: our own definition, after the duplicate n-grams of Rae et al. 2021 (Gopher).
    """
    if len(text) > MAX_CHARACTERS:
        return Unscored(f"longer than {MAX_CHARACTERS:,} characters")
    text = "".join(text.split())
    seen: set[str] = set()
    repeated = 0
    covered = 0  # all before it is counted
    for at in _candidates(text):
        run = text[at : at + _RUN]
        if run in seen:
            repeated += at + _RUN - max(at, covered)
            covered = at + _RUN
        seen.add(run)
    return repeated / len(text) if repeated else 0.0


def _candidates(text: str) -> list[int]:
    """Where the runs begin that may occur twice, in order: those whose hash does."""
    if len(text) <= _RUN:
        return []
    packed = text.encode("utf-32-le", "surrogatepass")
    hashes = np.frombuffer(packed, dtype="<u4").astype(np.uint64)
    factor, width = 0x9E3779B97F4A7C15, 1  # odd, else arbitrary
    while width < _RUN:
        hashes = hashes[:-width] * np.uint64(factor) + hashes[width:]  # modulo 2**64
        factor, width = factor * factor % 2**64, 2 * width
    ordered = np.sort(hashes)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    return np.flatnonzero(np.isin(hashes, twice)).tolist() if len(twice) else []


def length_ratio(reference: str, prediction: str) -> Value:
    """Characters of the shorter over those of the longer, both stripped: 1 is equally long."""
    lengths = len(reference.strip()), len(prediction.strip())
    if not lengths[0]:
        return Unscored("the reference is empty")
    return min(lengths) / max(lengths)
