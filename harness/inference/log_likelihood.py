"""Log-likelihood of references under a model: teacher-forced, packed, one record an example."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch

from harness.data.tokens import Codec, with_labels
from harness.decoder.decoder import Decoder
from harness.decoder.packed import plan_packing, usual_row_tokens
from harness.decoder.teacher_forced import token_scores
from harness.host import signals
from harness.models.adapter import Adapter
from harness.models.load import Base
from harness.records import Example, ReferenceLikelihood


class LogLikelihood:
    """Scores references with a loaded base, with an adapter on it as it stands now or without.

    decoder: the fused layers, refreshed, where they compute the model; None: transformers' own.
    max_length: tokens of an example that are scored at most (prompt included).
    """

    def __init__(self, base: Base, codec: Codec, max_length: int, decoder: Decoder | None) -> None:
        self.base, self.codec = base, codec
        self.max_length, self.decoder = max_length, decoder
        self.row_tokens = usual_row_tokens(self.base, decoder is not None)

    def of(
        self, examples: Sequence[Example], adapter: Adapter, on: bool, done: Collection[str] = ()
    ) -> Iterator[ReferenceLikelihood]:
        """The examples' references, but for those whose id is in `done`, under the base with the
        adapter on, or off.

        They are packed into sequences in which none sees another. A reference whose prompt alone
        fills the context has no token to score and is left out.
        """
        samples = with_labels(self.codec.sample(e, self.max_length) for e in examples)
        for members in plan_packing(samples, self.row_tokens, self.base.model.config):
            row = [samples[i] for i in members]
            if all(sample.id in done for sample in row):
                continue
            signals.check()
            adapter.switch(on)
            seen = [adapter.index if on else None] * len(row)
            nll, correct = token_scores(self.base, row, self.decoder, seen)
            sizes = [sample.scored_tokens for sample in row]
            for sample, own, hits in zip(
                row, torch.split(nll, sizes), torch.split(correct, sizes), strict=True
            ):
                if sample.id not in done:
                    yield ReferenceLikelihood(
                        id=sample.id,
                        nll=float(own.sum(dtype=torch.float64)),
                        correct=int(hits.sum()),
                        tokens=sample.scored_tokens,
                        bytes=sample.bytes,
                        cut=sample.cut,
                    )
