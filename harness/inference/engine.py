"""The engine: requests in, tokens out. It decides who is in which slot; a runner computes.

Requests wait, are read into free slots (prefill), then get a token a step (decode) until they end;
their slots go to the next ones at once, in the order in which they came.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any

import torch

from harness.errors import RunError, UsageError
from harness.host import signals
from harness.inference.request import Completion, Request, Step
from harness.inference.runner import Runner
from harness.inference.sampler import Choice
from harness.models.load import Base
from harness.records import FinishReason

Say = Callable[[str], None]

LADDER = (1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 320, 384, 512, 768, 1024)
"""Numbers of slots: the products of a step have one of few shapes."""


class Engine:
    """Answers requests with a loaded base and its systems: `submit`, then `step` until `idle`.

    systems: names of what answers. slots: requests that are answered together at most; None: as
    many as are of use on the device.
    """

    def __init__(
        self,
        base: Base,
        runner: Runner,
        systems: Collection[str],
        say: Say,
        slots: int | None = None,
    ) -> None:
        self.base, self.say = base, say
        self.runner = runner
        self.systems = list(systems)
        self._most = slots or (128 if base.device.type == "cpu" else 512)
        self._waiting: deque[Request] = deque()
        self._rows: dict[int, _Row] = {}
        self._reading: list[_Row] = []
        self._launched: deque[tuple[Any, dict[int, _Row]]] = deque()
        self._prefix: tuple[int, ...] = ()
        self._stale = False

    @property
    def idle(self) -> bool:
        """Whether no request waits or is being answered."""
        return not (self._waiting or self._rows or self._reading)

    @property
    def slots(self) -> int:
        """Requests that are answered together."""
        return self.runner.slots

    def facts(self) -> dict[str, Any]:
        """How answers are computed, for a manifest; nothing before `reserve`."""
        if not self.slots:
            return {}
        return {"slots": self.slots, "length": self.runner.length, "steps": self.runner.steps}

    def submit(self, request: Request) -> None:
        """Have a request answered by the steps to come.

        Raises UsageError where it has no token, names no system of this engine, or fills the
        context.
        """
        if request.system not in self.systems:
            known = ", ".join(self.systems)
            raise UsageError(f"there is no system {request.system!r}; there are {known}.")
        if not 0 < len(request.token_ids) < self.base.context:
            raise UsageError(
                f"request {request.id!r} has {len(request.token_ids)} tokens: give from 1 to "
                f"{self.base.context - 1}, which leaves room for an answer in the context."
            )
        self._waiting.append(request)

    @torch.inference_mode()
    def clear(self) -> None:
        """Forget every request that is not yet answered."""
        for slot in self._rows:
            self.runner.stop(slot)
        self._waiting.clear()
        self._rows.clear()
        self._reading.clear()
        self._launched.clear()

    @torch.inference_mode()
    def cancel(self, id: str) -> bool:
        """Forget one request, whose slot is then free; whether it was here."""
        waiting = [request for request in self._waiting if request.id != id]
        if len(waiting) < len(self._waiting):
            self._waiting = deque(waiting)
            return True
        for row in (*self._rows.values(), *self._reading):
            if row.request.id == id:
                row.ended = True  # what is launched already gives it a token that nobody takes
                if row in self._reading:
                    self._reading.remove(row)
                else:
                    del self._rows[row.slot]
                self.runner.stop(row.slot)
                if self.runner.dense:
                    self._close_up()
                return True
        return False

    def share(self, prefix: Sequence[int]) -> None:
        """Read these tokens once, of all prompts that begin with them, from the next time on that
        room is reserved. What they are is a part of the engine's settings: an answer's last bits
        may depend on it."""
        if tuple(prefix) != self._prefix:
            self._prefix = tuple(prefix)
            self._stale = True

    @torch.inference_mode()
    def reserve(self, requests: Iterable[Request]) -> None:
        """Have slots for as many of these requests as are answered together, whether or not they
        are submitted.

        The number of slots is that of a step's rows, which the last bits of its products may
        depend on: who goes on with a part of the requests reserves for all of them.
        """
        lengths = [self._total(request) for request in requests]
        longest = max(lengths, default=1)
        room = min(self._most, self.runner.room(longest))
        choices = sorted({n for n in (*LADDER, self._most) if n <= room})
        self._have(next((n for n in choices if n >= len(lengths)), choices[-1]), longest)

    @torch.inference_mode()
    def step(self) -> Step:
        """Read prompts into free slots, and give each request in a slot a token.

        When memory runs out, half as many go on together, from their beginning: their tokens
        come again. Raises RunError when it does for one request alone.
        """
        signals.check()
        try:
            return self._step()
        except torch.OutOfMemoryError as error:
            again = self._fewer(error)
        torch.cuda.empty_cache()  # the error is gone, and with it what its frames held
        return Step(again=again)

    def _step(self) -> Step:
        self._admit()
        if self._rows:
            choice = reduce(or_, {row.choice for row in self._rows.values()})
            longest = max(row.length for row in self._rows.values())
            rows = max(self._rows) + 1
            launched = self.runner.launch(rows, longest, choice)
            for row in self._rows.values():
                row.length += 1
            self._launched.append((launched, dict(self._rows)))
        if len(self._launched) > (self.runner.lag if self._rows else 0):
            return self._read(*self._launched.popleft())
        return Step()

    # --- prompts into slots --------------------------------------------------------------------

    def _admit(self) -> None:
        """Read prompts while there are slots for them."""
        while self._waiting or self._reading:
            self._seat()
            if not self._worthwhile():
                return
            self._prefill()

    def _seat(self) -> None:
        """Give waiting requests the free slots."""
        idle = not self._rows and not self._reading
        if not self.runner.slots or (idle and self._longest() > self.runner.length):
            self.reserve([*self._waiting])
        taken = {*self._rows, *(row.slot for row in self._reading)}
        free = [slot for slot in range(self.runner.slots) if slot not in taken]
        going = next(iter((*self._rows.values(), *self._reading)), None)
        system = going.request.system if going else None
        later: list[Request] = []
        while free and self._waiting:
            request = self._waiting.popleft()
            fits = self._total(request) <= self.runner.length
            if not fits or not (self.runner.mixed or system in (None, request.system)):
                later.append(request)
                continue
            system = request.system
            row = _Row(request, free.pop(0), self._limit(request))
            row.read = self.runner.begin(row.slot, request)
            self._reading.append(row)
        self._waiting.extendleft(reversed(later))

    def _worthwhile(self) -> bool:
        """Whether prompts are read now, while others wait for their next token: a chunk costs the
        same whether it is full or not. Those that are the last to come do not wait for more."""
        if not self._reading:
            return False
        chunk = self.runner.chunk
        if chunk is None or not self._rows or not self._waiting:
            return True
        tokens = sum(len(row.request.token_ids) - 1 - row.read for row in self._reading)
        return tokens >= chunk or len(self._reading) * 8 >= self.runner.slots

    def _prefill(self) -> None:
        """Read up to a chunk of the tokens of prompts; those that are read start."""
        room = self.runner.chunk
        parts, whole = [], []
        for row in self._reading:
            size = len(row.request.token_ids) - 1 - row.read
            if room is not None:
                size = min(size, room)
                room -= size
            if size:
                parts.append((row.slot, row.request, row.read, row.read + size))
                row.read += size
            if row.read == len(row.request.token_ids) - 1:
                whole.append(row)
            if room == 0:
                break
        if parts:
            self.runner.prefill(parts)
        for row in whole:
            self._reading.remove(row)
            self._rows[row.slot] = row
            self.runner.start(row.slot, row.request)
            row.began = time.perf_counter()

    # --- tokens out of slots -------------------------------------------------------------------

    def _read(self, launched: Any, rows: dict[int, _Row]) -> Step:
        chosen, logprobs = self.runner.read(launched)
        tokens, finished = [], []
        for slot, row in rows.items():
            if row.ended:
                continue
            token, before = chosen[slot], len(row.generated)
            reason = self._take(row, token)
            if len(row.generated) > before:
                tokens.append((row.request.id, token))
                if logprobs is not None:
                    row.logprobs.append(logprobs[slot])
            if reason is not None:
                row.ended = True
                finished.append(row.completion(reason))
                del self._rows[row.slot]
                self.runner.stop(row.slot)
        if finished and self.runner.dense:
            self._close_up()
        return Step(tuple(tokens), tuple(finished))

    def _take(self, row: _Row, token: int) -> FinishReason | None:
        """The next token of a row; why its answer ends with it, if it does."""
        sampling = row.request.sampling
        if token in sampling.stop_token_ids:
            return "stop"
        row.generated.append(token)
        if sampling.stop and self._says(row, sampling.stop):
            return "stop"
        return "length" if len(row.generated) >= row.limit else None

    def _says(self, row: _Row, stop: Collection[str]) -> bool:
        """Whether one of the texts ends in the last token: each of its bytes is in a token of its
        own at most."""
        size = max(len(text.encode()) for text in stop) + 4
        tail = self.base.tokenizer.decode(row.generated[-size:], clean_up_tokenization_spaces=False)
        return any(text in tail for text in stop)

    def _close_up(self) -> None:
        """Move the last slots in use into the free ones before them."""
        for slot in range(len(self._rows)):
            if slot not in self._rows:
                row = self._rows.pop(max(self._rows))
                self.runner.move(row.slot, slot)
                row.slot = slot
                self._rows[slot] = row

    # --- room ----------------------------------------------------------------------------------

    def _have(self, slots: int, length: int) -> None:
        """Slots of that length, at the least; where memory has no room, fewer of them."""
        if slots <= self.runner.slots and length <= self.runner.length and not self._stale:
            return
        if self._rows or self._reading:
            raise UsageError("the engine answers requests: reserve room for more when it is idle.")
        slots, length = max(slots, self.runner.slots), max(length, self.runner.length)
        while True:
            try:
                self._make(slots, length)
                return
            except torch.OutOfMemoryError as error:
                slots = self._smaller(slots, error)
            torch.cuda.empty_cache()

    def _fewer(self, error: torch.OutOfMemoryError) -> tuple[str, ...]:
        again = [row.request for row in (*self._rows.values(), *self._reading)]
        waiting = [*self._waiting]
        length = self.runner.length
        self.clear()
        self._waiting.extend([*again, *waiting])
        self._make(self._smaller(max(len(again), 1), error), length)
        return tuple(request.id for request in again)

    def _make(self, slots: int, length: int) -> None:
        self.runner.reserve(slots, length)
        self.runner.share(self._prefix)
        self._stale = False

    def _smaller(self, slots: int, error: torch.OutOfMemoryError) -> int:
        if slots == 1:
            self._waiting.clear()
            raise RunError(
                f"generation runs out of memory on {self.base.device} for one prompt; "
                "lower decoding.max_new_tokens, or use --quantization nf4."
            ) from error
        fewer = (slots + 1) // 2
        self.say(f"out of memory: {slots} prompts at a time become {fewer}")
        self._most = fewer
        return fewer

    def _limit(self, request: Request) -> int:
        """Tokens that its answer may have."""
        return min(request.sampling.max_new_tokens, self.base.context - len(request.token_ids))

    def _total(self, request: Request) -> int:
        return len(request.token_ids) + self._limit(request)

    def _longest(self) -> int:
        return max((self._total(request) for request in self._waiting), default=0)


@dataclass(slots=True)
class _Row:
    """A request in a slot.

    limit: tokens that its answer may have, whatever stands beside it. read: tokens of its prompt
    that are in the cache. length: positions that the cache will have after the steps launched so
    far.
    """

    request: Request
    slot: int
    limit: int
    read: int = 0
    length: int = 0
    ended: bool = False
    began: float = 0.0
    generated: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    choice: Choice = field(init=False)

    def __post_init__(self) -> None:
        self.choice = Choice.of(self.request)
        self.length = len(self.request.token_ids)

    def completion(self, reason: FinishReason) -> Completion:
        """The answer, which has ended."""
        wanted = tuple(self.logprobs) if self.request.sampling.logprobs else ()
        seconds = time.perf_counter() - self.began
        id, system = self.request.id, self.request.system
        return Completion(id, tuple(self.generated), reason, wanted, seconds, system)
