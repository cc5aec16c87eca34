"""How a step is carried out on this machine: none of it changes what is computed beyond rounding.

A plan is chosen from the memory at hand: which rows, whether the weights are dequantised once or at
each product, and of how many layers only the input is kept for the backward pass.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from harness.models.adapter import Adapter
from harness.models.families import linear_names
from harness.models.load import Base

if TYPE_CHECKING:
    from harness.decoder.decoder import Decoder

GIB = 2**30
ROWS = (16384, 12288, 8192, 6144, 4096, 3072, 2048, 1024, 512, 256, 128, 64)
"""Tokens of a row that are tried; beyond some 8,000 a GPU gains nothing (measured)."""

_HOST = {True: 0.1, False: 0.2}
"""Seconds that launching one row takes, however short it is: weights dequantised once, or not."""

_RESERVE = 0.6 * GIB
"""Room for what is not counted: the context of the libraries, and what the allocator splits."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user or a benchmark fixes of a plan; None leaves it to the planner.

    memory: bytes of a card to plan for, this one's if None. checkpointing: "always" keeps the
    inputs of all layers only, "never" keeps everything, "auto" as memory demands.
    """

    memory: int | None = None
    checkpointing: str = "auto"
    fused: bool | None = None
    dense: bool | None = None
    row_tokens: int | None = None


@dataclass(slots=True)
class RowPlan:
    """How a step is carried out.

    row_tokens:   tokens that a packed row holds at most (a longer document has a row of its own).
    dense:        the weights are held dequantised; otherwise that is done at each product.
    checkpointed: of so many of `layers` only the input is kept, the rest is computed again; that
                  is of a full row, of a shorter one it is as few as fit.
    fused:        the step is the one written out in harness.decoder, not transformers' and peft's.
    shape, room:  sizes of the model and bytes that checkpointing follows from; no shape where it is
                  fixed. more: so many layers beyond that, after memory ran out.
    """

    row_tokens: int
    dense: bool = False
    checkpointed: int = 0
    layers: int = 1
    fused: bool = False
    decoder: Decoder | None = field(default=None, repr=False, compare=False)
    shape: Shape | None = field(default=None, repr=False, compare=False)
    room: float = field(default=0.0, repr=False, compare=False)
    more: int = field(default=0, repr=False, compare=False)

    def checkpointed_of(self, tokens: int) -> int:
        """Of how many layers a row of `tokens` keeps the input only."""
        if self.shape is None:
            return self.checkpointed
        fitting = self.shape.least(tokens, self.dense, self.room)
        return min(self.layers, (self.layers if fitting is None else fitting) + self.more)

    def prepare(self, base: Base, adapter: Adapter) -> None:
        """Make what the plan needs: its decoder, or checkpointing in transformers' layers."""
        if not self.fused:
            checkpoint_layers(base, self.checkpointed > 0)
            return
        from harness.decoder.decoder import Decoder

        self.decoder = None  # the last one's weights go before the next one's come
        self.decoder = Decoder(base, adapter, self.dense, self.checkpointed_of)

    def shrink(self, base: Base, adapter: Adapter) -> bool:
        """Ask for less memory after it ran out; False when nothing smaller is left."""
        while self._less(base):
            self.decoder = None
            torch.cuda.empty_cache()
            try:
                self.prepare(base, adapter)
            except torch.OutOfMemoryError:
                continue
            return True
        return False

    def _less(self, base: Base) -> bool:
        if (self.checkpointed if self.shape is None else self.more) < self.layers:
            step = math.ceil(self.layers / 4) if self.fused else self.layers
            self.more += step
            self.checkpointed = min(self.layers, self.checkpointed + step)
        elif self.dense and base.quantization != "none":
            self.dense = False
        elif self.row_tokens >= 2 * min(ROWS):
            self.row_tokens //= 2
        else:
            return False
        return True

    def facts(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.compare}

    def line(self) -> str:
        """One line for people."""
        kept = "all activations kept"
        if self.checkpointed:
            kept = f"activations of {self.checkpointed} of {self.layers} layers computed again"
        weights = "weights dequantised once" if self.dense else "weights as they are held"
        step = "written-out step" if self.fused else "transformers' layers"
        return f"plan: rows of {self.row_tokens} tokens, {kept}, {weights}, {step}"


def plan_for(
    base: Base,
    adapter: Adapter,
    lengths: Iterable[int],
    step_tokens: float,
    wanted: Wanted = Wanted(),
) -> RowPlan:
    """The quickest plan that fits into memory, to be prepared.

    lengths: tokens of the documents. step_tokens: how many an optimiser step has, about; rows
    beyond that are of no use.
    """
    from harness.decoder.decoder import supports

    fused = supports(base, adapter) if wanted.fused is None else wanted.fused
    layers = int(base.model.config.num_hidden_layers)
    longest = max(lengths)
    if base.device.type != "cuda" or not fused:
        plan = RowPlan(
            row_tokens=wanted.row_tokens or _usual_rows(base, fused),
            dense=fused and wanted.dense is not False,
            checkpointed=layers if wanted.checkpointing == "always" else 0,
            layers=layers,
            fused=fused,
        )
    else:
        plan = _fastest(base, adapter, longest, step_tokens, wanted)
    return plan


def measuring_plan(base: Base, adapter: Adapter) -> RowPlan:
    """The plan for losses alone, prepared: no gradients, so nothing is kept."""
    from harness.decoder.decoder import supports

    layers = int(base.model.config.num_hidden_layers)
    fused = supports(base, adapter)
    dense = base.quantization == "none" or base.device.type == "cpu"
    plan = RowPlan(_usual_rows(base, fused), dense, 0, layers, fused=fused)
    plan.prepare(base, adapter)
    return plan


def _usual_rows(base: Base, fused: bool) -> int:
    """Tokens of a row where nothing is planned: enough to keep the hardware busy.

    transformers' layers have no kernel for packed rows on a CPU: there a long row costs the square
    of its length in attention.
    """
    if base.device.type == "cuda":
        return 4096
    return 1024 if fused else 256


def _fastest(
    base: Base, adapter: Adapter, longest: int, step_tokens: float, wanted: Wanted
) -> RowPlan:
    """The plan with the least estimated time a token among those whose estimate of memory fits."""
    room = available(base.device, wanted.memory)
    shape = Shape.of(base, adapter)
    useful = max(longest, 2 * 64, step_tokens)
    sizes = (wanted.row_tokens,) if wanted.row_tokens else _row_sizes(useful)
    fitting: list[tuple[float, RowPlan]] = []
    smallest = None
    for dense in _choices(base, wanted.dense):
        for tokens in sizes:
            full = max(tokens, longest)
            real = int(useful / math.ceil(useful / full))  # rows are of about equal size
            least = [_least(shape, n, dense, room, wanted.checkpointing) for n in (full, real)]
            plan = RowPlan(tokens, dense, shape.layers, shape.layers, True, room=room)
            if wanted.checkpointing == "auto":
                plan.shape = shape
            smallest = plan
            if least[0] is not None and least[1] is not None:
                plan.checkpointed = least[0]
                fitting.append((shape.seconds(real, dense, least[1]), plan))
    if not fitting:
        # The estimate leaves a margin: try the smallest, and let memory say.
        assert smallest is not None
        return smallest
    return min(fitting, key=lambda pair: pair[0])[1]


def _row_sizes(useful: float) -> list[int]:
    """Row lengths to try, the longest first: round ones, and those that split an optimiser step of
    about `useful` tokens into a few rows, with room for larger steps."""
    shares = {-(-int(1.15 * useful / n) // 64) * 64 for n in range(1, 5)}
    return sorted({size for size in ROWS if size <= 2 * useful} | shares, reverse=True)


def _choices(base: Base, dense: bool | None) -> list[bool]:
    if base.quantization == "none":
        return [True]  # the weights are moved, not copied
    return [True, False] if dense is None else [dense]


def _least(shape: Shape, tokens: int, dense: bool, room: float, checkpointing: str) -> int | None:
    """The fewest layers to checkpoint so that a row fits, or None where none does."""
    if checkpointing == "auto":
        return shape.least(tokens, dense, room)
    only = 0 if checkpointing == "never" else shape.layers
    return only if shape.bytes(tokens, dense, only) <= room else None


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that time and memory follow from, in elements.

    linear: weights of all linears; head: of the output head; largest: of the largest linear.
    kept: what one layer keeps a token for its backward pass; hidden: the stream's width.
    trainable: the adapter's parameters. dropped: the widest input under dropout, 0 without.
    held: bytes that are there before training, the adapter's values among them.
    """

    layers: int
    linear: int
    head: int
    largest: int
    kept: int
    hidden: int
    trainable: int
    dropped: int
    held: int
    quantized: bool

    @classmethod
    def of(cls, base: Base, adapter: Adapter) -> Shape:
        """The sizes of a loaded model."""
        from harness.decoder.decoder import kept
        from harness.decoder.lora_linear import PITCH

        names = [name for name in linear_names(base.model) if ".lora_" not in name]
        linears = [base.model.get_submodule(name) for name in names]
        sizes = [(module.in_features, module.out_features) for module in linears]
        config = base.model.config
        return cls(
            layers=int(config.num_hidden_layers),
            linear=sum(i * o for i, o in sizes),
            head=base.head_weight.numel(),
            largest=max(i * o for i, o in sizes),
            kept=kept(config) + 4 * max(PITCH, adapter.settings.r),
            hidden=int(config.hidden_size),
            trainable=sum(p.numel() for p in adapter.parameters()),
            dropped=max(i for i, _ in sizes) if adapter.settings.lora_dropout else 0,
            held=torch.cuda.memory_allocated(base.device),
            quantized=base.quantization != "none",
        )

    def bytes(self, tokens: int, dense: bool, checkpointed: int) -> float:
        """Estimated peak: gradient and two moments in float32, 2 bytes an activation, 10 an element
        under dropout (what was drawn, the mask, the masked)."""
        from harness.decoder.decoder import CHUNK_ELEMENTS

        fixed = self.held + 12 * self.trainable + 2 * CHUNK_ELEMENTS["cuda"] * 1.5
        if dense and self.quantized:
            fixed += 2.02 * self.linear
        elif not dense:
            fixed += 3 * 2 * self.largest
        rows = (self.layers - checkpointed) * self.kept + checkpointed * self.hidden
        # The layer that is being computed, its gradients, and the ends of the stack.
        passing = (1.9 if checkpointed else 0.9) * self.kept + 6 * self.hidden + 5 * self.dropped
        return fixed + 2 * tokens * (rows + passing) + _RESERVE

    def seconds(self, tokens: float, dense: bool, checkpointed: int) -> float:
        """Estimated time a token, to compare plans by: on a card of 600 TFLOP/s, 2 TB/s."""
        again = checkpointed / self.layers
        flop = (4 + 2 * again) * self.linear + 4 * self.head
        moved = 0.0 if dense else (2 + again) * 2.5 * self.linear / tokens
        return max(flop / 600e12 + moved / 2e12, _HOST[dense] / tokens)

    def least(self, tokens: int, dense: bool, room: float) -> int | None:
        """The fewest layers to checkpoint so that a row of `tokens` fits into `room` bytes."""
        if self.bytes(tokens, dense, 0) <= room:
            return 0
        rows = range(1, self.layers + 1)
        return next((m for m in rows if self.bytes(tokens, dense, m) <= room), None)


def available(device: torch.device, memory: int | None) -> float:
    """Bytes of `device` that training may take, of a card of `memory` bytes if that is given.

    A smaller card is held to: what goes beyond it runs out of memory, as it would there.
    """
    free, total = torch.cuda.mem_get_info(device)
    mine = torch.cuda.memory_reserved(device)
    room = float(free + mine)
    if memory is not None:
        torch.cuda.set_per_process_memory_fraction(min(1.0, memory / total), device)
        room = min(room, float(memory))
    return room


def checkpoint_layers(base: Base, on: bool) -> None:
    """Whether transformers' layers keep only their inputs and compute the rest again."""
    model = base.model
    if not on:
        for module in model.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = False
        return
    # transformers 5 renames it in some minor version; the older name still stands before that.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
