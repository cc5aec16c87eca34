"""The loaded base that a command's runs share: made when a stage first needs it, never before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.host.files import digest
from harness.host.signals import check
from harness.runs.run import Run

if TYPE_CHECKING:
    from harness.models.load import Base


class Answerer(Protocol):
    """What answers with the base and an adapter on it."""

    def close(self) -> None:
        """Take the adapter off the base."""
        ...


class Session:
    """Holds one base, and at most one run's answerer on it.

    prove: called with each base that is loaded: refuses one whose answers could not be trusted.
    max_memory: bytes of a card to plan for. report_to: experiment trackers for trainings.

    torch and the weights are loaded on the first call that needs them; a finished run needs none.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        prove: Callable[[Base], None],
        max_memory: int | None = None,
        report_to: Sequence[str] = (),
    ) -> None:
        self.say = say
        self._prove = prove
        self.max_memory = max_memory
        self.report_to = report_to
        self._base: Base | None = None
        self._weights = ""
        self._answerer: Answerer | None = None
        self._answerer_of: Path | None = None

    def base(self, run: Run) -> Base:
        """The base of `run`, without an adapter. Raises RunError, AdapterError, MissingError."""
        from harness.models.load import load_base

        self.release()
        check()
        weights = digest(run.weights) + run.model.name
        if self._base is None or self._weights != weights:
            self._base = None  # let go of the last one before the next takes memory
            self.say(f"loading {run.model.name}")
            self._base = load_base(
                run.model,
                run.located,
                run.recipe.quantization_of(run.model.parameters),
                run.recipe.precision,
                self.say,
            )
            self._prove(self._base)
            self._weights = weights
            check()
        return self._base

    def check(self, run: Run) -> None:
        """Hold what the recipe says of modules against the architecture, without any weights.

        Raises UsageError. A model that is converted here is looked at when it is loaded, since
        what was converted may be damaged, and is then made again.
        """
        if not run.model.has_weights or "gguf" in run.located.identity:
            return
        from harness.models.adapter import targets_of
        from harness.models.load import architecture

        targets_of(architecture(run.model.name, run.located.path), run.recipe.lora, run.model.name)

    def answerer_of(self, folder: Path) -> Answerer | None:
        """What answers for the run in `folder`, where that is on the base."""
        return self._answerer if self._answerer_of == folder else None

    def hold(self, folder: Path, answerer: Answerer) -> None:
        """Note that what answers for the run in `folder` is on the base."""
        self._answerer, self._answerer_of = answerer, folder

    def release(self) -> None:
        """Leave the base bare."""
        if self._answerer is not None:
            self._answerer.close()
            self._answerer, self._answerer_of = None, None

    def memory(self) -> dict[str, Any]:
        """Peak memory so far, in bytes, or nothing where no model was loaded."""
        if self._base is None:
            return {}
        from harness.models.device import peak_memory

        return {"peak_memory_bytes": peak_memory(self._base.device)}
