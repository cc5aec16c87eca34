"""`bench train`: its rows and file, the shapes it knows, its peer, and what it refuses."""

from __future__ import annotations

import json
import random
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from harness.bench import train, trl
from harness.bench.random_weights import SHAPES, quantize, shaped
from harness.config.schema import LoraSettings, RecipeConfig
from harness.errors import MissingError, UsageError
from harness.models.families import linear_names, use_plain_linears
from harness.models.load import check_quantized, pick_dtype, quantized_linears
from harness.tokens import TokenSample
from tests.commands import Commands
from tests.tiny import base_of, tiny_model

LORA = LoraSettings(r=4, lora_alpha=16.0)
KEYS = {"model", "system", "tokens_per_second", "of_limit", "peak_gib", "packing_efficiency"}


def run_tiny(out: Path, against: str | None = None, say: Any = lambda line: None) -> dict[str, Any]:
    text = train.bench_train(["falcon7b"], against, {}, 3, True, out, "the command", say)
    result: dict[str, Any] = json.loads((out / "train.json").read_text())
    assert train.table(result) == text
    return result


def samples(count: int, prompt: int) -> list[TokenSample]:
    draw = random.Random(0)
    lengths = [prompt + 4 + 5 * (i % 4) for i in range(count)]
    return [
        TokenSample(str(i), tuple(draw.randrange(3, 258) for _ in range(n)), prompt, 1, False)
        for i, n in enumerate(lengths)
    ]


# --- the rows --------------------------------------------------------------------------------


def test_both_systems_are_rows_of_one_file_that_grows(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    peers = train._peers
    monkeypatch.setattr(train, "_peers", lambda base: [(p, how[:1]) for p, how in peers(base)])

    def say(line: str) -> None:
        if (tmp_path / "train.json").exists():
            rows.append(len(json.loads((tmp_path / "train.json").read_text())["rows"]))

    result = run_tiny(tmp_path, "trl", say)
    systems = [row["system"] for row in result["rows"]]
    assert rows == list(range(1, len(systems) + 1))  # each is on the disk when it is said
    assert systems[0] == "harness"
    assert {"trl-default", "trl-best"} <= set(systems)
    assert result["command"] == "the command"
    assert result["card"].startswith("CPU")
    assert result["versions"]["trl"]
    assert result["matmul_tflops"] > 0
    assert "tiny" in result["values"]
    for row in result["rows"]:
        assert row.keys() >= KEYS
        assert row["tokens_per_second"] > 0
        assert 0 < row["of_limit"] < 1
        assert 0 < row["packing_efficiency"] <= 1
        assert row["peak_gib"] is None  # a CPU's memory is not the model's alone
    # Random weights, every token scored: nobody does better than a guess among 512 words.
    for row in result["rows"]:
        assert row["loss"] == pytest.approx(6.24, abs=0.2)


def test_a_peer_that_fails_is_a_row_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any, **named: Any) -> dict[str, Any]:
        if any(isinstance(a, trl.Settings) and a.checkpointing for a in arguments):
            raise RuntimeError("no such kernel")
        raise torch.OutOfMemoryError

    monkeypatch.setattr(trl, "run", fails)
    rows = {row["system"]: row for row in run_tiny(tmp_path, "trl")["rows"]}
    assert rows.pop("harness")["tokens_per_second"] > 0
    assert "no such kernel" in rows["trl-default"]["error"]
    assert "out of memory" in rows["trl-best"]["error"]
    assert all("tokens_per_second" not in row for row in rows.values())


def on_a_gpu(family: str) -> Any:
    """What is asked of a base that is on a GPU, before anything runs there."""
    config = SimpleNamespace(model_type=family)
    return SimpleNamespace(
        device=SimpleNamespace(type="cuda"), model=SimpleNamespace(config=config)
    )


def test_the_packing_of_a_gpu_counts_what_fills_its_rows_up() -> None:
    rows = [TokenSample(str(n), (5,) * n, 0, n, False) for n in (60, 10, 64, 64)]
    recipe = RecipeConfig(name="x", per_device_train_batch_size=4, gradient_accumulation_steps=1)
    plan = {"row_tokens": 70, "fused": True}
    # 60 and 10 share a row of 128 positions; of the others each fills one of 64.
    assert train._packed(on_a_gpu("llama"), rows, recipe, plan) == 198 / 256
    assert train._packed(on_a_gpu("llama"), rows, recipe, {**plan, "fused": False}) == 1.0


def test_trl_is_measured_with_documents_apart_where_it_can() -> None:
    llama, falcon = (dict(train._peers(on_a_gpu(family))) for family in ("llama", "falcon"))
    apart = "trl-best, documents apart"
    assert {how.packing for how in llama[apart]} == {"bfd"}
    assert apart not in falcon
    for peers in (llama, falcon):
        assert peers["trl-default"] == [trl.Settings()]
        assert {(how.packing, how.checkpointing) for how in peers["trl-best"]} == {
            ("wrapped", False)
        }


@pytest.mark.parametrize("name", ["train.json", "cpu/train.json"])
def test_the_readme_shows_the_committed_figures(name: str) -> None:
    root = Path(__file__).resolve().parents[1]
    result = json.loads((root / "results" / "bench" / name).read_text(encoding="utf-8"))
    assert train.table(result) in (root / "README.md").read_text(encoding="utf-8")
    assert result["command"] in (root / "README.md").read_text(encoding="utf-8")


# --- the peer --------------------------------------------------------------------------------


def test_trl_leaves_the_base_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    base = base_of("llama")
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    ids = torch.tensor([[5, 6, 7]])
    logits = base.model(input_ids=ids).logits
    how = trl.Settings(batch=2, accumulation=2)
    row = trl.run(base, samples(16, 0), LORA, how, warm=1)
    assert row["tokens_per_second"] > 0
    assert 0.5 < row["packing_efficiency"] < 1.0  # rows of a batch are padded to the longest
    after = base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(base.model(input_ids=ids).logits, logits)


def test_trl_without_padding_wastes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    how = trl.Settings(batch=1, accumulation=4, checkpointing=False)
    row = trl.run(base_of("llama"), samples(12, 0), LORA, how, warm=1)
    assert row["packing_efficiency"] == 1.0


def test_without_trl_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match="trl"):
        trl.require()


# --- random values in true shapes --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "linears", "head"),
    [("falcon7b", 6_626_000_000, 295_000_000), ("llama2-7b", 6_476_000_000, 131_000_000)],
)
def test_the_shapes_are_the_true_ones(name: str, linears: int, head: int) -> None:
    """Weights of the linears and of the head, as the two models are known to have."""
    from transformers import AutoConfig, AutoModelForCausalLM

    use_plain_linears()
    values = tomllib.loads(SHAPES.read_text(encoding="utf-8"))[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(values.pop("model_type"), **values)
        )
    counted = sum(model.get_submodule(n).weight.numel() for n in linear_names(model))
    assert counted == pytest.approx(linears, rel=1e-3)
    assert model.get_output_embeddings().weight.numel() == pytest.approx(head, rel=5e-3)


@pytest.mark.parametrize("name", ["falcon7b", "llama2-7b"])
def test_a_tiny_shape_is_really_in_four_bits(name: str) -> None:
    base = shaped(name, tiny=True)
    check_quantized(base.model, base.model.config, "nf4")
    assert quantized_linears(base.model, "nf4") == len(linear_names(base.model)) > 0
    assert base.head_weight.dtype == base.dtype == pick_dtype("auto", base.device)
    assert not any(p.requires_grad for p in base.model.parameters())
    assert base.tokenizer.eos_token_id == 1
    assert len(base.tokenizer) == base.head_weight.shape[0]


def test_quantising_keeps_the_product() -> None:
    """The values are those that bitsandbytes itself dequantises to, near the first ones."""
    import bitsandbytes as bnb

    model = tiny_model("llama")
    name = linear_names(model)[0]
    first = model.get_submodule(name).weight.detach().clone()
    quantize(model, torch.float32)
    made = model.get_submodule(name)
    assert isinstance(made, nn.Linear)
    held = bnb.functional.dequantize_4bit(made.weight, made.weight.quant_state)
    assert float((held - first).norm() / first.norm()) < 0.12
    x = torch.randn(3, first.shape[1], generator=torch.Generator().manual_seed(0))
    assert torch.allclose(made(x), x @ held.T, atol=1e-5)


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(UsageError, match=r"gemma3-270m.*--weights"):
        shaped("gemma3-270m", tiny=True)


# --- the command line --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--models", "nosuch"], "nosuch"),
        (["--steps", "2"], "--steps"),
        (["--against", "axolotl"], "--against"),
    ],
)
def test_refusals(commands: Commands, tmp_path: Path, argv: list[str], text: str) -> None:
    outcome = commands.run(tmp_path, "bench", "train", "--tiny", *argv)
    assert outcome.status == 2
    assert text in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "results").exists()
