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
    top_k:          draws are from so many of the likeliest tokens; 0: from all.
    min_p:          draws are from tokens with this share of the likeliest one's probability.
    repetition_penalty: logits of tokens that the prompt or the answer has are divided by it where
                    they are positive, else multiplied; 1 changes nothing (Keskar et al., CTRL,
                    2019). Greedy choices heed it, too.
    seed:           with the request's `draw` the source of its draws, whatever stands beside it.
    stop_token_ids: any of these ends the answer, and is no part of it.
    stop:           any of these texts ends the answer, which keeps it.
    logprobs:       keep log p of each token under softmax(logits).
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to answer. system: the name of what answers it, base or an adapter. draw: what its
    draws follow from beside the seed; its id unless given."""

    id: str
    token_ids: tuple[int, ...]
    sampling: Sampling
    system: str
    draw: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """A request's answer, whole; id and system are the request's.

    logprobs: of each token, where they were asked for. seconds: from its start in a slot.
    """

    id: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[float, ...] = ()
    seconds: float = 0.0
    system: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of an engine made: a token for each request that goes on, and answers that
    ended with it.

    again: requests that begin anew because memory ran out; their tokens so far come once more.
    """

    tokens: tuple[tuple[str, int], ...] = ()
    finished: tuple[Completion, ...] = ()
    again: tuple[str, ...] = ()
