"""One run of our training loop, measured by the wall and by the step clock."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from harness.config.schema import LoraSettings, RecipeConfig
from harness.data.tokens import TokenSample
from harness.decoder.packed import ALIGNMENT, plan_packing
from harness.host.temporary import temporary_folder
from harness.models.adapter import Adapter
from harness.models.device import limit_memory
from harness.models.load import Base
from harness.training.loop import LOOKAHEAD, train
from harness.training.memory_plan import PlanConstraints
from harness.training.schedule import examples_of_step, total_steps
from harness.training.step_log import StepLog
from harness.training.trainer import Trainer

WARM = 3
"""Steps that are never counted: kernels are compiled, memory is found."""


def uncounted(base: Base) -> int:
    """Steps of a training before those that are measured."""
    return WARM + LOOKAHEAD[base.device.type]


def run(
    base: Base,
    samples: Sequence[TokenSample],
    per_step: int,
    lora: LoraSettings,
    fixed: PlanConstraints,
) -> dict[str, Any]:
    """Train one epoch over `samples`, `per_step` of them a step, and measure its later steps.

    Returns two rates of the same steps in real tokens a second: `tokens_per_second` by the wall
    and `by_steps` by the sum of the steps' own times; further the share of positions that hold a
    token, the last loss, the plan and the peak of memory. Raises what the training raises.

    Why the wall is right: on a GPU the loop is LOOKAHEAD steps before the step that it reports.
    When step WARM is reported the device is waited for, and so the LOOKAHEAD steps after it,
    which it has been given already, are over too: they are not counted. From that moment, at
    which nothing is queued, to the one after the last step, at which the loop has waited for
    all and nothing is queued either, the device does the counted steps and no others. Nothing
    else falls in: there are no validation, no checkpoints and no answers, and what the host
    does between two steps is part of a training. (The step clock counts it too, but on a CPU,
    where it is not the step's.)
    """
    recipe = RecipeConfig(
        name="bench",
        quantization=base.quantization,
        per_device_train_batch_size=per_step,
        gradient_accumulation_steps=1,
        learning_rate=1e-4,
        lora=lora,
        save_strategy="no",
    )
    entries: list[StepLog] = []
    walls: dict[int, float] = {}

    def log(entry: StepLog) -> None:
        entries.append(entry)
        if entry.step in (WARM, entry.total):
            if base.device.type == "cuda":
                torch.cuda.synchronize(base.device)
            walls[entry.step] = time.perf_counter()

    adapter = Adapter.attach(base, lora, 0)
    try:
        with temporary_folder("harness-bench-") as folder:
            limit_memory(base.device, fixed.memory)
            trainer = Trainer(base, adapter, samples, [], recipe, 0, lambda line: None, fixed)
            facts = train(trainer, folder, log)
    finally:
        adapter.detach()
        limit_memory(base.device, None)
    counted = entries[uncounted(base) :]
    tokens = sum(entry.tokens for entry in counted)
    return {
        "tokens_per_second": tokens / (walls[entries[-1].step] - walls[WARM]),
        "by_steps": tokens / sum(entry.seconds for entry in counted),
        "steps": len(counted),
        "packing_efficiency": packed(base, samples, recipe, facts["plan"]),
        "loss": entries[-1].loss,
        "plan": facts["plan"],
        "peak_gib": peak(base.device),
    }


def packed(
    base: Base, samples: Sequence[TokenSample], recipe: RecipeConfig, plan: Mapping[str, Any]
) -> float:
    """The share of the sequences' positions that hold a token: on a GPU they are filled up."""
    lengths = [len(sample.ids) for sample in samples]
    unit = ALIGNMENT if plan["fused"] and base.device.type == "cuda" else 1
    positions = 0
    for step in range(total_steps(recipe, lengths)):
        batch = [samples[i] for i in examples_of_step(recipe, lengths, 0, step)]
        for row in plan_packing(batch, plan["row_tokens"], base.model.config):
            positions += -(-sum(len(batch[i].ids) for i in row) // unit) * unit
    return sum(lengths) / positions


def peak(device: torch.device) -> float | None:
    """GiB, the most that a card has held; None on a CPU, whose memory is not the model's alone."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
