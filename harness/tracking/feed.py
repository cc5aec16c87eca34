"""From the training's log to the sinks: each step once, also where it goes on after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.runs.journal import Journal
from harness.tracking.sink import Sink, make_sink

NUMBERS = (
    *("loss", "learning_rate", "grad_norm", "epoch", "tokens", "tokens_per_second", "mfu"),
    *("memory_gib", "validation", "validation_accuracy", "validation_rougeL"),
)
"""The fields of a logged step that are sent."""


class Feed:
    """Hands on the steps of a training as they are logged.

    sent: a journal of ours that says which step each sink was given last. It is written before
    a step is handed on, so that a kill may cost a sink a step but never doubles one.
    """

    def __init__(
        self,
        names: Sequence[str],
        run: str,
        config: Mapping[str, Any],
        folder: Path,
        sent: Path,
        say: Callable[[str], None],
        make: Callable[[str], Sink] = make_sink,
    ) -> None:
        self._sent = Journal(sent, fits=_fits, notice=say)
        self._say = say
        self._sinks: dict[str, Sink] = {}
        self._last = dict.fromkeys(names, 0)
        for row in self._sent.read():
            self._last[row["sink"]] = max(self._last.get(row["sink"], 0), row["step"])
        for name in names:
            if (sink := self._try(name, lambda name=name: make(name))) is not None:  # type: ignore[misc]
                self._sinks[name] = sink
                self._try(name, lambda sink=sink: sink.open(run, config, folder))  # type: ignore[misc]

    def follow(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Hand on the steps among `rows` that a sink has not been given yet."""
        for row in rows:
            self._hand_on(row)

    def _hand_on(self, row: Mapping[str, Any]) -> None:
        step = int(row["step"])
        numbers = {
            name: float(value)
            for name in NUMBERS
            if isinstance(value := row.get(name), int | float) and math.isfinite(value)
        }
        for name, sink in list(self._sinks.items()):
            if step <= self._last[name]:
                continue
            self._last[name] = step
            self._sent.append({"sink": name, "step": step})
            self._try(name, lambda sink=sink: sink.log(step, numbers))  # type: ignore[misc]

    def close(self) -> None:
        """Close what is still open."""
        for name, sink in list(self._sinks.items()):
            self._try(name, sink.close)
        self._sinks.clear()
        self._sent.close()

    def _try(self, name: str, work: Callable[[], Any]) -> Any:
        """The value of `work`; where it fails, say so once and drop the sink."""
        try:
            return work()
        except Exception as error:
            self._sinks.pop(name, None)
            text = (str(error).splitlines() or [type(error).__name__])[0]
            self._say(f"--report-to {name} failed and is dropped, training goes on: {text}")
            return None


def _fits(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("sink"), str) and isinstance(row.get("step"), int)
