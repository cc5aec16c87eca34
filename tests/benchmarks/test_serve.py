"""`bench serve` and `bench job`: they measure what they say; the documentation shows the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.benchmarks import job, serve
from harness.benchmarks.figures import plain_table

ROOT = Path(__file__).resolve().parents[2]


def committed(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(
        (ROOT / "results" / "bench" / name).read_text(encoding="utf-8")
    )
    return found


@pytest.mark.slow
def test_a_tiny_server_is_measured_beside_its_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(serve.NEW, "cpu", 6)
    said: list[str] = []
    table = serve.bench_serve(
        ["llama2-7b"], {}, [8], True, tmp_path, "bench serve", said.append, repeats=1, length=256
    )
    peer, ours = json.loads((tmp_path / "serve.json").read_text())["rows"]
    assert (peer["system"], ours["system"]) == (
        "Flask and generate, 8 clients",
        "harness, 8 clients",
    )
    assert (peer["requests"], ours["requests"]) == (16, 16)
    assert (peer["answer_tokens"], ours["answer_tokens"]) == (6, 6)
    assert ours["of_peer"] == pytest.approx(ours["tokens_per_second"] / peer["tokens_per_second"])
    for row in (peer, ours):
        assert 0 < row["first_token_seconds"] <= row["answer_seconds"]
        assert serve.line(row) in table


def test_the_docs_show_the_committed_figures() -> None:
    shown = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    for name in ("serve.json", "cpu/serve.json"):
        assert plain_table(committed(name), serve.HEAD, serve.line) in shown
    assert job.table(committed("job.json")) in (ROOT / "docs" / "generation.md").read_text(
        encoding="utf-8"
    )
