"""Steps and chunks as captured graphs on a GPU: launched without the host's work on each kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.inference.sampler import Choice


class StepGraphs:
    """A graph of a step for each `Choice`, made when it is first asked for.

    step: computes one step on static tensors, and returns the tokens and perhaps their log p.
    state: the static tensors that a step changes, which a rehearsal must leave as they were.
    """

    def __init__(
        self,
        step: Callable[[Choice], tuple[Tensor, Tensor | None]],
        state: Callable[[], Sequence[Tensor]],
    ) -> None:
        self._step, self._state = step, state
        self._graphs: dict[Choice, tuple[Any, Tensor, Tensor | None]] = {}
        self._pool: Any = None

    def launch(self, choice: Choice) -> Any:
        """Begin a step, and the way of its tokens to the host."""
        if choice not in self._graphs:
            self._capture(choice)
        graph, tokens, logp = self._graphs[choice]
        graph.replay()
        sent = _on_host(tokens), None if logp is None else _on_host(logp), torch.cuda.Event()  # type: ignore[no-untyped-call]
        sent[2].record()
        return sent

    def read(self, launched: Any) -> tuple[list[int], list[float] | None]:
        """Wait for the tokens of a step."""
        tokens, logp, event = launched
        event.synchronize()
        return tokens.tolist(), None if logp is None else logp.tolist()

    def _capture(self, choice: Choice) -> None:
        before = [each.clone() for each in self._state()]
        rehearse(lambda: self._step(choice))
        for each, value in zip(self._state(), before, strict=True):
            each.copy_(value)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            tokens, logp = self._step(choice)
        self._pool = self._pool or graph.pool()
        self._graphs[choice] = graph, tokens, logp


class ChunkGraph:
    """The graph of a chunk of prompts: ids, slots and places [3, T], gate [T, adapters],
    tiles [n, 4]."""

    def __init__(self, read: Callable[[Tensor, Tensor, Tensor], None]) -> None:
        self._read = read
        self._given: list[Tensor] = []
        self._graph: Any = None

    def launch(self, *given: Tensor) -> None:
        """Begin a chunk; the tensors are the host's."""
        if self._graph is None:
            self._given = [each.cuda() for each in given]
            rehearse(lambda: self._read(*self._given))
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._read(*self._given)
        else:
            for static, each in zip(self._given, given, strict=True):
                static.copy_(each.pin_memory(), non_blocking=True)
        self._graph.replay()


def rehearse(work: Callable[[], Any]) -> None:
    """Do it once outside a graph, so that kernels are compiled and libraries have their memory."""
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()


def _on_host(x: Tensor) -> Tensor:
    """A copy in the host's memory, on its way."""
    host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    return host.copy_(x, non_blocking=True)
