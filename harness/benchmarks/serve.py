"""`harness bench serve`: our server under several clients, beside Flask with a lock and `generate`.

Rates are the new tokens that reached the clients a second by the wall, HTTP and the parser's
verdicts included; the clients are a process of their own, beside the server.
"""

from __future__ import annotations

import json
import logging
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

from harness.benchmarks.figures import Figures, plain_table
from harness.benchmarks.generate import noisy
from harness.benchmarks.naive_server import naive_server
from harness.benchmarks.train import Say, base_for, card, free, library
from harness.config.registry import Registry
from harness.config.schema import DecodingConfig
from harness.data.load import load
from harness.data.tokens import Codec
from harness.errors import RunError
from harness.models.adapter import Adapter
from harness.models.load import Base
from harness.serving.loading import LENGTH, Answerer, ready
from harness.serving.server import Handle, serve

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "flask", "waitress")
CLIENTS = {"cuda": (1, 8, 64), "cpu": (1, 8)}
PEERS = 8
"""Clients of the peer."""
NEW = {"cuda": 128, "cpu": 64}
"""Tokens of an answer, at most."""
EACH = {"cuda": 8, "cpu": 2}
"""Requests of each client."""


def bench_serve(
    models: Sequence[str],
    weights: Mapping[str, str],
    clients: Sequence[int] | None,
    tiny: bool,
    out: Path,
    command: str,
    say: Say,
    repeats: int = 3,
    length: int = LENGTH,
) -> str:
    """Measure, write `out`/serve.json after each row; returns the table.

    models, weights, tiny: as `bench_train` has them. clients: numbers of clients to measure.
    length: tokens of a prompt and its answer together that a slot has room for.
    """
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    figures = Figures(out, "serve", card(), {name: library(name) for name in LIBRARIES})
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    for name in models:
        base, real = base_for(name, weights, tiny, say)
        adapter = noisy(base)
        codec, prompts = _prompts(base, real)
        common = {"command": command, "values": "real" if real else "random"}

        def add(system: str, measured: dict[str, Any], model: str = name) -> dict[str, Any]:
            row = {"model": model, "system": system, **measured}
            figures.add(row)
            say(line(row))
            return row

        asked = [prompts[i % len(prompts)] for i in range(PEERS * 2)]
        with naive_server(base, adapter, codec) as url:
            _clients(url, 1, asked[:1], 4)
            measured = _summed_up([_clients(url, PEERS, asked, NEW[kind])])
        peer = add(f"Flask and generate, {PEERS} clients", {**measured, **common})
        handle, slots = _ours(base, adapter, codec, name, length)
        try:
            for count in clients or CLIENTS[kind]:
                asked = [prompts[i % len(prompts)] for i in range(count * EACH[kind])]
                _clients(handle.url, count, asked[:count], 4)
                runs = [_clients(handle.url, count, asked, NEW[kind]) for _ in range(repeats)]
                measured = _summed_up(runs)
                if count == PEERS:
                    rate = measured["tokens_per_second"]
                    measured["of_peer"] = rate / peer["tokens_per_second"]
                measured |= {"slots": slots, "length": length}
                add(f"harness, {count} client{'s' * (count > 1)}", {**measured, **common})
        finally:
            handle.close(0)
        del base, adapter, handle
        free()
    return plain_table(figures.result, HEAD, line)


def _prompts(base: Base, real: bool) -> tuple[Codec, list[str]]:
    """Prompts as a server gets them: html_blocks', or for random values words, 40 to 88."""
    if real:
        registry = Registry(None)
        task = registry.task("html_blocks")
        loaded = load(task, task_dir=registry.path("tasks", "html_blocks").parent)
        return base.codec(task.template), [e.prompt for e in loaded.examples[:64]]
    draw = random.Random(0)
    size = int(base.model.config.vocab_size)
    words = [[draw.randrange(4, size) for _ in range(draw.randrange(40, 89))] for _ in range(64)]
    return base.codec("{}"), [" ".join(f"t{i}" for i in each) for each in words]


def _ours(base: Base, adapter: Adapter, codec: Codec, name: str, length: int) -> tuple[Handle, int]:
    """Our server, its model loaded; its slots."""
    bare = Answerer("base", "base", codec, None, None, "bench", DecodingConfig(), ())
    tuned = Answerer("tuned", "tuned", codec, "0" * 64, None, "bench", DecodingConfig(), ())
    answerers = {"base": bare, "tuned": tuned}

    def quiet(text: str) -> None:
        """Say nothing."""

    loaded = ready(name, base, {"tuned": adapter}, answerers, quiet, length)
    handle = serve(lambda: loaded, "127.0.0.1", 0, None, capacity=128)
    return handle.wait(), loaded.engine.slots


def _clients(url: str, count: int, prompts: Sequence[str], new: int) -> dict[str, Any]:
    """What so many clients got, who share the prompts."""
    asked = {"url": f"{url}/generate_html/stream", "clients": count, "prompts": prompts, "new": new}
    done = subprocess.run(
        [sys.executable, "-m", "harness.benchmarks.clients"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RunError(f"a client of {url} failed: {done.stderr.strip()[-300:]}")
    return dict(json.loads(done.stdout))


def _summed_up(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row of several runs of the same requests."""
    requests = [request for run in runs for request in run["requests"]]
    rates = [sum(r["tokens"] for r in run["requests"]) / run["seconds"] for run in runs]
    firsts = [request["first"] for request in requests]
    return {
        "tokens_per_second": median(rates),
        "tokens_per_second_min": min(rates),
        "tokens_per_second_max": max(rates),
        "first_token_seconds": median(firsts),
        "first_token_seconds_p95": quantiles(firsts, n=20)[-1] if len(firsts) > 1 else firsts[0],
        "answer_seconds": median(request["seconds"] for request in requests),
        "answer_tokens": sum(request["tokens"] for request in requests) / len(requests),
        "requests": len(runs[0]["requests"]),
        "repeats": len(runs),
    }


HEAD = (
    f"{'model':<13}{'system':<32}{'slots':>6}{'tok/s':>8}{'min–max':>16}{'× Flask':>9}"
    f"{'first':>8}{'p95':>8}{'answer':>9}"
)


def line(row: Mapping[str, Any]) -> str:
    """One row of the table."""
    spread = f"{row['tokens_per_second_min']:,.0f}–{row['tokens_per_second_max']:,.0f}"
    times = f"{row['of_peer']:.1f}" if "of_peer" in row else "-"
    seconds = (row["first_token_seconds"], row["first_token_seconds_p95"], row["answer_seconds"])
    return (
        f"{row['model']:<13}{row['system']:<32}{row.get('slots', '-'):>6}"
        f"{row['tokens_per_second']:>8,.0f}{spread:>16}{times:>9}"
        + "".join(f"{each:>6.2f} s" for each in seconds)
    )
