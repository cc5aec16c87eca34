"""`bench train`: its rows and file, the shapes it knows, its peer, and what it refuses."""

from __future__ import annotations

import json
import random
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from harness.benchmarks import figures, ours, score, train, trl
from harness.benchmarks.pages import answers_of_both
from harness.benchmarks.random_weights import SHAPES, quantize, shaped
from harness.cli.main import run_cli
from harness.config.schema import LoraSettings, RecipeConfig
from harness.data.tokens import TokenSample
from harness.errors import MissingError, UsageError
from harness.models.adapter import Adapter
from harness.models.device import pick_dtype
from harness.models.families import linear_names, use_plain_linears
from harness.models.load import check_quantized, quantized_linears
from harness.training.memory_plan import plan_for
from tests.support.commands import Commands
from tests.support.tiny import base_of, tiny_model

LORA = LoraSettings(r=4, lora_alpha=16.0)
KEYS = {
    *("model", "system", "tokens_per_second", "tokens_per_second_min", "tokens_per_second_max"),
    *("repeats", "steps", "mfu", "peak_gib", "packing_efficiency"),
}


def run_tiny(out: Path, against: str | None = None, **settings: Any) -> dict[str, Any]:
    models, command = settings.pop("models", ["falcon7b"]), settings.pop("command", "the command")
    say = settings.pop("say", lambda line: None)
    text, faults = train.bench_train(
        models, against, {}, 3, True, out, command, say, **({"repeats": 1} | settings)
    )
    result: dict[str, Any] = json.loads((out / "train.json").read_text())
    assert figures.table(result) == text
    assert not faults
    return result


def samples(count: int, prompt: int) -> list[TokenSample]:
    draw = random.Random(0)
    lengths = [prompt + 4 + 5 * (i % 4) for i in range(count)]
    return [
        TokenSample(str(i), tuple(draw.randrange(3, 258) for _ in range(n)), prompt, 1, False)
        for i, n in enumerate(lengths)
    ]


# --- the rows --------------------------------------------------------------------------------


@pytest.mark.slow
def test_both_systems_are_rows_of_one_file_that_grows(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    peers = train.peers
    monkeypatch.setattr(train, "peers", lambda cuda: [(p, how[:1]) for p, how in peers(cuda)])
    monkeypatch.setitem(train.PEER_STEPS, "cpu", 3)

    def say(line: str) -> None:
        if (tmp_path / "train.json").exists():
            rows.append(len(json.loads((tmp_path / "train.json").read_text())["rows"]))

    result = run_tiny(tmp_path, "trl", say=say)
    systems = [row["system"] for row in result["rows"]]
    assert rows == list(range(1, len(systems) + 1))  # each is on the disk when it is said
    assert systems[0] == "harness"
    assert {"trl-default", "trl-best"} <= set(systems)
    assert result["card"].startswith("CPU")
    assert result["versions"]["trl"]
    for row in result["rows"]:
        assert row.keys() >= KEYS
        assert row["command"] == "the command"
        assert row["matmul_tflops"] > 0
        assert "tiny" in row["values"]
        assert row["repeats"] == 1
        assert row["tokens_per_second"] > 0
        assert 0 < row["mfu"] < 1
        assert 0 < row["packing_efficiency"] <= 1
        assert row["peak_gib"] is None  # a CPU's memory is not the model's alone
    # Random weights, every token scored: nobody does better than a guess among 512 words.
    for row in result["rows"]:
        assert row["loss"] == pytest.approx(6.24, abs=0.2)


@pytest.mark.slow
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
    assert ours.packed(on_a_gpu("llama"), rows, recipe, plan) == 198 / 256
    assert ours.packed(on_a_gpu("llama"), rows, recipe, {**plan, "fused": False}) == 1.0


def test_both_kernels_of_attention_are_rows_that_differ_in_nothing_else() -> None:
    rows = dict(train.variants(cuda=True))
    assert rows[train.VARLEN] == replace(rows["harness"], flash=False)
    base = base_of("llama")
    adapter = Adapter.attach(base, LORA, 0)
    plan = plan_for(base, adapter, [8], 8, rows[train.VARLEN])
    plan.prepare(base)
    assert plan.decoder is not None
    assert not plan.decoder.flash


def test_trl_is_measured_with_block_diagonal_attention_where_it_can() -> None:
    peers = dict(train.peers(cuda=True))
    assert {how.packing for how in peers[train.BLOCK_DIAGONAL]} == {"bfd"}
    assert not train._mixes_documents(on_a_gpu("llama"))
    assert train._mixes_documents(on_a_gpu("falcon"))
    assert peers["trl-default"] == [trl.Settings()]
    assert {(how.packing, how.checkpointing) for how in peers["trl-best"]} == {("wrapped", False)}


def test_peers_get_the_rows_of_whole_steps() -> None:
    packed = trl.Settings(packing="wrapped", batch=4, accumulation=2)
    # Ten steps of eight rows of 1,024 tokens hold 409 documents of 200.
    rows = [TokenSample(str(n), (5,) * 200, 0, 200, False) for n in range(1000)]
    assert len(train._given(rows, packed, on_a_gpu("llama"))) == 409
    assert len(train._given(rows, trl.Settings(), on_a_gpu("llama"))) == 4 * 32
    assert train._given(rows[:50], packed, on_a_gpu("llama")) == rows[:50]


# --- medians, clocks, earlier rows -------------------------------------------------------------


def runs(*rates: float, clock: float = 1.0) -> list[dict[str, Any]]:
    return [
        {
            "tokens_per_second": rate,
            "by_steps": clock * rate,
            "peak_gib": rate / 100,
            "mfu": 0.5,
            "packing_efficiency": 1.0,
            "loss": 6.0,
        }
        for rate in rates
    ]


def test_a_figure_is_the_median_of_its_runs_with_their_spread() -> None:
    row = figures.summed_up(runs(1100.0, 900.0, 1000.0))
    assert row["tokens_per_second"] == 1000.0
    assert (row["tokens_per_second_min"], row["tokens_per_second_max"]) == (900.0, 1100.0)
    assert row["by_steps"] == 1000.0
    assert row["peak_gib"] == 11.0  # the highest
    assert row["repeats"] == 3
    assert "error" not in row
    line = figures.line({"model": "m", "system": "harness", **row})
    assert line.split() == ["m", "harness", "1,000", "900–1,100", "0.500", "11.0", "1.00"]


@pytest.mark.parametrize(("clock", "wrong"), [(1.019, False), (1.021, True), (0.979, True)])
def test_two_clocks_may_be_two_percent_apart(clock: float, wrong: bool) -> None:
    row = figures.summed_up(runs(1000.0, 1000.0, 1000.0, clock=clock))
    assert ("error" in row) == wrong
    assert row["tokens_per_second"] == 1000.0  # to be looked at all the same
    if wrong:
        assert f"{1000 * clock:,.0f} tok/s by the step clock, 1,000 by the wall" in row["error"]
        assert "2.1% apart" in figures.line({"model": "m", "system": "harness", **row})


def test_steps_on_the_wall_are_those_after_the_last_that_was_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loop that is one step ahead, on a device whose steps take 2 s each: 1,000 tok/s."""
    device = SimpleNamespace(type="cuda")
    base: Any = SimpleNamespace(device=device, quantization="none")
    now, queued = [0.0], [0]

    def loop(trainer: Any, folder: Path, log: Any) -> dict[str, Any]:
        total = 9
        for step in range(1, total + 1):
            queued[0] = min(step + ours.LOOKAHEAD["cuda"], total)
            now[0] = max(now[0], 2.0 * step)  # the report waits for its own step
            log(SimpleNamespace(step=step, total=total, tokens=2000, seconds=2.0, loss=1.0))
        return {"plan": {}}

    def wait(device: Any) -> None:
        now[0] = 2.0 * queued[0]  # and this for all that is queued

    monkeypatch.setattr(ours, "Trainer", lambda *arguments: None)
    monkeypatch.setattr(ours, "train", loop)
    monkeypatch.setattr(ours, "packed", lambda *arguments: 1.0)
    monkeypatch.setattr(ours, "peak", lambda device: None)
    monkeypatch.setattr(ours.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *arguments: None)
    attached = SimpleNamespace(attach=lambda *arguments: SimpleNamespace(detach=lambda: None))
    monkeypatch.setattr(ours, "Adapter", attached)
    row = ours.run(base, [], 4, LORA, ours.PlanConstraints())
    assert row["tokens_per_second"] == row["by_steps"] == 1000.0
    assert row["steps"] == 9 - ours.WARM - 1


def test_a_wrong_step_clock_fails_the_command_and_keeps_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = ours.train

    def hasty(trainer: Any, folder: Path, log: Any) -> dict[str, Any]:
        """Its clock leaves out a tenth of each step."""
        return loop(trainer, folder, lambda e: log(replace(e, seconds=0.9 * e.seconds)))

    monkeypatch.setattr(ours, "train", hasty)
    argv = ["bench", "train", "--models", "falcon7b", "--tiny", "--steps", "3"]
    assert run_cli([*argv, "--repeats", "1", "--out", str(tmp_path)]) == 1
    (row,) = json.loads((tmp_path / "train.json").read_text())["rows"]
    assert row["by_steps"] / row["tokens_per_second"] == pytest.approx(1 / 0.9, rel=0.02)
    assert row["error"].endswith("% apart")
    out, err = capsys.readouterr()
    assert row["error"] in out
    assert f"these figures are wrong: falcon7b, harness: {row['error']}." in err
    assert "Traceback" not in err


def test_rows_of_other_commands_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([1000.0, 400.0, 2000.0, 3000.0])
    monkeypatch.setattr(ours, "run", lambda *arguments: runs(next(rates))[0])
    monkeypatch.setattr(trl, "run", lambda *arguments, **named: runs(next(rates))[0])
    monkeypatch.setattr(train, "peers", lambda cuda: [("trl-default", [trl.Settings()])])
    run_tiny(tmp_path, "trl", command="first")
    run_tiny(tmp_path, models=["llama2-7b"], command="second")
    result = run_tiny(tmp_path, "trl", systems=["harn*"], command="third")
    found = [
        (r["model"], r["system"], r["tokens_per_second"], r["command"]) for r in result["rows"]
    ]
    assert found == [
        ("falcon7b", "harness", 3000.0, "third"),
        ("falcon7b", "trl-default", 400.0, "first"),
        ("llama2-7b", "harness", 2000.0, "second"),
    ]
    assert " × trl-default" not in figures.table(result)  # the two are not of one command
    result["rows"][0]["command"] = "first"
    assert figures.table(result).endswith("\nfalcon7b: 7.5 × trl-default")


def test_the_rate_of_products_is_that_of_each_command() -> None:
    rows = [
        {"model": "m", "system": "s", "error": "none", "matmul_tflops": rate, "command": "c"}
        for rate in (787.4, 781.2, 790.0)
    ]
    text = figures.table({"card": "a card", "rows": rows})
    assert text.endswith("a card, square products at 781 to 790 TFLOP/s")
    one = figures.table({"card": "a card", "rows": [{**rows[0], "sustained_tflops": 687.0}]})
    assert one.endswith("at 787 TFLOP/s (687 when kept up for 1.5 s)")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({"card": "another card", "versions": {}, "rows": []}, "figures of another card"),
        ({"card": train.card(), "versions": {"torch": "1.0"}, "rows": []}, "figures of torch 1.0"),
        ({"rows": [{"model": "falcon7b"}]}, "not a file of this version's"),
        ([], "not a file of this version's"),
    ],
)
def test_figures_of_another_machine_are_never_overwritten(
    tmp_path: Path, found: Any, text: str
) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(found))
    with pytest.raises(UsageError, match=text):
        run_tiny(tmp_path)
    assert json.loads(path.read_text()) == found


# --- what is published -------------------------------------------------------------------------


def test_the_docs_show_the_committed_figures() -> None:
    root = Path(__file__).resolve().parents[2]
    result = json.loads((root / "results" / "bench" / "train.json").read_text(encoding="utf-8"))
    shown = (root / "docs" / "training.md").read_text(encoding="utf-8")
    assert figures.table(result) in shown
    for row in result["rows"]:
        assert row["command"] in shown
        assert row["repeats"] >= 3
        assert "error" not in row


def test_the_docs_show_the_committed_times_of_scoring() -> None:
    root = Path(__file__).resolve().parents[2]
    result = json.loads((root / "results" / "bench" / "score.json").read_text(encoding="utf-8"))
    assert score.table(result) in (root / "docs" / "scoring.md").read_text(encoding="utf-8")


def test_a_time_of_scoring_is_the_median_of_its_runs_with_their_spread() -> None:
    row = score.timing_of("chrf", "sacrebleu", 40, [3.0, 8.0, 4.0], ours=[2.0, 1.0, 9.0])
    assert (row.seconds, row.seconds_min, row.seconds_max) == (4.0, 3.0, 8.0)
    assert (row.pages_per_second, row.ratio) == (10.0, 2.0)
    assert score.timing_of("chrf", "harness", 40, [2.0, 1.0, 9.0]).ratio is None


def test_few_pages_leave_out_the_long_part() -> None:
    said: list[str] = []
    rows = score._peers(answers_of_both(1)[0], said.append, 1)
    assert said == ["the same, 2,000 words: left out, so few pages do not have as many"]
    seconds = {row.part: row.seconds for row in rows if row.system == "harness"}
    assert seconds.keys() == {"rouge1, 2, L, Lsum", "chrf", "bleu"}
    for row in rows:
        if row.system != "harness":
            assert row.ratio == row.seconds / seconds[row.part]


# --- the peer --------------------------------------------------------------------------------


@pytest.mark.slow
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


@pytest.mark.slow
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
        (["--models", "falcon7b", "gemma3-270m"], "gemma3-270m"),
        (["--models", "falcon7b", "--systems", "trl-*"], "--systems trl-*"),
        (["--repeats", "0"], "--repeats"),
        (["--against", "axolotl"], "--against"),
    ],
)
def test_refusals(model_commands: Commands, tmp_path: Path, argv: list[str], text: str) -> None:
    outcome = model_commands.run(tmp_path, "bench", "train", "--tiny", *argv)
    assert outcome.status == 2
    assert text in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "results").exists()
