"""`harness bench train`: our training loop beside TRL's SFTTrainer, on the same rows, in one run.

Rates are real tokens a second, padding never counted. `of_limit` is 4 P FLOP a token over the
device's rate of square products, measured in the same run.
"""

from __future__ import annotations

import gc
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from harness.bench import trl
from harness.bench.random_weights import shaped
from harness.config.registry import Registry
from harness.config.schema import LoraSettings, Quantization, RecipeConfig
from harness.data.load import load
from harness.errors import HarnessError
from harness.files import write_json
from harness.fused.decoder import ALIGNMENT
from harness.leftovers import temporary_folder
from harness.models.adapter import Adapter
from harness.models.load import Base, load_base
from harness.models.locate import locate
from harness.tokens import Codec, TokenSample
from harness.training.limit import flop_per_token, matmul_rate
from harness.training.loop import train as fit
from harness.training.planning import Wanted
from harness.training.rows import plan_rows
from harness.training.schedule import examples_of_step, total_steps
from harness.training.steplog import StepLog

LORA = LoraSettings(r=16, lora_alpha=64.0)
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "trl")
SMALL = 16 * 2**30

Say = Callable[[str], None]


def variants(cuda: bool) -> list[tuple[str, Wanted]]:
    """Our loop with its techniques one after the other, the last one as it is used."""
    if not cuda:
        return [("harness", Wanted())]
    held = Wanted(dense=False, row_tokens=8192)
    return [
        ("transformers' layers, rows of 2,048", Wanted(fused=False, row_tokens=2048)),
        ("+ step written out", Wanted(dense=False, row_tokens=2048, checkpointing="always")),
        ("+ activations kept", Wanted(dense=False, row_tokens=2048, checkpointing="never")),
        ("+ rows of 8,192", held),
        ("harness", Wanted()),
        ("harness --max-memory 16GiB", Wanted(memory=SMALL)),
    ]


def bench_train(
    models: Sequence[str],
    against: str | None,
    weights: Mapping[str, str],
    steps: int,
    tiny: bool,
    out: Path,
    command: str,
    say: Say,
) -> str:
    """Measure, write `out`/train.json after each row, and return the table.

    models: registered names; random values in the true shapes, but for those with `weights`
    (NAME to folder) and those that need no GPU (which are loaded). steps: optimiser steps of a
    measurement, of which the first two are not counted.
    """
    if against:
        trl.require()
    result: dict[str, Any] = {
        "command": command,
        "card": card(),
        "versions": {name: _version(name) for name in LIBRARIES},
        "values": "",
        "rows": [],
    }

    def add(row: dict[str, Any]) -> None:
        if "sustained_tflops" in result and "of_limit" in row:
            share = result["matmul_tflops"] / result["sustained_tflops"]
            row["of_sustained"] = row["of_limit"] * share
        result["rows"].append(row)
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "train.json", result)
        say(_line(row))

    values: list[str] = []
    for name in models:
        base, real = _base(name, weights, tiny, say)
        values.append("real" if real else f"random in {'tiny' if tiny else 'the true'} shapes")
        result["values"] = ", ".join(dict.fromkeys(values))
        rate = matmul_rate(base.device, base.dtype)
        result.setdefault("matmul_tflops", rate / 1e12)
        if base.device.type == "cuda" and "sustained_tflops" not in result:
            result["sustained_tflops"] = sustained(base.device, base.dtype) / 1e12
        samples, per_step = _rows(base, real, steps)
        limit = rate / flop_per_token(base)
        cuda = base.device.type == "cuda"
        for label, wanted in variants(cuda):
            add({"model": name, "system": label, **_ours(base, samples, per_step, wanted, limit)})
        for label, attempts in _peers(base) if against else []:
            add({"model": name, "system": label, **_theirs(base, samples, attempts, limit)})
        del base
        _free()
    return table(result)


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


def _base(name: str, weights: Mapping[str, str], tiny: bool, say: Say) -> tuple[Base, bool]:
    """The model, and whether its values are real."""
    model = Registry(None).model(name)
    if tiny or (model.needs_gpu and name not in weights):
        say(f"{name}: random values in {'tiny' if tiny else 'the true'} shapes")
        return shaped(name, tiny), False
    located = locate(model, weights.get(name))
    kind: Quantization = "nf4" if model.needs_gpu else "none"
    return load_base(model, located, kind, "auto", say), True


def _rows(base: Base, real: bool, steps: int) -> tuple[list[TokenSample], int]:
    """The rows, and how many of them an optimiser step has.

    Random ones are as long as HTML samples are (log-normal, median 148, at most 1,024 tokens),
    every token scored; a real model gets the training part of html_blocks.
    """
    if real:
        registry = Registry(None)
        task = registry.task("html_blocks")
        loaded = load(task, task_dir=registry.path("tasks", "html_blocks").parent)
        codec = Codec(base.tokenizer, task.template)
        sides = loaded.sides or []
        kept = [e for e, side in zip(loaded.examples, sides, strict=True) if side == "train"]
        return [codec.sample(e, 1024) for e in kept[: 8 * steps]], 8
    draw = random.Random(0)
    size = int(base.model.config.vocab_size)
    lengths = [min(1024, max(24, int(draw.lognormvariate(5.0, 0.7)))) for _ in range(44 * steps)]
    ids = [tuple(draw.randrange(4, size) for _ in range(length)) for length in lengths]
    return [TokenSample(str(i), row, 0, len(row), False) for i, row in enumerate(ids)], 44


def _ours(
    base: Base, samples: list[TokenSample], per_step: int, wanted: Wanted, limit: float
) -> dict[str, Any]:
    recipe = RecipeConfig(
        name="bench",
        quantization=base.quantization,
        per_device_train_batch_size=per_step,
        gradient_accumulation_steps=1,
        learning_rate=1e-4,
        lora=LORA,
    )
    said: list[str] = []
    entries: list[StepLog] = []
    _free()
    adapter = Adapter.attach(base, LORA, 0)
    try:
        with temporary_folder("harness-bench-") as folder:
            facts = fit(
                base, adapter, samples, [], recipe, 0, folder, entries.append,
                said.append, wanted=wanted,
            )  # fmt: skip
    except (HarnessError, torch.OutOfMemoryError) as error:
        return {"error": str(error)}
    finally:
        adapter.detach()
        if base.device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0, base.device)
    counted = entries[2:]
    rate = sum(e.tokens for e in counted) / sum(e.seconds for e in counted)
    return {
        "tokens_per_second": rate,
        "of_limit": rate / limit,
        "peak_gib": _peak(base.device),
        "packing_efficiency": _packed(base, samples, recipe, facts["plan"]),
        "loss": entries[-1].loss,
        "plan": facts["plan"],
    }


def _packed(
    base: Base, samples: list[TokenSample], recipe: RecipeConfig, plan: Mapping[str, Any]
) -> float:
    """The share of the rows' positions that hold a token: rows are filled up on a GPU only."""
    lengths = [len(sample.ids) for sample in samples]
    unit = ALIGNMENT if plan["fused"] and base.device.type == "cuda" else 1
    positions = 0
    for step in range(total_steps(recipe, lengths)):
        batch = [samples[i] for i in examples_of_step(recipe, lengths, 0, step)]
        for row in plan_rows(batch, plan["row_tokens"], base.model.config):
            positions += -(-sum(len(batch[i].ids) for i in row) // unit) * unit
    return sum(lengths) / positions


def _peers(base: Base) -> list[tuple[str, list[trl.Settings]]]:
    """TRL with its defaults, packing, and at its best: several settings to try."""

    def kept(packing: str) -> list[trl.Settings]:
        """Without checkpointing, in steps of eight rows, the largest batch first."""
        return [
            trl.Settings(packing=packing, checkpointing=False, batch=n, accumulation=8 // n)
            for n in (8, 4, 2, 1)
        ]

    if base.device.type != "cuda":
        # Its packing is isolated by a kernel that a CPU does not have; steps of 8 examples.
        return [("trl-default", [trl.Settings(accumulation=1)]), ("trl-best", kept(""))]
    peers = [
        ("trl-default", [trl.Settings()]),
        ("trl-packing", [trl.Settings(packing="wrapped", accumulation=1)]),
        ("trl-best", kept("wrapped")),
    ]
    # Falcon's class in transformers drops the positions that would keep documents apart.
    if base.model.config.model_type != "falcon":
        peers.append(("trl-best, documents apart", kept("bfd")))
    return peers


def _theirs(
    base: Base, samples: list[TokenSample], attempts: list[trl.Settings], limit: float
) -> dict[str, Any]:
    """The fastest of `attempts`, of which those that do not fit are passed over.

    On a GPU the largest batch that fits is the fastest, but where documents are kept apart: there
    attention costs the square of a batch.
    """
    best: dict[str, Any] = {"error": "out of memory at every batch size tried"}
    first = base.device.type == "cuda" and attempts[0].packing != "bfd"
    for how in attempts:
        # Unpacked steps on a GPU are all alike and slow: four tell enough.
        whole = how.packing or base.device.type == "cpu"
        few = samples if whole else samples[: 4 * how.batch * how.accumulation]
        _free()
        try:
            row = trl.run(base, few, LORA, how, warm=1 if not how.packing else 2)
        except torch.OutOfMemoryError:
            continue
        except Exception as error:
            if "tokens_per_second" not in best:
                best = {"error": f"{type(error).__name__}: {error}"[:300]}
            break
        if row["tokens_per_second"] > best.get("tokens_per_second", 0):
            best = {
                **row,
                "of_limit": row["tokens_per_second"] / limit,
                "peak_gib": _peak(base.device),
                "settings": {name: getattr(how, name) for name in how.__slots__},
            }
        if first:
            break
    return best


def card() -> str:
    """What was measured on."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU, {torch.get_num_threads()} threads ({platform.machine()})"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except ImportError:
        return None


def _peak(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _line(row: Mapping[str, Any]) -> str:
    head = f"{row['model']:<12}{row['system']:<38}"
    if "error" in row:
        return f"{head}{row['error']}"
    peak = f"{row['peak_gib']:.1f}" if row["peak_gib"] is not None else "-"
    return (
        f"{head}{row['tokens_per_second']:>10,.0f}{row['of_limit']:>10.3f}{peak:>10}"
        f"{row['packing_efficiency']:>10.2f}"
    )


def table(result: Mapping[str, Any]) -> str:
    """The rows as a table for a terminal."""
    head = f"{'model':<12}{'system':<38}{'tok/s':>10}{'of limit':>10}{'peak GiB':>10}{'packed':>10}"
    rows = result["rows"]
    lines = [head, "─" * len(head), *(_line(row) for row in rows)]
    lines.append(f"{result['card']}, square products at {result['matmul_tflops']:.0f} TFLOP/s")
    if "sustained_tflops" in result:
        lines[-1] += f" ({result['sustained_tflops']:.0f} when kept up for 1.5 s)"
    for name in dict.fromkeys(row["model"] for row in rows):
        rates = {r["system"]: r["tokens_per_second"] for r in rows
                 if r["model"] == name and "error" not in r}  # fmt: skip
        for peer in (p for p in rates if p.startswith("trl-")):
            if "harness" in rates:
                lines.append(f"{name}: {rates['harness'] / rates[peer]:.1f} × {peer}")
    return "\n".join(lines)
