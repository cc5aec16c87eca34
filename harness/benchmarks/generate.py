"""`harness bench generate`: our engine beside transformers' `generate`, on the same prompts.

Rates are new tokens a second by the wall, prompts read and refilled slots included. The bare step
is the time of a step with all slots in use at the run's mean context, nothing read and nothing
refilled: what the engine could reach at most.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from harness.benchmarks.figures import Figures, plain_table
from harness.benchmarks.train import LORA, Say, base_for, card, free, library
from harness.config.registry import Registry
from harness.data.load import load
from harness.errors import UsageError
from harness.inference.engine import Engine
from harness.inference.local import decoder_of, engine_of
from harness.inference.request import Request, Sampling
from harness.inference.sampler import Choice
from harness.models.adapter import Adapter
from harness.models.load import Base

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
SLOTS = {"cuda": (64, 256, 512, 1024), "cpu": (128,)}
BATCHES = {"cuda": (64, 256), "cpu": (8, 32, 64)}
NEW = {"cuda": (64, 192), "cpu": (40, 120)}
"""Tokens of an answer, by device."""
PEERS_NEW = 64
COMPARED = 32
"""Tokens of an answer that are compared with those of `generate`."""
NEAR = 0.05
"""A difference of logits that counts as a tie in bfloat16."""


def bench_generate(
    models: Sequence[str],
    weights: Mapping[str, str],
    slots: Sequence[int] | None,
    new: Sequence[int] | None,
    tiny: bool,
    out: Path,
    command: str,
    say: Say,
    repeats: int = 3,
) -> str:
    """Measure, write `out`/generate.json after each row; returns the table.

    models, weights, tiny: as `bench_train` has them. slots: numbers of slots to measure. new: the
    fewest and the most tokens of an answer, which are drawn evenly between them, the same for all
    that are measured; None: NEW.
    """
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    versions = {name: library(name) for name in LIBRARIES}
    figures = Figures(out, "generate", card(), versions)
    low, high = new or NEW[kind]
    if low > high:
        raise UsageError(f"--new-tokens {low} {high}: give the fewest first.")
    usual = (low, high) == NEW[kind]
    for name in models:
        base, real = base_for(name, weights, tiny, say)
        adapter = noisy(base)
        prompts = _prompts(base, real, 64)
        common = {"command": command, "values": "real" if real else "random"}

        def add(system: str, measured: dict[str, Any], model: str = name) -> None:
            row = {"model": model, "system": system, **measured}
            figures.add(row)
            say(line(row))

        batches = BATCHES[kind] if usual else ()
        peers = [(n, _peer(base, adapter, _prompts(base, real, n), n)) for n in batches]
        for n, measured in peers:
            add(f"generate, batch {n}", {**measured, **common})
        best = max((m.get("tokens_per_second", 0.0) for _, m in peers), default=0.0)
        decoder = decoder_of(base, adapter)
        for n in slots or SLOTS[kind]:
            free()
            asked = _requests(_prompts(base, real, _count(base, n)), low, high)
            measured = _ours(base, adapter, decoder, asked, n, repeats)
            if best and "tokens_per_second" in measured:
                measured["of_generate"] = measured["tokens_per_second"] / best
            longer = "" if usual else f", {low}-{high} new"
            add(f"harness, {n} slots{longer}", {**measured, **common})
        if usual:
            add("agreement", {**_agreement(base, adapter, decoder, prompts), **common})
        del base, adapter, decoder
        free()
    return table(figures.result)


def _count(base: Base, slots: int) -> int:
    """Requests of a run: so many that slots are refilled often, and the last answers' empty slots
    weigh little."""
    return slots if base.device.type == "cpu" else max(8 * slots, 512)


def noisy(base: Base) -> Adapter:
    """An adapter on the base that changes what it says a little."""
    adapter = Adapter.attach(base, LORA, 0)
    torch.manual_seed(0)
    for parameter in adapter.parameters():
        parameter.data.normal_(0, 0.01)
    return adapter


def _prompts(base: Base, real: bool, count: int) -> list[tuple[int, ...]]:
    """Ids of ragged prompts: random ones of 40 to 88 tokens, or for a real model html_blocks'."""
    draw = random.Random(0)
    if not real:
        size = int(base.model.config.vocab_size)
        lengths = [draw.randrange(40, 89) for _ in range(count)]
        return [tuple(draw.randrange(4, size) for _ in range(length)) for length in lengths]
    registry = Registry(None)
    task = registry.task("html_blocks")
    loaded = load(task, task_dir=registry.path("tasks", "html_blocks").parent)
    codec = base.codec(task.template)
    return [tuple(codec.prompt_ids(e.prompt)) for e in loaded.examples[:count]]


def _peer(
    base: Base, adapter: Adapter, prompts: Sequence[tuple[int, ...]], batch: int
) -> dict[str, Any]:
    """transformers' `generate` with the adapter on, one padded batch."""
    adapter.switch(on=True)
    try:
        _generate(base, prompts[:batch], 4)
        wait()
        began = time.perf_counter()
        _generate(base, prompts[:batch], PEERS_NEW)
        wait()
    except torch.OutOfMemoryError:
        return {"error": "out of memory"}
    return {"tokens_per_second": batch * PEERS_NEW / (time.perf_counter() - began)}


def _generate(base: Base, prompts: Sequence[tuple[int, ...]], count: int) -> list[list[int]]:
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + [*p] for p in prompts], device=base.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts]).to(base.device)
    with torch.inference_mode(), base.autocast():
        made = base.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
        )
    new: list[list[int]] = made[:, width:].tolist()
    return new


def _ours(
    base: Base,
    adapter: Adapter,
    decoder: Any,
    requests: Sequence[Request],
    slots: int,
    repeats: int,
) -> dict[str, Any]:
    """The engine, half of its requests of either system."""
    systems = {"base": None, "tuned": adapter}
    prompts = [request.token_ids for request in requests]
    answers = [request.sampling.max_new_tokens for request in requests]
    # Where an answer stands on average while it grows.
    context = (sum(map(len, prompts)) + sum(answers) / 2) / len(prompts)
    try:
        engine = engine_of(base, systems, lambda text: None, decoder, slots)
        engine.reserve(requests)
        if engine.slots < slots:
            return {"error": f"memory has room for {engine.slots} slots"}
        _answer(engine, [Request("w", prompts[0], Sampling(3), "base")])
        runs = []
        for _ in range(repeats):
            began = time.perf_counter()
            made = _answer(engine, requests)
            wait()
            runs.append(made / (time.perf_counter() - began))
        both = _bare(engine, prompts, int(context), ("base", "tuned"))
        one = _bare(engine, prompts, int(context), ("base",))
    except torch.OutOfMemoryError:
        return {"error": "out of memory"}
    rate = median(runs)
    return {
        "tokens_per_second": rate,
        "tokens_per_second_min": min(runs),
        "tokens_per_second_max": max(runs),
        "repeats": repeats,
        "requests": len(requests),
        "new_tokens": made,
        "context": context,
        "bare_step_ms": both * 1e3,
        "of_bare_step": rate * both / slots,
        "both_over_one": both / one,
        "peak_gib": _peak(),
    }


def _requests(prompts: Sequence[tuple[int, ...]], low: int, high: int) -> list[Request]:
    draw = random.Random(1)
    return [
        Request(f"{i}", ids, Sampling(draw.randrange(low, high + 1)), ("base", "tuned")[i % 2])
        for i, ids in enumerate(prompts)
    ]


def _answer(engine: Engine, requests: Sequence[Request]) -> int:
    """New tokens of all requests."""
    for request in requests:
        engine.submit(request)
    made = 0
    while not engine.idle:
        made += sum(len(one.token_ids) for one in engine.step().finished)
    return made


@torch.inference_mode()
def _bare(
    engine: Engine, prompts: Sequence[tuple[int, ...]], context: int, systems: Sequence[str]
) -> float:
    """Seconds of a step with every slot in use, at `context`."""
    runner, slots = engine.runner, engine.slots
    for slot in range(slots):
        ids = tuple((prompts[slot % len(prompts)] * 99)[:context])
        runner.start(slot, Request(f"{slot}", ids, Sampling(1), systems[slot % len(systems)]))
    steps = 20 if torch.cuda.is_available() else 4
    for count in (3, steps):
        wait()
        began = time.perf_counter()
        for at in range(count):
            last = runner.launch(slots, context + at + 4, Choice())
        runner.read(last)
        wait()
        seconds = time.perf_counter() - began
    for slot in range(slots):
        runner.stop(slot)
    return seconds / steps


def _agreement(
    base: Base, adapter: Adapter, decoder: Any, prompts: Sequence[tuple[int, ...]]
) -> dict[str, Any]:
    """Of how many answers the first tokens are those of `generate`, and how near to a tie the
    others part: the difference of the two logits, computed by transformers.

    For a model that is not quantised also of how many either's are those of `generate` in float32,
    which says how many the rounding alone costs.
    """
    adapter.switch(on=True)
    theirs = _generate(base, prompts, COMPARED)
    engine = engine_of(base, {"tuned": adapter}, lambda text: None, decoder, len(prompts))
    for i, ids in enumerate(prompts):
        engine.submit(Request(f"{i}", ids, Sampling(COMPARED), "tuned"))
    ours: dict[str, tuple[int, ...]] = {}
    while not engine.idle:
        ours |= {one.id: one.token_ids for one in engine.step().finished}
    gaps = []
    wide: dict[str, float] = {}
    if base.quantization == "none" and base.dtype != torch.float32:
        exact = _in_float32(base, prompts)
        wide = {
            "float32_agree_ours": _share([[*ours[f"{i}"]] for i in range(len(prompts))], exact),
            "float32_agree_generate": _share(theirs, exact),
        }
    for i, ids in enumerate(prompts):
        a, b = theirs[i], ours[f"{i}"]
        part = next((at for at in range(COMPARED) if a[at] != b[at]), None)
        if part is not None:
            text = torch.tensor([[*ids, *a[:part]]], device=base.device)
            with torch.inference_mode(), base.autocast():
                logits = base.model(input_ids=text, logits_to_keep=1).logits[0, -1].float()
            gaps.append(float((logits[a[part]] - logits[b[part]]).abs() / logits.std()))
    return {
        "answers": len(prompts),
        "agree": 1 - len(gaps) / len(prompts),
        "largest_gap": max(gaps, default=0.0),
        **wide,
    }


def _share(answers: Sequence[list[int]], exact: Sequence[list[int]]) -> float:
    """Of how many answers all tokens are the exact ones."""
    return sum(a == b for a, b in zip(answers, exact, strict=True)) / len(exact)


def _in_float32(base: Base, prompts: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """`generate`'s answers with the same values in float32, one prompt at a time."""
    wide = replace(base, model=deepcopy(base.model).float(), dtype=torch.float32)
    return [_generate(wide, [ids], COMPARED)[0] for ids in prompts]


def wait() -> None:
    """Until the device has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak() -> float | None:
    gc.collect()
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None


HEAD = (
    f"{'model':<13}{'system':<30}{'tok/s':>8}{'min–max':>16}{'× generate':>12}"
    f"{'step ms':>9}{'of step':>9}{'both/one':>10}{'peak GiB':>10}"
)


def line(row: Mapping[str, Any]) -> str:
    """One row of the table."""
    head = f"{row['model']:<13}{row['system']:<30}"
    if "error" in row:
        return f"{head} {row['error']}"
    if "agree" in row:
        gap = f"largest gap where they part {row['largest_gap']:.3f}"
        said = f"{head} {row['agree']:.1%} of {row['answers']} answers as `generate`; {gap}"
        if "float32_agree_ours" in row:
            ours, theirs = row["float32_agree_ours"], row["float32_agree_generate"]
            said += f"; as float32: ours {ours:.1%}, generate's {theirs:.1%}"
        return said
    text = f"{head}{row['tokens_per_second']:>8,.0f}"
    if "bare_step_ms" not in row:
        return text
    spread = f"{row['tokens_per_second_min']:,.0f}–{row['tokens_per_second_max']:,.0f}"
    peak = f"{row['peak_gib']:.1f}" if row["peak_gib"] is not None else "-"
    times = f"{row['of_generate']:.1f}" if "of_generate" in row else "-"
    return (
        f"{text}{spread:>16}{times:>12}{row['bare_step_ms']:>9.2f}{row['of_bare_step']:>9.2f}"
        f"{row['both_over_one']:>10.2f}{peak:>10}"
    )


def table(result: Mapping[str, Any]) -> str:
    """The file's rows as a table for a terminal."""
    return plain_table(result, HEAD, line)
