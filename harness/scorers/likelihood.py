"""The metrics of a model's log-likelihoods: of each reference, teacher-forced, token by token.

They are of no answer, so no scorer measures them and no task names them: every run does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.records import Direction, Metric, ReferenceLikelihood, Signature

if TYPE_CHECKING:
    from harness.statistics.paired import Link

SUMMARY = "of the references' log-likelihoods; measured in every run, named in no task"


@dataclass(frozen=True, slots=True)
class LikelihoodMetric:
    """A figure of a corpus: `link` of the mean of `value` over its references, by `weight`.

    by_token: a number a token, which compares nothing between two tokenizers.
    """

    metric: Metric
    weight: Callable[[ReferenceLikelihood], int]
    value: Callable[[ReferenceLikelihood], float]
    link: Link = "identity"
    by_token: bool = True


def _metric(name: str, direction: Direction, unit: str) -> Metric:
    settings = (("of", "reference"), ("unit", unit), ("mean", "corpus"))
    return Metric(name, direction, Signature(name, settings, None, 1))


LIKELIHOOD_METRICS = (
    LikelihoodMetric(
        _metric("cross_entropy", "lower", "nats/token"),
        lambda s: s.tokens,
        lambda s: s.nll / s.tokens,
    ),
    LikelihoodMetric(
        _metric("perplexity", "lower", "1/p"),
        lambda s: s.tokens,
        lambda s: s.nll / s.tokens,
        link="exp",
    ),
    LikelihoodMetric(
        _metric("bits_per_byte", "lower", "bits/byte"),
        lambda s: s.bytes,
        lambda s: s.nll / math.log(2) / s.bytes,
        by_token=False,
    ),
    LikelihoodMetric(
        _metric("token_accuracy", "higher", "share"),
        lambda s: s.tokens,
        lambda s: s.correct / s.tokens,
    ),
)
