"""The choice of the next token, on the device, for all rows of a step at once.

A draw depends on the request's key and on the token's place in it alone: its noise is a hash of
the two and of the token's id, so that neither the batch nor the device's own randomness has a part
in it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from harness.inference.request import Request

_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Constants of SplitMix64 (Steele, Lea and Flood, 2014)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a step computes beside the likeliest token: as little as its rows ask for."""

    draws: bool = False
    penalised: bool = False
    logprobs: bool = False

    @classmethod
    def of(cls, request: Request) -> Choice:
        """What one request asks for."""
        sampling = request.sampling
        penalised = sampling.repetition_penalty != 1.0
        return cls(sampling.temperature > 0, penalised, sampling.logprobs)

    def __or__(self, other: Choice) -> Choice:
        return Choice(*(getattr(self, f.name) or getattr(other, f.name) for f in fields(self)))

    @property
    def plain(self) -> bool:
        """Whether the likeliest token is all there is to find."""
        return self == Choice()


class Rows:
    """How each of S rows chooses: columns on the device, set a row at a time."""

    WHOLE, REAL = 2, 4

    def __init__(self, rows: int, vocabulary: int, device: torch.device) -> None:
        self._vocabulary = vocabulary
        self._whole = torch.zeros(rows, self.WHOLE, dtype=torch.long, device=device)
        self._real = torch.zeros(rows, self.REAL, dtype=torch.float32, device=device)
        self._real[:, 3] = 1.0
        self._seen: Tensor | None = None
        self._touched = False

    def state(self) -> list[Tensor]:
        """What `choose` changes."""
        return [] if self._seen is None else [self._seen]

    def set(self, row: int, request: Request) -> None:
        """The row is the request's from now on."""
        if not self._touched and replace(Choice.of(request), logprobs=False).plain:
            return  # as every row is from the beginning
        self._touched = True
        s = request.sampling
        # Filled, not assigned: on a GPU the host would wait for all that was launched.
        for at, whole in enumerate((key(s.seed, request.draw or request.id), s.top_k)):
            self._whole[row, at].fill_(whole)
        for at, real in enumerate((s.temperature, s.top_p, s.min_p, s.repetition_penalty)):
            self._real[row, at].fill_(real)
        if s.repetition_penalty != 1.0 and self._seen is None:
            shape = len(self._whole), self._vocabulary
            self._seen = torch.zeros(shape, dtype=torch.bool, device=self._whole.device)
        if self._seen is not None:
            self._seen[row] = False
            self._seen[row, torch.tensor(request.token_ids, device=self._seen.device)] = True

    def move(self, source: int, target: int) -> None:
        """What row `source` has becomes that of row `target`."""
        for each in (self._whole, self._real, self._seen):
            if each is not None:
                each[target] = each[source]

    def choose(self, logits: Tensor, place: Tensor, choice: Choice) -> tuple[Tensor, Tensor | None]:
        """The next token [T] of logits [T, V] of the first T rows, and where asked for its log p.

        place: [T], of the token in its request.
        """
        rows = len(logits)
        logp = None
        if choice.logprobs:
            logp = torch.log_softmax(logits.float(), -1)
        if choice.penalised:
            assert self._seen is not None
            penalty = self._real[:rows, 3:]
            wide = logits.float()
            lowered = torch.where(wide > 0, wide / penalty, wide * penalty)
            logits = torch.where(self._seen[:rows], lowered, wide)
        tokens = logits.argmax(-1)
        if choice.draws:
            drawn = draw(logits.float(), self._whole[:rows], self._real[:rows], place)
            tokens = torch.where(self._real[:rows, 0] > 0, drawn, tokens)
        if choice.penalised:
            assert self._seen is not None
            self._seen[:rows].scatter_(1, tokens[:, None], True)
        if logp is not None:
            logp = logp.gather(1, tokens[:, None])[:, 0]
        return tokens, logp


def draw(logits: Tensor, whole: Tensor, real: Tensor, place: Tensor) -> Tensor:
    """A token [T] of logits [T, V] (float32), by the Gumbel-max trick: argmax(log p + noise)."""
    temperature, top_p, min_p, _ = real[:, :, None].unbind(1)
    scaled = logits / temperature.clamp(min=1e-6)
    falling, ids = torch.sort(scaled, dim=-1, descending=True, stable=True)
    p = torch.softmax(falling, -1)
    before = torch.cumsum(p, -1) - p
    rank = torch.arange(p.shape[1], device=p.device)[None]
    top_k = whole[:, 1:]
    keep = (before < top_p) & ((rank < top_k) | (top_k <= 0)) & (p >= min_p * p[:, :1])
    keep[:, 0] = True
    state = _mixed(whole[:, :1] + place[:, None] * _signed(_GOLDEN))
    bits = _mixed(state ^ (ids * _signed(_SECOND)))
    uniform = ((bits >> 32) & 0xFFFFFFFF).double().add_(0.5).mul_(2.0**-32)
    noise = uniform.log_().neg_().log_().neg_()
    best = torch.where(keep, falling.double() + noise, -torch.inf).argmax(-1, keepdim=True)
    return ids.gather(1, best)[:, 0]


def key(seed: int, identity: str) -> int:
    """The key of a request's draws, 63 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}-{identity}".encode()).digest()[:8], "big") >> 1


def _signed(number: int) -> int:
    """The number of the same 64 bits that int64 has."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _mixed(z: Tensor) -> Tensor:
    """SplitMix64's finaliser of int64, whose products wrap."""
    z = (z ^ _shifted(z, 30)) * _signed(_FIRST)
    z = (z ^ _shifted(z, 27)) * _signed(_SECOND)
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """z >> bits, of the bits, not of the number."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
