"""What enters an engine and what comes out of it: token ids, never examples or references."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import FinishReason


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of one answer are chosen.

    max_new_tokens: at most so many; the context may leave fewer.
    temperature:    0 takes the likeliest token, more draws from softmax(logits / temperature).
    top_p:          draws are from the likeliest tokens that together have this probability.
    seed:           with the request's id the source of its draws, whatever stands beside it.
    stop_token_ids: any of these ends the answer, and is no part of it.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop_token_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to answer. system: the name of what answers it, base or an adapter."""

    id: str
    token_ids: tuple[int, ...]
    sampling: Sampling
    system: str


@dataclass(frozen=True, slots=True)
class Completion:
    """A request's answer, whole."""

    id: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of an engine made: a token for each request that goes on, and answers that
    ended with it."""

    tokens: tuple[tuple[str, int], ...] = ()
    finished: tuple[Completion, ...] = ()
