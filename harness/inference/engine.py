"""Our engine: batches by length, left-padded, one key/value cache, rows dropped as they end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.errors import RunError, UsageError
from harness.host import signals
from harness.inference.kv_cache import keep_rows, last_states, roomy_cache
from harness.inference.request import Completion, Request, Step
from harness.models.adapter import Adapter
from harness.models.head import first_choice, head_logits
from harness.models.load import Base
from harness.records import FinishReason

Say = Callable[[str], None]


class BatchedEngine:
    """Answers requests with a loaded base and the adapters on it: `submit`, then `step` until
    `idle`.

    adapters:   what each system answers with; None: the bare base.
    batch_size: prompts decoded together. All systems use the same, since the width of a batch
                moves the last bits of bfloat16 products.
    """

    def __init__(
        self,
        base: Base,
        adapters: Mapping[str, Adapter | None],
        say: Say,
        batch_size: int | None = None,
    ) -> None:
        self.base = base
        self.say = say
        self._adapters = dict(adapters)
        usual = 32 if base.device.type == "cpu" else 64
        self._batch_size = (batch_size or usual) if base.batches else 1
        self._waiting: list[Request] = []
        self._batch: _Batch | None = None

    @property
    def idle(self) -> bool:
        """Whether no request waits or is being answered."""
        return self._batch is None and not self._waiting

    def submit(self, request: Request) -> None:
        """Have a request answered by the steps to come.

        Raises UsageError where it has no token, names no system of this engine, or fills the
        context.
        """
        if request.system not in self._adapters:
            known = ", ".join(self._adapters)
            raise UsageError(f"there is no system {request.system!r}; there are {known}.")
        if not 0 < len(request.token_ids) < self.base.context:
            raise UsageError(
                f"request {request.id!r} has {len(request.token_ids)} tokens: give from 1 to "
                f"{self.base.context - 1}, which leaves room for an answer in the context."
            )
        self._waiting.append(request)

    def clear(self) -> None:
        """Forget every request that is not yet answered."""
        self._waiting, self._batch = [], None

    def shared(self, requests: Iterable[Request]) -> list[list[Request]]:
        """The requests in the sets that are computed together. The last bits of an answer may
        depend on all of its set, so who repeats an answer submits the set whole."""
        order = sorted(requests, key=_place)
        size = self._batch_size
        return [order[at : at + size] for at in range(0, len(order), size)]

    @torch.inference_mode()
    def step(self) -> Step:
        """Give each request that is being answered one token; the longest prompts go first.

        When memory runs out, half as many go on together, from their beginning: their tokens
        come again. Raises RunError when it does for one request alone.
        """
        signals.check()
        if self.idle:
            return Step()
        going = [row.request for row in self._batch.rows] if self._batch else self._next()
        try:
            if self._batch is None:
                self._use(going[0].system)
                self._batch = _Batch(self.base, going)
            step = self._batch.step()
            if not self._batch.rows:
                self._batch = None
        except torch.OutOfMemoryError as error:
            self._batch = None
            self._halve(going, error)
        else:
            return step
        torch.cuda.empty_cache()  # the error is gone, and with it what its frames held
        return Step()

    def _next(self) -> list[Request]:
        self._waiting.sort(key=_place)
        system = self._waiting[0].system
        mine = [request for request in self._waiting if request.system == system]
        others = [request for request in self._waiting if request.system != system]
        self._waiting = [*mine[self._batch_size :], *others]
        return mine[: self._batch_size]

    def _use(self, system: str) -> None:
        for name, adapter in self._adapters.items():
            if adapter is not None:
                adapter.switch(on=name == system)

    def _halve(self, again: list[Request], error: torch.OutOfMemoryError) -> None:
        if len(again) == 1:
            raise RunError(
                f"generation runs out of memory on {self.base.device} for one prompt; "
                "lower decoding.max_new_tokens, or use --quantization nf4."
            ) from error
        self._batch_size = (len(again) + 1) // 2
        self.say(f"out of memory: {len(again)} prompts at a time become {self._batch_size}")
        self._waiting += again


def _place(request: Request) -> tuple[int, str]:
    """Long prompts first, so that a batch's are of like length."""
    return -len(request.token_ids), request.id


@dataclass
class _Row:
    """A request on its way. limit: tokens that its answer may have: what the context leaves beside
    its prompt, whatever stands beside it in the batch."""

    request: Request
    limit: int
    randomness: torch.Generator
    generated: list[int] = field(default_factory=list)

    def take(self, token: int) -> FinishReason | None:
        """The next token; why the answer ends with it, if it does."""
        if token in self.request.sampling.stop_token_ids:
            return "stop"
        self.generated.append(token)
        return "length" if len(self.generated) >= self.limit else None


class _Batch:
    """Requests of one system that are decoded together.

    rows: those that have not ended. ids [B, t], mask [B, T], positions [B, t]: what the next
    forward pass reads, the whole prompts at first, padded on the left.
    """

    def __init__(self, base: Base, requests: Sequence[Request]) -> None:
        self._base = base
        self.rows = [
            _Row(
                request,
                min(request.sampling.max_new_tokens, base.context - len(request.token_ids)),
                _generator(request.sampling.seed, request.id),
            )
            for request in requests
        ]
        width = max(len(request.token_ids) for request in requests)
        # Masked by length, never by its id.
        padding = [width - len(request.token_ids) for request in requests]
        ids = [[0] * p + [*r.token_ids] for p, r in zip(padding, requests, strict=True)]
        mask = (torch.arange(width)[None, :] >= torch.tensor(padding)[:, None]).long()
        self._ids = torch.tensor(ids).to(base.device)
        self._mask = mask.to(base.device)
        self._positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        self._cache = roomy_cache(base.model.config, max(row.limit for row in self.rows))

    def step(self) -> Step:
        """One token more for each row."""
        states = last_states(self._base, self._ids, self._mask, self._positions, self._cache)
        chosen = _choose(head_logits(self._base, states), self.rows)
        going: list[int] = []
        tokens, finished = [], []
        for place, (row, token) in enumerate(zip(self.rows, chosen.tolist(), strict=True)):
            reason = row.take(token)
            if reason != "stop":
                tokens.append((row.request.id, token))
            if reason is None:
                going.append(place)
            else:
                finished.append(Completion(row.request.id, tuple(row.generated), reason))
        if len(going) < len(self.rows):
            self.rows = [self.rows[place] for place in going]
            if going:
                places = torch.tensor(going, device=chosen.device)
                chosen = chosen[places]
                self._mask, self._positions = self._mask[places], self._positions[places]
                keep_rows(self._cache, places)
        if going:
            self._ids = chosen[:, None]
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(going), 1)], dim=1)
            self._positions = self._positions[:, -1:] + 1
        return Step(tuple(tokens), tuple(finished))


def _generator(seed: int, identity: str) -> torch.Generator:
    """Randomness of one request, so that its answer does not depend on its neighbours."""
    number = int.from_bytes(hashlib.sha256(f"{seed}-{identity}".encode()).digest()[:7], "big")
    return torch.Generator().manual_seed(number)


def _choose(logits: Tensor, rows: Sequence[_Row]) -> Tensor:
    """Next token [B] of logits [B, V]: the likeliest, or one drawn from the top_p nucleus."""
    tokens = first_choice(logits)
    drawing = [n for n, row in enumerate(rows) if row.request.sampling.temperature > 0]
    if drawing:
        places = torch.tensor(drawing, device=logits.device)
        held = logits[places].float().cpu()
        drawn = [_draw(one, rows[n]) for n, one in zip(drawing, held, strict=True)]
        tokens[places] = torch.cat(drawn).to(logits.device)
    return tokens


def _draw(logits: Tensor, row: _Row) -> Tensor:
    """A token [1] of logits [V]."""
    sampling = row.request.sampling
    p = torch.softmax(logits / sampling.temperature, -1)
    falling, order = torch.sort(p, descending=True, stable=True)
    p[order[torch.cumsum(falling, -1) - falling >= sampling.top_p]] = 0.0
    # Drawn in the vocabulary's order: in that of p, rounding would exchange near equals.
    return torch.multinomial(p, 1, generator=row.randomness)
