"""`bench generate`: it measures what it says, and the documentation shows the committed figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.benchmarks import generate


@pytest.mark.slow
def test_a_tiny_model_is_measured_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "BATCHES", {"cpu": (4,), "cuda": (4,)})
    monkeypatch.setattr(generate, "PEERS_NEW", 6)
    monkeypatch.setattr(generate, "NEW", {"cpu": (3, 9), "cuda": (3, 9)})
    said: list[str] = []
    table = generate.bench_generate(
        ["llama2-7b"], {}, [8], None, True, tmp_path, "bench generate", said.append, repeats=2
    )
    rows = json.loads((tmp_path / "generate.json").read_text())["rows"]
    assert [row["system"] for row in rows] == ["generate, batch 4", "harness, 8 slots", "agreement"]
    _, ours, agreement = rows
    assert ours["requests"] == 8
    assert 8 * 3 <= ours["new_tokens"] <= 8 * 9
    # The bare step is what the engine could reach at most; a busy machine may turn that around.
    assert 0 < ours["of_bare_step"] < 3
    assert ours["of_generate"] == pytest.approx(
        ours["tokens_per_second"] / rows[0]["tokens_per_second"]
    )
    assert agreement["agree"] == 1.0
    assert all(generate.line(row) in table for row in rows)
    assert said[-1] == generate.line(agreement)


def test_the_docs_show_the_committed_figures() -> None:
    root = Path(__file__).resolve().parents[2]
    result = json.loads((root / "results" / "bench" / "generate.json").read_text(encoding="utf-8"))
    shown = (root / "docs" / "generation.md").read_text(encoding="utf-8")
    assert generate.table(result) in shown
    assert all(row["command"] in shown for row in result["rows"])
