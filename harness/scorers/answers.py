"""How the answer came out, whatever it says: empty, cut off, fenced."""

from __future__ import annotations

import re

from harness.records import Metric, Sample
from harness.scorers.base import signature

# CommonMark 0.31, 4.5: three or more backticks or tildes, indented by at most three spaces.
# No backtick may follow backticks on the line: ```x``` is a span of code.
_FENCE = re.compile(r"^ {0,3}(?:`{3,}[^`\n]*|~{3,}.*)$", re.MULTILINE)


class Answers:
    """Three yes/no measures of an answer's form; lower is better for each. They see no content.

    empty:     nothing but white space.
    truncated: generation stopped at its limit of tokens, not at an end-of-text.
    fenced:    some line opens or closes a Markdown code fence (CommonMark 0.31, 4.5).
    """

    name = "answers"
    version = 1
    metrics = (
        Metric("empty", "lower", signature("empty", 1), binary=True),
        Metric("truncated", "lower", signature("truncated", 1), binary=True),
        Metric("fenced", "lower", signature("fenced", 1, fence="commonmark"), binary=True),
    )

    def score(self, sample: Sample) -> dict[str, float | None]:
        text = sample.prediction
        return {
            "empty": float(not text.strip()),
            "truncated": float(sample.finish_reason == "length"),
            "fenced": float(_FENCE.search(text) is not None),
        }
