"""Exact match."""

from __future__ import annotations

from harness.records import Metric, Sample
from harness.scorers.base import signature


class ExactMatch:
    """`exact_match`: 1 where answer and reference are equal after str.strip(), else 0.

    Sees every character between the outer white space, order and case included. Cannot see
    that two different texts mean the same page. Two empty texts are equal.
    """

    name = "exact_match"
    version = 1
    metrics = (
        Metric("exact_match", "higher", signature("exact_match", 1, norm="strip"), binary=True),
    )

    def score(self, sample: Sample) -> dict[str, float | None]:
        return {"exact_match": float(sample.prediction.strip() == sample.reference.strip())}
