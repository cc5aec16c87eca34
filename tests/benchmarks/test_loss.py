"""`bench loss` measures what it says, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.benchmarks import loss


def test_a_tiny_model_is_measured_beside_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "STEPS", {"cpu": 1, "cuda": 1})
    said: list[str] = []
    table = loss.bench_loss(["llama2-7b"], {}, True, tmp_path, "bench loss", said.append, repeats=1)
    theirs, ours = json.loads((tmp_path / "loss.json").read_text())["rows"]
    assert (theirs["system"], ours["system"]) == ("transformers, one by one", "harness")
    assert ours["largest_difference"] < 1e-5
    # 2 P for each token in the linears and for each scored one in the head.
    base, _ = loss.base_for("llama2-7b", {}, True, said.append)
    head = base.head_weight.numel()
    linears = loss.flop_per_token(base) // 4 - head
    seconds = ours["tokens"] / ours["tokens_per_second"]
    flop = 2 * (linears * ours["tokens"] + head * ours["scored_tokens"])
    assert ours["mfu"] == pytest.approx(flop / seconds / (ours["matmul_tflops"] * 1e12))
    assert all(loss.line(row) in table for row in (theirs, ours))


def test_the_docs_show_the_committed_figures() -> None:
    root = Path(__file__).resolve().parents[2]
    result = json.loads((root / "results" / "bench" / "loss.json").read_text(encoding="utf-8"))
    shown = (root / "docs" / "generation.md").read_text(encoding="utf-8")
    assert loss.table(result) in shown
    assert all(row["command"] in shown for row in result["rows"])
