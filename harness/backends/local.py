"""The loaded model that a command's runs share: made when a stage first needs it, never before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.host.files import digest
from harness.host.signals import check
from harness.pipeline.plan import Run

if TYPE_CHECKING:
    from harness.backends.backend import Engine
    from harness.models.adapter import Adapter
    from harness.models.load import Base


class Bench:
    """Holds one base, and at most one adapter on it.

    max_memory: bytes of a card to plan for. report_to: names of the sinks for trainings.

    torch and the weights are loaded on the first call that needs them; a finished run needs none.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        max_memory: int | None = None,
        report_to: Sequence[str] = (),
    ) -> None:
        self.say = say
        self.max_memory = max_memory
        self.report_to = report_to
        self._base: Base | None = None
        self._weights = ""
        self._adapter: Adapter | None = None
        self._adapter_of: Path | None = None

    def base(self, run: Run) -> Base:
        """The base of `run`, without an adapter. Raises RunError, AdapterError, MissingError."""
        from harness.inference.probe import batches
        from harness.models.load import load_base
        from harness.models.quiet import quiet

        self.clear_adapter()
        check()
        weights = digest(run.identity["weights"]) + run.model.name
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
            with quiet():
                self._base.batches = batches(self._base)
            if not self._base.batches:
                self.say(f"{run.model.name}: prompts are answered one by one, since padding would "
                         "change the answers")  # fmt: skip
            self._weights = weights
            check()
        return self._base

    def check(self, run: Run) -> None:
        """Hold what the recipe says of modules against the architecture, without any weights.

        Raises UsageError. A model that is converted here is looked at when it is loaded, since
        what was converted may be damaged, and is then made again.
        """
        if run.model.source.kind == "scripted" or "gguf" in run.located.identity:
            return
        from harness.models.adapter import targets_of
        from harness.models.load import architecture

        targets_of(architecture(run.model.name, run.located.path), run.recipe.lora, run.model.name)

    def engine(self, run: Run, adapter: Path) -> Engine:
        """What answers for `run`, with the adapter saved in the folder `adapter`.

        The adapter is proved to be live first. Raises AdapterError and what `base` raises.
        """
        if run.model.source.kind == "scripted":
            from harness.backends.scripted import ScriptedEngine

            return ScriptedEngine(Path(run.located.path))
        from harness.inference.engine import BatchedEngine
        from harness.models.adapter import Adapter

        if self._adapter is None or self._adapter_of != adapter:
            base = self.base(run)
            self._adapter, self._adapter_of = Adapter.load(base, adapter), adapter
            self._adapter.check_live(base.codec(run.task.template).prompt_ids("probe"))
        base = self._adapter.base
        codec = base.codec(run.task.template)
        return BatchedEngine(base, self._adapter, codec, run.recipe.max_length, self.say)

    def clear_adapter(self) -> None:
        """Leave the base bare."""
        if self._adapter is not None:
            self._adapter.detach()
            self._adapter, self._adapter_of = None, None

    def memory(self) -> dict[str, Any]:
        """Peak memory so far, in bytes, or nothing where no model was loaded."""
        if self._base is None:
            return {}
        from harness.models.device import peak_memory

        return {"peak_memory_bytes": peak_memory(self._base.device)}
