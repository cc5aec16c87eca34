"""`harness bench train`: our training loop beside TRL's SFTTrainer, on the same rows.

Rates are real tokens a second by the wall, padding never counted: the median of several runs, with
their spread. `mfu` is 4 P FLOP a token over the GEMM peak, the rate of square products
measured in the same command.
"""

from __future__ import annotations

import gc
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from harness.benchmarks import ours, trl
from harness.benchmarks.figures import Figures, line, summed_up, table
from harness.benchmarks.random_weights import shape_of, shaped
from harness.config.registry import Registry
from harness.config.schema import LoraSettings, Quantization
from harness.data.load import load
from harness.data.tokens import TokenSample
from harness.errors import HarnessError, UsageError
from harness.models.load import Base, load_base
from harness.models.locate import locate
from harness.training.memory_plan import PlanConstraints
from harness.training.mfu import flop_per_token, matmul_rate

LORA = LoraSettings(r=16, lora_alpha=64.0)
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "trl")
SMALL = 16 * 2**30
VARLEN = "harness-varlen"

STEPS = {"cuda": 24, "cpu": 12}
"""Steps that are measured, by device."""

PEER_STEPS = {"packed": 10, "cuda": 4, "cpu": 8}
"""Steps of a peer's run, of rows that are packed, and that are not. They are slow and all alike."""

Say = Callable[[str], None]


def variants(cuda: bool) -> list[tuple[str, PlanConstraints]]:
    """Our loop with its techniques one after the other, then as it is used, with torch's varlen
    attention in place of our flash attention, and on a smaller card."""
    if not cuda:
        return [("harness", PlanConstraints())]
    rows = PlanConstraints(dense=False, row_tokens=2048)
    return [
        ("transformers' layers, rows of 2,048", PlanConstraints(fused=False, row_tokens=2048)),
        ("+ fused step", replace(rows, checkpointing="always")),
        ("+ activations kept", replace(rows, checkpointing="never")),
        ("+ rows of 8,192", replace(rows, row_tokens=8192)),
        ("harness", PlanConstraints()),
        (VARLEN, PlanConstraints(flash=False)),
        ("harness --max-memory 16GiB", PlanConstraints(memory=SMALL)),
    ]


def peers(cuda: bool) -> list[tuple[str, list[trl.Settings]]]:
    """TRL with its defaults, packing, and at its best: several settings to try."""

    def settings(packing: str) -> list[trl.Settings]:
        """Without checkpointing, in steps of eight rows, the largest batch first."""
        return [
            trl.Settings(packing=packing, checkpointing=False, batch=n, accumulation=8 // n)
            for n in (8, 4, 2, 1)
        ]

    if not cuda:
        # Its packing is isolated by a kernel that a CPU does not have; steps of 8 examples.
        return [("trl-default", [trl.Settings(accumulation=1)]), ("trl-best", settings(""))]
    return [
        ("trl-default", [trl.Settings()]),
        ("trl-packing", [trl.Settings(packing="wrapped", accumulation=1)]),
        ("trl-best", settings("wrapped")),
        (BLOCK_DIAGONAL, settings("bfd")),
    ]


BLOCK_DIAGONAL = "trl-best, block-diagonal"


def bench_train(
    models: Sequence[str],
    against: str | None,
    weights: Mapping[str, str],
    steps: int | None,
    tiny: bool,
    out: Path,
    command: str,
    say: Say,
    repeats: int = 3,
    systems: Sequence[str] = ("*",),
) -> tuple[str, list[str]]:
    """Measure, write `out`/train.json after each row; returns the table, and what makes it wrong.

    models: registered names; random values in the true shapes, but for those with `weights`
    (NAME to folder) and those that need no GPU (which are loaded). steps: optimiser steps that a
    run of ours is measured over (None: STEPS). systems: patterns of the rows to measure. Rows that
    `out`/train.json holds already stay where they are not measured anew.
    What makes it wrong is a line for each of our rows whose step clock and wall differ. Raises
    UsageError, before any work, for patterns without a row and for a file of another machine.
    """
    if against:
        trl.require()
    cuda = torch.cuda.is_available()
    every = [label for label, _ in variants(cuda)]
    every += [label for label, _ in peers(cuda)] if against else []
    for pattern in systems:
        if not any(fnmatchcase(label, pattern) for label in every):
            raise UsageError(f"--systems {pattern}: the rows are {'; '.join(every)}.")
    for name in models:
        if not _is_real(name, weights, tiny):
            shape_of(name)
    asked = {label for label in every if any(fnmatchcase(label, p) for p in systems)}
    figures = Figures(out, "train", card(), {name: library(name) for name in LIBRARIES}, ORDER)
    steps = steps or STEPS["cuda" if cuda else "cpu"]
    faults: list[str] = []
    for name in models:
        base, real = base_for(name, weights, tiny, say)
        samples, per_step = rows_of(base, real, steps)
        common = {
            "command": command,
            "values": "real" if real else f"random in {'tiny' if tiny else 'the true'} shapes",
            **_limits(base),
        }

        def add(system: str, measured: dict[str, Any], model: str = name) -> None:
            row = {"model": model, "system": system, **measured}
            figures.add(row)
            say(line(row))
            if "error" in row and "by_steps" in row:
                faults.append(f"{model}, {system}: {row['error']}")

        for label, fixed in variants(cuda):
            if label in asked:
                measured = _ours(base, samples, per_step, fixed, repeats)
                add(label, _with_shares(measured, common, base))
        for label, attempts in peers(cuda):
            if label in asked and not (label == BLOCK_DIAGONAL and _mixes_documents(base)):
                measured = _theirs(base, samples, attempts, repeats)
                add(label, _with_shares(measured, common, base))
        del base
        free()
    return table(figures.result), faults


ORDER = [label for label, _ in (*variants(True), *peers(True))]


def _limits(base: Base) -> dict[str, float]:
    """The rates of square products, in TFLOP/s."""
    rates = {"matmul_tflops": matmul_rate(base.device, base.dtype) / 1e12}
    if base.device.type == "cuda":
        rates["sustained_tflops"] = sustained(base.device, base.dtype) / 1e12
    return rates


def _with_shares(measured: dict[str, Any], common: Mapping[str, Any], base: Base) -> dict[str, Any]:
    """A row with what is `common` to a command's rows, and what share of its rates it reaches."""
    row = {**measured, **common}
    for share, rate in (("mfu", "matmul_tflops"), ("mfu_of_sustained", "sustained_tflops")):
        if "tokens_per_second" in row and rate in row:
            row[share] = row["tokens_per_second"] * flop_per_token(base) / (row[rate] * 1e12)
    return row


def _mixes_documents(base: Base) -> bool:
    """Falcon's class in transformers drops the positions that make attention block-diagonal."""
    return bool(base.model.config.model_type == "falcon")


@cache
def sustained(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of square products kept up for about a second and a half: what the card's power
    allows in the long run, which a burst does not show."""
    a = torch.randn(8192, 8192, device=device).to(dtype)
    out = torch.empty_like(a)
    for repeats in (200, 800):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(repeats):
            torch.mm(a, a, out=out)
        torch.cuda.synchronize()
    return 2 * 8192**3 * 800 / (time.perf_counter() - began)


def _is_real(name: str, weights: Mapping[str, str], tiny: bool) -> bool:
    """Whether the model is loaded. Raises UsageError where it is not registered."""
    needs_gpu = Registry(None).model(name).needs_gpu
    return not tiny and (name in weights or not needs_gpu)


def base_for(name: str, weights: Mapping[str, str], tiny: bool, say: Say) -> tuple[Base, bool]:
    """The model, and whether its values are real."""
    if not _is_real(name, weights, tiny):
        say(f"{name}: random values in {'tiny' if tiny else 'the true'} shapes")
        return shaped(name, tiny), False
    model = Registry(None).model(name)
    located = locate(model, weights.get(name))
    kind: Quantization = "nf4" if model.needs_gpu else "none"
    return load_base(model, located, kind, "auto", say), True


def rows_of(base: Base, real: bool, steps: int) -> tuple[list[TokenSample], int]:
    """The rows of a run that measures `steps` steps, and how many of them a step has.

    Random ones are as long as HTML samples are (log-normal, median 148, at most 1,024 tokens),
    every token scored; a real model gets the training part of html_blocks.
    """
    per_step = 44 if base.device.type == "cuda" else 8
    count = per_step * (ours.uncounted(base) + steps)
    if real:
        registry = Registry(None)
        task = registry.task("html_blocks")
        loaded = load(task, task_dir=registry.path("tasks", "html_blocks").parent)
        codec = base.codec(task.template)
        sides = loaded.sides or []
        examples = [e for e, side in zip(loaded.examples, sides, strict=True) if side == "train"]
        return [codec.sample(e, 1024) for e in examples[:count]], per_step
    draw = random.Random(0)
    size = int(base.model.config.vocab_size)
    lengths = [min(1024, max(24, int(draw.lognormvariate(5.0, 0.7)))) for _ in range(count)]
    ids = [tuple(draw.randrange(4, size) for _ in range(length)) for length in lengths]
    return [TokenSample(str(i), row, 0, len(row), False) for i, row in enumerate(ids)], per_step


def _ours(
    base: Base, samples: list[TokenSample], per_step: int, fixed: PlanConstraints, repeats: int
) -> dict[str, Any]:
    """The median of so many runs. transformers' layers are slow: a third of the steps is enough."""
    if fixed.fused is False:
        steps = ours.uncounted(base) + (len(samples) // per_step - ours.uncounted(base)) // 3
        samples = samples[: per_step * steps]
    runs = []
    try:
        for _ in range(repeats):
            free()
            runs.append(ours.run(base, samples, per_step, LORA, fixed))
    except (HarnessError, torch.OutOfMemoryError) as error:
        return {"error": str(error)}
    return summed_up(runs)


def _theirs(
    base: Base, samples: list[TokenSample], attempts: list[trl.Settings], repeats: int
) -> dict[str, Any]:
    """The fastest of `attempts`, run so many times; those that do not fit are passed over.

    On a GPU the largest batch that fits is the fastest, but with block-diagonal attention: there it
    costs the square of a batch.
    """
    runs: dict[trl.Settings, list[dict[str, Any]]] = {}
    first = base.device.type == "cuda" and attempts[0].packing != "bfd"

    def measure(how: trl.Settings) -> None:
        free()
        made = trl.run(base, _given(samples, how, base), LORA, how, warm=2 if how.packing else 1)
        runs.setdefault(how, []).append({**made, "peak_gib": ours.peak(base.device)})

    try:
        for how in attempts:
            try:
                measure(how)
            except torch.OutOfMemoryError:
                continue
            if first:
                break
        if not runs:
            return {"error": "out of memory at every batch size tried"}
        best = max(runs, key=lambda how: runs[how][0]["tokens_per_second"])
        for _ in range(repeats - 1):
            measure(best)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    return {**summed_up(runs[best]), "settings": asdict(best)}


def _given(samples: list[TokenSample], how: trl.Settings, base: Base) -> list[TokenSample]:
    """The first of the rows: as many as make PEER_STEPS whole steps, if there are so many."""
    rows = how.batch * how.accumulation
    if not how.packing:
        return samples[: PEER_STEPS[base.device.type] * rows]
    room, count = PEER_STEPS["packed"] * rows * trl.LENGTH, 0
    while count < len(samples) and room >= len(samples[count].ids):
        room -= len(samples[count].ids)
        count += 1
    return samples[:count]


def card() -> str:
    """What was measured on."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU, {torch.get_num_threads()} threads ({platform.machine()})"


def library(name: str) -> str | None:
    """Its version, where it is installed."""
    try:
        return version(name)
    except ImportError:
        return None


def free() -> None:
    """Give back what nothing holds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
