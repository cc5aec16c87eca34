"""`harness bench loss`: log-likelihoods of references, beside transformers one text at a time.

Rates are tokens a second by the wall, padding never counted. `mfu` is 2 P FLOP for each token in
the linears and for each scored one in the head, over the GEMM peak measured in the same command.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from harness.benchmarks.figures import Figures, plain_table
from harness.benchmarks.generate import LIBRARIES, noisy, wait
from harness.benchmarks.train import Say, base_for, card, free, library, rows_of
from harness.data.tokens import TokenSample
from harness.decoder.packed import plan_packing, usual_row_tokens
from harness.decoder.teacher_forced import token_scores
from harness.inference.local import decoder_of
from harness.models.adapter import Adapter
from harness.models.load import Base
from harness.training.mfu import flop_per_token, matmul_rate

STEPS = {"cuda": 24, "cpu": 6}
"""Steps of a training whose rows are scored, by device."""
PEERS = {"cuda": 64, "cpu": 8}
"""Texts that are scored one at a time."""


def bench_loss(
    models: Sequence[str],
    weights: Mapping[str, str],
    tiny: bool,
    out: Path,
    command: str,
    say: Say,
    repeats: int = 3,
) -> str:
    """Measure, write `out`/loss.json after each row; returns the table.

    models, weights, tiny: as `bench_train` has them.
    """
    versions = {name: library(name) for name in LIBRARIES}
    figures = Figures(out, "loss", card(), versions)
    for name in models:
        for row in _rows(name, weights, tiny, say, repeats):
            figures.add({**row, "command": command})
            say(line(row))
        free()
    return table(figures.result)


def _rows(
    name: str, weights: Mapping[str, str], tiny: bool, say: Say, repeats: int
) -> Iterator[dict[str, Any]]:
    """The peer's row, then ours."""
    base, real = base_for(name, weights, tiny, say)
    adapter = noisy(base)
    samples, _ = rows_of(base, real, STEPS[base.device.type])
    few = samples[: PEERS[base.device.type]]
    decoder = decoder_of(base, adapter)
    peak = matmul_rate(base.device, base.dtype)
    common = {
        "model": name,
        "values": "real" if real else "random",
        "matmul_tflops": peak / 1e12,
    }

    def ours(chosen: Sequence[TokenSample]) -> dict[str, float]:
        return _packed(base, decoder, chosen)

    def peers(chosen: Sequence[TokenSample]) -> dict[str, float]:
        return _one_by_one(base, adapter, chosen)

    theirs, own = peers(few), ours(few)
    apart = {s.id: abs(own[s.id] - theirs[s.id]) / s.scored_tokens for s in few}
    for system, work, chosen in (
        ("transformers, one by one", peers, few),
        ("harness", ours, samples),
    ):
        measured = _timed(work, chosen, base, repeats)
        share = measured.pop("flop_per_second") / peak
        row = {"system": system, **common, **measured, "mfu": share}
        if work == ours:
            size = usual_row_tokens(base, decoder is not None)
            row |= {"largest_difference": max(apart.values()), "row_tokens": size}
        yield row


def _packed(base: Base, decoder: Any, samples: Sequence[TokenSample]) -> dict[str, float]:
    """The summed nll of each text's scored tokens, by our engine."""
    size = usual_row_tokens(base, decoder is not None)
    found: dict[str, float] = {}
    for members in plan_packing(samples, size, base.model.config):
        row = [samples[i] for i in members]
        nll, _ = token_scores(base, row, decoder, [0] * len(row))
        sizes = [sample.scored_tokens for sample in row]
        for sample, own in zip(row, torch.split(nll, sizes), strict=True):
            found[sample.id] = float(own.sum(dtype=torch.float64))
    return found


def _one_by_one(base: Base, adapter: Adapter, samples: Sequence[TokenSample]) -> dict[str, float]:
    """The summed nll of each text's scored tokens, by transformers' layers."""
    adapter.switch(on=True)
    found = {}
    for sample in samples:
        ids = torch.tensor([sample.ids], device=base.device)
        with torch.inference_mode(), base.autocast():
            logits = base.model(input_ids=ids, use_cache=False).logits[0]
        first = max(sample.prompt_tokens, 1)
        nll = torch.nn.functional.cross_entropy(
            logits[first - 1 : -1].float(), ids[0, first:], reduction="sum"
        )
        found[sample.id] = float(nll)
    return found


def _timed(
    work: Callable[[Sequence[TokenSample]], Any],
    samples: Sequence[TokenSample],
    base: Base,
    repeats: int,
) -> dict[str, Any]:
    tokens = sum(len(sample.ids) for sample in samples)
    scored = sum(sample.scored_tokens for sample in samples)
    work(samples[:8])
    runs = []
    for _ in range(repeats):
        wait()
        began = time.perf_counter()
        work(samples)
        wait()
        runs.append(time.perf_counter() - began)
    head = 2 * base.head_weight.numel()
    flop = (flop_per_token(base) // 2 - head) * tokens + head * scored
    return {
        "tokens_per_second": tokens / median(runs),
        "tokens_per_second_min": tokens / max(runs),
        "tokens_per_second_max": tokens / min(runs),
        "flop_per_second": flop / median(runs),
        "repeats": repeats,
        "tokens": tokens,
        "scored_tokens": scored,
    }


HEAD = f"{'model':<13}{'system':<26}{'tok/s':>8}{'min–max':>16}{'MFU':>8}{'row':>8}{'apart':>10}"


def line(row: Mapping[str, Any]) -> str:
    """One row of the table."""
    spread = f"{row['tokens_per_second_min']:,.0f}–{row['tokens_per_second_max']:,.0f}"
    apart = f"{row['largest_difference']:.1e}" if "largest_difference" in row else "-"
    size = f"{row['row_tokens']:,}" if "largest_difference" in row else "-"
    return (
        f"{row['model']:<13}{row['system']:<26}{row['tokens_per_second']:>8,.0f}{spread:>16}"
        f"{row['mfu']:>8.3f}{size:>8}{apart:>10}"
    )


def table(result: Mapping[str, Any]) -> str:
    """The file's rows as a table for a terminal."""
    return plain_table(result, HEAD, line)
