"""Our engine: batches by length, left-padded, one key/value cache, rows dropped as they end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness.config.schema import DecodingConfig
from harness.data.tokens import Codec, prompt_room
from harness.errors import RunError
from harness.host import signals
from harness.inference.log_likelihood import LogLikelihood
from harness.models.adapter import Adapter
from harness.models.head import first_choice, head_logits
from harness.models.load import Base
from harness.records import Arm, Example, Generation, SampleLoss

Say = Callable[[str], None]
Tick = Callable[[int], None]


@dataclass
class _Answer:
    """One prompt on its way: its ids, what was generated, and its own source of randomness.

    cut: the prompt lost its beginning. limit: tokens that the answer may have: what the context
    leaves beside this prompt, whatever stands beside it in the batch.
    """

    example: Example
    prompt: list[int]
    cut: bool
    limit: int
    generated: list[int] = field(default_factory=list)
    randomness: torch.Generator | None = None


class BatchedEngine:
    """Answers with a loaded base and, as "tuned", its adapter.

    max_length: tokens of a reference that are scored at most (prompt included).
    batch_size: prompts decoded together. Both arms use the same, since the width of a batch
                moves the last bits of bfloat16 products.
    """

    def __init__(
        self,
        base: Base,
        adapter: Adapter,
        codec: Codec,
        max_length: int,
        say: Say,
        batch_size: int | None = None,
    ) -> None:
        self.base = base
        self.adapter = adapter
        self.codec = codec
        self.max_length = min(max_length, base.context)
        usual = 32 if base.device.type == "cpu" else 64
        self.batch_size = (batch_size or usual) if base.batches else 1
        self.say = say
        self._log_likelihood: LogLikelihood | None = None

    # --- generate ----------------------------------------------------------------------------

    def generate(
        self,
        arm: Arm,
        examples: Sequence[Example],
        decoding: DecodingConfig,
        done: Collection[str],
        tick: Tick,
    ) -> Iterator[Generation]:
        """Answers, each yielded as it ends; greedy where the temperature is 0.

        A prompt that leaves no room in the model's context loses its beginning, but for the BOS.
        Raises RunError when memory runs out even for one prompt at a time.
        """
        room = prompt_room(self.base.context, decoding.max_new_tokens)
        prompts = [self.codec.prompt_within(example.prompt, room) for example in examples]
        if cut := sum(short for _, short in prompts):
            self.say(f"{cut} of {len(prompts)} prompts are cut to {room} tokens, their last ones")
        order = sorted(range(len(examples)), key=lambda i: (-len(prompts[i][0]), examples[i].id))
        batches = [order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)]
        while batches:
            batch = batches.pop(0)
            wanted = {examples[i].id for i in batch} - set(done)
            if not wanted:
                continue
            answers = [
                _Answer(examples[i], *prompts[i], self._limit(prompts[i][0], decoding))
                for i in batch
            ]
            try:
                for answer in self._decode(arm, answers, decoding, wanted, tick):
                    if answer.id in wanted:
                        wanted.discard(answer.id)
                        yield answer
            except torch.OutOfMemoryError as error:
                torch.cuda.empty_cache()
                if len(batch) == 1:
                    raise RunError(
                        f"generation runs out of memory on {self.base.device} for one prompt; "
                        "lower decoding.max_new_tokens, or use --quantization nf4."
                    ) from error
                half = (len(batch) + 1) // 2
                self.say(f"out of memory: {len(batch)} prompts at a time become {half}")
                self.batch_size = half
                done = {*done, *({examples[i].id for i in batch} - wanted)}
                batches[:0] = [batch[:half], batch[half:]]

    def _limit(self, prompt: list[int], decoding: DecodingConfig) -> int:
        return min(decoding.max_new_tokens, self.base.context - len(prompt))

    @torch.inference_mode()
    def _decode(
        self,
        arm: Arm,
        answers: list[_Answer],
        decoding: DecodingConfig,
        wanted: Collection[str],
        tick: Tick,
    ) -> Iterator[Generation]:
        from harness.inference.kv_cache import keep_rows, last_states, roomy_cache

        device = self.base.device
        width = max(len(answer.prompt) for answer in answers)
        # Padding stands on the left, masked by length and never by its token id.
        padding = [width - len(answer.prompt) for answer in answers]
        pad = self.codec.eos
        ids = torch.tensor([[pad] * p + a.prompt for p, a in zip(padding, answers, strict=True)])
        mask = (torch.arange(width)[None, :] >= torch.tensor(padding)[:, None]).long()
        ids, mask = ids.to(device), mask.to(device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        for answer in answers:
            if decoding.temperature > 0:
                answer.randomness = _generator(decoding.seed, answer.example.id)
        cache = roomy_cache(self.base.model.config, max(answer.limit for answer in answers))
        live, ends = list(answers), self.codec.ends
        while live:
            signals.check()
            self.adapter.use(arm)
            states = last_states(self.base, ids, mask, positions, cache)
            tokens = _choose(head_logits(self.base, states), decoding, live)
            tick(sum(answer.example.id in wanted for answer in live))
            kept: list[int] = []
            for index, (answer, token) in enumerate(zip(live, tokens.tolist(), strict=True)):
                if token in ends:
                    if answer.example.id in wanted:
                        tick(decoding.max_new_tokens - len(answer.generated) - 1)
                    yield self._finished(answer, "stop")
                    continue
                answer.generated.append(token)
                if len(answer.generated) >= answer.limit:
                    if answer.example.id in wanted:
                        tick(decoding.max_new_tokens - answer.limit)
                    yield self._finished(answer, "length")
                else:
                    kept.append(index)
            if len(kept) < len(live):
                live = [live[i] for i in kept]
                if not live:
                    return
                rows = torch.tensor(kept, device=device)
                tokens, mask, positions = tokens[rows], mask[rows], positions[rows]
                keep_rows(cache, rows)
            ids = tokens[:, None]
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
            positions = positions[:, -1:] + 1

    def _finished(self, answer: _Answer, reason: Any) -> Generation:
        return Generation(
            id=answer.example.id,
            text=self.codec.decode(answer.generated),
            finish_reason=reason,
            prompt_tokens=len(answer.prompt),
            completion_tokens=len(answer.generated),
            cut=answer.cut,
        )

    # --- log-likelihood ----------------------------------------------------------------------

    def measure(
        self, arm: Arm, examples: Sequence[Example], done: Collection[str]
    ) -> Iterator[SampleLoss]:
        """Log-likelihood of the references, as `LogLikelihood.of` has it."""
        if self._log_likelihood is None:
            self._log_likelihood = LogLikelihood(
                self.base, self.adapter, self.codec, self.max_length
            )
        return self._log_likelihood.of(arm, examples, done)


def _generator(seed: int, identity: str) -> torch.Generator:
    """Randomness of one sample, so that its answer does not depend on its neighbours."""
    import hashlib

    number = int.from_bytes(hashlib.sha256(f"{seed}-{identity}".encode()).digest()[:7], "big")
    return torch.Generator().manual_seed(number)


def _choose(logits: Tensor, decoding: DecodingConfig, live: list[_Answer]) -> Tensor:
    """Next token [B] of logits [B, V]: the likeliest, or one drawn from the top_p nucleus."""
    if decoding.temperature == 0:
        return first_choice(logits)
    drawn = []
    for row, answer in zip(logits.float().cpu() / decoding.temperature, live, strict=True):
        p = torch.softmax(row, -1)
        falling, order = torch.sort(p, descending=True, stable=True)
        p[order[torch.cumsum(falling, -1) - falling >= decoding.top_p]] = 0.0
        # Drawn in the vocabulary's order: in that of p, rounding would exchange near equals.
        drawn.append(torch.multinomial(p, 1, generator=answer.randomness))
    return torch.cat(drawn).to(logits.device)
