"""The backend of loaded weights: one base, and the run's adapter on it, answered by inference."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from harness.backends.backend import Capability, Tick
from harness.config.schema import DecodingConfig
from harness.inference.engine import BatchedEngine
from harness.inference.probe import batches
from harness.models.adapter import Adapter
from harness.models.load import Base
from harness.models.quiet import quiet
from harness.records import Arm, Example, Generation, SampleLoss
from harness.runs.context import Context
from harness.systems import System


class LocalBackend:
    """Answers with the base of a run, and for systems that have it with the adapter it trained."""

    capabilities: frozenset[Capability] = frozenset(["log_likelihood"])

    def __init__(self, engine: BatchedEngine) -> None:
        self._engine = engine

    def generate(
        self,
        system: System,
        examples: Sequence[Example],
        decoding: DecodingConfig,
        done: Collection[str],
        tick: Tick,
    ) -> Iterator[Generation]:
        return self._engine.generate(_arm(system), examples, decoding, done, tick)

    def log_likelihoods(
        self, system: System, examples: Sequence[Example], done: Collection[str]
    ) -> Iterator[SampleLoss]:
        return self._engine.measure(_arm(system), examples, done)

    def written(self, text: str) -> str:
        return self._engine.codec.written(text)


def make(context: Context) -> LocalBackend:
    """The backend of a run whose adapter is there, which is proved to be live first.

    The adapter stays on the base for the run's other systems. Raises AdapterError, RunError,
    MissingError.
    """
    run, session = context.run, context.session
    folder = context.view.files.adapter
    adapter = session.adapter_of(folder)
    if adapter is None:
        base = session.base(run)
        adapter = Adapter.load(base, folder)
        session.hold(folder, adapter)
        adapter.check_live(base.codec(run.task.template).prompt_ids("probe"))
    codec = adapter.base.codec(run.task.template)
    return LocalBackend(
        BatchedEngine(adapter.base, adapter, codec, run.recipe.max_length, context.say)
    )


def prove(base: Base, say: Callable[[str], None]) -> None:
    """Find out whether `base` may be asked in batches. Raises RunError where its cache lies."""
    with quiet():
        base.batches = batches(base)
    if not base.batches:
        say(f"{base.name}: prompts are answered one by one, since padding would change the answers")


def _arm(system: System) -> Arm:
    return "tuned" if system.adapter else "base"
