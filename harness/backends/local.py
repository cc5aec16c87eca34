"""The backend of loaded weights: one base, and the run's adapter on it, answered by inference."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from harness.backends.backend import Capability
from harness.config.schema import DecodingConfig
from harness.data.tokens import Codec
from harness.host.progress import Tick
from harness.inference.answering import answers
from harness.inference.local import decoder_of, engine_of
from harness.inference.log_likelihood import LogLikelihood
from harness.inference.probe import batches
from harness.models.adapter import Adapter
from harness.models.load import Base
from harness.models.quiet import quiet
from harness.records import Example, Generation, ReferenceLikelihood
from harness.runs.context import Context
from harness.systems import System, generating


class LocalBackend:
    """Answers with the base of a run, and with the adapters on it.

    adapters: what each system answers with, None: the bare base; one at least is an adapter.
    max_length: tokens of a reference that are scored at most (prompt included).
    slots: prompts answered together at most; None: as many as are of use on the device.
    """

    capabilities: frozenset[Capability] = frozenset(["log_likelihood"])

    def __init__(
        self,
        adapters: Mapping[str, Adapter | None],
        codec: Codec,
        max_length: int,
        say: Callable[[str], None],
        slots: int | None = None,
    ) -> None:
        self.adapters, self.codec = dict(adapters), codec
        on_base = [each for each in adapters.values() if each is not None]
        self._first = on_base[0]
        base = self._first.base
        decoder = decoder_of(base, *on_base)
        self.engine = engine_of(base, adapters, say, decoder, slots)
        self._likelihood = LogLikelihood(base, codec, min(max_length, base.context), decoder)

    def close(self) -> None:
        """Take the adapters off the base."""
        self._first.detach()

    def generate(
        self,
        system: System,
        examples: Sequence[Example],
        decoding: DecodingConfig,
        done: Collection[str],
        tick: Tick,
    ) -> Iterator[Generation]:
        mine = {system.name: done}
        for _, one in self.generate_together(mine, examples, decoding, tick):
            yield one

    def generate_together(
        self,
        done: Mapping[str, Collection[str]],
        examples: Sequence[Example],
        decoding: DecodingConfig,
        tick: Tick,
    ) -> Iterator[tuple[str, Generation]]:
        before = self.engine.facts()
        for found in answers(self.engine, self.codec, done, examples, decoding, tick):
            if (facts := self.engine.facts()) != before:
                before = facts
                self.engine.say(
                    f"answers: {facts['slots']} prompts at a time, up to {facts['length']} tokens "
                    f"each, {facts['steps']}"
                )
            yield found

    def facts(self) -> dict[str, Any]:
        return self.engine.facts()

    def log_likelihoods(
        self, system: System, examples: Sequence[Example], done: Collection[str]
    ) -> Iterator[ReferenceLikelihood]:
        adapter = self.adapters[system.name]
        return self._likelihood.of(examples, adapter or self._first, adapter is not None, done)

    def written(self, text: str) -> str:
        return self.codec.written(text)


def make(context: Context) -> LocalBackend:
    """The backend of a run whose adapter is there; all adapters are proved to be live first.

    They stay on the base for the run's other systems. Raises AdapterError, RunError,
    MissingError.
    """
    run, session = context.run, context.session
    folder = context.view.files.adapter
    held = session.answerer_of(folder)
    if isinstance(held, LocalBackend):
        return held
    base = session.base(run)
    trained = Adapter.load(base, folder)
    codec = base.codec(run.task.template)
    try:
        adapters: dict[str, Adapter | None] = {
            each.name: trained if each.adapter else None for each in generating()
        }
        for name, given in run.adapters.items():
            adapters[name] = trained.beside(given.folder)
        for adapter in adapters.values():
            if adapter is not None:
                adapter.check_live(codec.prompt_ids("probe"))
        backend = LocalBackend(adapters, codec, run.recipe.max_length, context.say)
    except BaseException:
        trained.detach()
        raise
    session.hold(folder, backend)
    return backend


def prove(base: Base, say: Callable[[str], None]) -> None:
    """Find out whether `base` may be asked in batches. Raises RunError where its cache lies."""
    with quiet():
        base.batches = batches(base)
    if not base.batches:
        say(f"{base.name}: prompts are answered one by one, since padding would change the answers")
