"""The floor that any tuned model must beat: the answer of the nearest training prompt, copied."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from harness.data.words import words
from harness.records import Example

# Scores are compared at this many decimals, so that the last bits of a sum, which differ between
# processors, never choose a neighbour.
_DECIMALS = 9


def nearest(test: Sequence[Example], train: Sequence[Example]) -> list[Example]:
    """For each test example the training example whose prompt is nearest.

    Nearest is the highest cosine of the prompts' sets of words, each word weighted by its
    inverse document frequency in `train`, log((1 + n) / (1 + df)) + 1 (the smoothed form of
    scikit-learn's TfidfTransformer); among equals the lowest id. Words: harness.data.similarity.
    Raises ValueError where `train` is empty.
    """
    if not train:
        raise ValueError("nearest() needs at least one training example")
    ordered = sorted(train, key=lambda example: example.id)
    bags = [set(words(example.prompt)) for example in ordered]
    frequency = Counter(word for bag in bags for word in bag)
    weight = {word: _idf(df, len(ordered)) for word, df in frequency.items()}
    postings: dict[str, list[int]] = {word: [] for word in frequency}
    for position, bag in enumerate(bags):
        for word in bag:
            postings[word].append(position)
    columns = {word: np.array(found, dtype=np.int64) for word, found in postings.items()}
    lengths = np.array([_length(weight[word] for word in sorted(bag)) for bag in bags])
    unseen = _idf(0, len(ordered))
    chosen = []
    for example in test:
        bag = set(words(example.prompt))
        products: npt.NDArray[np.float64] = np.zeros(len(ordered))
        for word in sorted(bag & columns.keys()):
            products[columns[word]] += weight[word] ** 2
        own = _length(weight.get(word, unseen) for word in sorted(bag))
        cosines = np.round(products / (lengths * own), _DECIMALS)
        chosen.append(ordered[int(np.argmax(cosines))])  # argmax: the first of equals
    return chosen


def _idf(document_frequency: int, documents: int) -> float:
    return math.log((1 + documents) / (1 + document_frequency)) + 1.0


def _length(weights: Iterable[float]) -> float:
    """Euclidean length; 1 for a prompt without a word, whose products are 0 anyway."""
    return math.sqrt(math.fsum(w * w for w in weights)) or 1.0
