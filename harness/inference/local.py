"""An engine for a loaded base: the fast way where it computes the model, else the general one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.decoder.decoder import Decoder, supports
from harness.inference.engine import Engine
from harness.inference.fused import FusedRunner, serves_slots
from harness.inference.general import GeneralRunner
from harness.inference.runner import Runner
from harness.models.adapter import Adapter
from harness.models.device import free_memory
from harness.models.families import linear_names, linear_size
from harness.models.load import Base


def engine_of(
    base: Base,
    adapters: Mapping[str, Adapter | None],
    say: Callable[[str], None],
    decoder: Decoder | None,
    slots: int | None = None,
    few: int = 0,
) -> Engine:
    """The engine of a base and the systems on it.

    adapters: what each system answers with; None: the bare base. decoder: the fused layers, where
    they compute the model with all of them (`decoder_of`); None has transformers' layers.
    few: as `FusedRunner` has it.
    """
    runner: Runner
    if decoder is not None and serves_slots(base):
        indices = {name: None if a is None else a.index for name, a in adapters.items()}
        runner = FusedRunner(base, decoder, indices, few)
    else:
        runner = GeneralRunner(base, adapters)
    return Engine(base, runner, list(adapters), say, slots)


ROOM = 4 * 2**30
"""Bytes of a card beside dequantised weights, at the least: slots, and what a step makes."""


def decoder_of(base: Base, *adapters: Adapter) -> Decoder | None:
    """The fused layers of a base with the adapters on it, refreshed, where they compute it.

    4-bit weights are held dequantised where a card has the memory, else that is done at each
    product.
    """
    if not supports(base, *adapters):
        return None
    dense = base.quantization == "none" or base.device.type == "cpu"
    if not dense:
        size = sum(linear_size(base.model.get_submodule(name)) for name in linear_names(base.model))
        dense = free_memory(base.device) > 2.05 * size + ROOM
    decoder = Decoder(base, dense)
    decoder.refresh()
    return decoder
