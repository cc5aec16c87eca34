"""How a step is carried out on this machine: none of it changes what is computed beyond rounding.

A plan is chosen from the memory at hand: how long packed sequences are, whether the weights are
dequantised once or at each product, and of how many layers the activations are computed again
(checkpointing).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from harness.decoder.decoder import activations_per_token, supports
from harness.decoder.lora_linear import PITCH
from harness.decoder.packed import usual_row_tokens
from harness.models.adapter import Adapter
from harness.models.families import linear_names
from harness.models.load import Base
from harness.training.loss import CHUNK_ELEMENTS
from harness.training.trainable_decoder import TrainableDecoder

GIB = 2**30
ROWS = (16384, 12288, 8192, 6144, 4096, 3072, 2048, 1024, 512, 256, 128, 64)
"""Tokens of a packed sequence that are tried; beyond some 8,000 a GPU gains nothing (measured)."""

_LAUNCH_SECONDS = {True: 0.1, False: 0.2}
"""What launching one sequence takes, however short it is: weights dequantised once, or not."""

_RESERVE = 0.6 * GIB
"""Room for what is not counted: the context of the libraries, and what the allocator splits."""


@dataclass(frozen=True, slots=True)
class PlanConstraints:
    """What a user or a benchmark fixes of a plan; None leaves it to the planner.

    memory: bytes of a card to plan for, this one's if None. checkpointing: "always" keeps the
    inputs of all layers only, "never" keeps everything, "auto" as memory demands. flash: False
    has torch's varlen attention in place of our kernel.
    """

    memory: int | None = None
    checkpointing: str = "auto"
    fused: bool | None = None
    dense: bool | None = None
    row_tokens: int | None = None
    flash: bool = True


@dataclass(slots=True)
class MemoryPlan:
    """How a step is carried out.

    row_tokens:   tokens that a packed sequence holds at most (a longer document has its own).
    dense:        the weights are held dequantised; otherwise that is done at each product.
    checkpointed: of so many of `layers` only the input is kept, the rest is computed again; that
                  is of a full sequence, of a shorter one it is as few as fit.
    fused:        by `TrainableDecoder`, not by transformers' and peft's layers.
    sizes, room:  of the model, and bytes that checkpointing follows from; None where it is fixed.
                  more: so many layers beyond that, after memory ran out.
    """

    row_tokens: int
    dense: bool = False
    checkpointed: int = 0
    layers: int = 1
    fused: bool = False
    flash: bool = field(default=True, compare=False)
    decoder: TrainableDecoder | None = field(default=None, repr=False, compare=False)
    sizes: ModelSizes | None = field(default=None, repr=False, compare=False)
    room: float = field(default=0.0, repr=False, compare=False)
    more: int = field(default=0, repr=False, compare=False)

    def checkpointed_of(self, tokens: int) -> int:
        """Of how many layers a sequence of `tokens` keeps the input only."""
        if self.sizes is None:
            return self.checkpointed
        fitting = self.sizes.fewest_checkpointed(tokens, self.dense, self.room)
        return min(self.layers, (self.layers if fitting is None else fitting) + self.more)

    def prepare(self, base: Base) -> None:
        """Make what the plan needs: its decoder, or checkpointing in transformers' layers."""
        if not self.fused:
            checkpoint_layers(base, self.checkpointed > 0)
            return
        self.decoder = None  # the last one's weights go before the next one's come
        self.decoder = TrainableDecoder(base, self.dense, self.checkpointed_of, self.flash)

    def shrink(self, base: Base) -> bool:
        """Ask for less memory after it ran out; False when nothing smaller is left."""
        while self._less(base):
            self.decoder = None
            torch.cuda.empty_cache()
            try:
                self.prepare(base)
            except torch.OutOfMemoryError:
                continue
            return True
        return False

    def _less(self, base: Base) -> bool:
        if (self.checkpointed if self.sizes is None else self.more) < self.layers:
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
        activations = "all activations kept"
        if self.checkpointed:
            activations = (
                f"activations of {self.checkpointed} of {self.layers} layers computed again"
            )
        weights = "weights dequantised once" if self.dense else "weights as they are held"
        layers = "fused layers" if self.fused else "transformers' layers"
        return f"plan: rows of {self.row_tokens} tokens, {activations}, {weights}, {layers}"


def plan_for(
    base: Base,
    adapter: Adapter,
    lengths: Iterable[int],
    step_tokens: float,
    fixed: PlanConstraints = PlanConstraints(),
) -> MemoryPlan:
    """The quickest plan that fits into memory, to be prepared.

    lengths: tokens of the documents. step_tokens: how many an optimiser step has, about; packed
    sequences beyond that are of no use.
    """
    fused = supports(base, adapter) if fixed.fused is None else fixed.fused
    if base.device.type == "cuda" and fused:
        return _fastest(base, adapter, max(lengths), step_tokens, fixed)
    layers = int(base.model.config.num_hidden_layers)
    return MemoryPlan(
        row_tokens=fixed.row_tokens or usual_row_tokens(base, fused),
        dense=fused and fixed.dense is not False,
        checkpointed=layers if fixed.checkpointing == "always" else 0,
        layers=layers,
        fused=fused,
        flash=fixed.flash,
    )


def _fastest(
    base: Base, adapter: Adapter, longest: int, step_tokens: float, fixed: PlanConstraints
) -> MemoryPlan:
    """The plan with the least estimated time a token among those whose estimate of memory fits."""
    room = available(base.device, fixed.memory)
    sizes = ModelSizes.of(base, adapter)
    useful = max(longest, 2 * 64, step_tokens)
    row_sizes = (fixed.row_tokens,) if fixed.row_tokens else _row_sizes(useful)
    fitting: list[tuple[float, MemoryPlan]] = []
    smallest = None
    for dense in _choices(base, fixed.dense):
        for tokens in row_sizes:
            full = max(tokens, longest)
            real = int(useful / math.ceil(useful / full))  # sequences are of about equal size
            fewest = [
                _fewest_checkpointed(sizes, n, dense, room, fixed.checkpointing)
                for n in (full, real)
            ]
            plan = MemoryPlan(
                tokens, dense, sizes.layers, sizes.layers, True, fixed.flash, room=room
            )
            if fixed.checkpointing == "auto":
                plan.sizes = sizes
            smallest = plan
            if fewest[0] is not None and fewest[1] is not None:
                plan.checkpointed = fewest[0]
                fitting.append((sizes.seconds(real, dense, fewest[1]), plan))
    if not fitting:
        # The estimate leaves a margin: try the smallest, and let memory say.
        assert smallest is not None
        return smallest
    return min(fitting, key=lambda pair: pair[0])[1]


def _row_sizes(useful: float) -> list[int]:
    """Lengths of packed sequences to try, the longest first: round ones, and those that split an
    optimiser step of about `useful` tokens into a few, with room for larger steps."""
    shares = {-(-int(1.15 * useful / n) // 64) * 64 for n in range(1, 5)}
    return sorted({size for size in ROWS if size <= 2 * useful} | shares, reverse=True)


def _choices(base: Base, dense: bool | None) -> list[bool]:
    if base.quantization == "none":
        return [True]  # the weights are moved, not copied
    return [True, False] if dense is None else [dense]


def _fewest_checkpointed(
    sizes: ModelSizes, tokens: int, dense: bool, room: float, checkpointing: str
) -> int | None:
    """The fewest layers to checkpoint so that a sequence fits, or None where none does."""
    if checkpointing == "auto":
        return sizes.fewest_checkpointed(tokens, dense, room)
    only = 0 if checkpointing == "never" else sizes.layers
    return only if sizes.bytes(tokens, dense, only) <= room else None


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """The sizes that time and memory follow from, in elements.

    linear: weights of all linears; head: of the output head; largest: of the largest linear.
    activations: what one layer keeps a token for its backward pass; hidden: the residual stream's
    width. trainable: the adapter's parameters. dropout: the widest input under dropout, 0 without.
    allocated: bytes that are there before training, the adapter's values among them.
    """

    layers: int
    linear: int
    head: int
    largest: int
    activations: int
    hidden: int
    trainable: int
    dropout: int
    allocated: int
    quantized: bool

    @classmethod
    def of(cls, base: Base, adapter: Adapter) -> ModelSizes:
        """The sizes of a loaded model."""
        names = [name for name in linear_names(base.model) if ".lora_" not in name]
        linears = [base.model.get_submodule(name) for name in names]
        sizes = [(module.in_features, module.out_features) for module in linears]
        config = base.model.config
        return cls(
            layers=int(config.num_hidden_layers),
            linear=sum(i * o for i, o in sizes),
            head=base.head_weight.numel(),
            largest=max(i * o for i, o in sizes),
            activations=activations_per_token(config) + 4 * max(PITCH, adapter.settings.r),
            hidden=int(config.hidden_size),
            trainable=sum(p.numel() for p in adapter.parameters()),
            dropout=max(i for i, _ in sizes) if adapter.settings.lora_dropout else 0,
            allocated=torch.cuda.memory_allocated(base.device),
            quantized=base.quantization != "none",
        )

    def bytes(self, tokens: int, dense: bool, checkpointed: int) -> float:
        """Estimated peak: gradient and two moments in float32, 2 bytes an activation, 10 an element
        under dropout (what was drawn, the mask, the masked)."""
        fixed = self.allocated + 12 * self.trainable + 2 * CHUNK_ELEMENTS["cuda"] * 1.5
        if dense and self.quantized:
            fixed += 2.02 * self.linear
        elif not dense:
            fixed += 3 * 2 * self.largest
        rows = (self.layers - checkpointed) * self.activations + checkpointed * self.hidden
        # The layer that is being computed, its gradients, and the ends of the stack.
        passing = (
            (1.9 if checkpointed else 0.9) * self.activations + 6 * self.hidden + 5 * self.dropout
        )
        return fixed + 2 * tokens * (rows + passing) + _RESERVE

    def seconds(self, tokens: float, dense: bool, checkpointed: int) -> float:
        """Estimated time a token, to compare plans by: on a card of 600 TFLOP/s, 2 TB/s."""
        again = checkpointed / self.layers
        flop = (4 + 2 * again) * self.linear + 4 * self.head
        moved = 0.0 if dense else (2 + again) * 2.5 * self.linear / tokens
        return max(flop / 600e12 + moved / 2e12, _LAUNCH_SECONDS[dense] / tokens)

    def fewest_checkpointed(self, tokens: int, dense: bool, room: float) -> int | None:
        """The fewest layers to checkpoint so that a sequence of `tokens` fits into `room` bytes."""
        if self.bytes(tokens, dense, 0) <= room:
            return 0
        rows = range(1, self.layers + 1)
        return next((m for m in rows if self.bytes(tokens, dense, m) <= room), None)


def available(device: torch.device, memory: int | None) -> float:
    """Bytes of `device` that training may take, of a card of `memory` bytes if that is given."""
    room = float(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    return room if memory is None else min(room, float(memory))


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
