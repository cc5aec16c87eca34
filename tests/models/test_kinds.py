"""Models of other kinds than ours: loaded whole and proved, or refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config.schema import LoraSettings
from harness.decoder.packed import plan_packing
from harness.decoder.teacher_forced import token_scores
from harness.errors import AdapterError, MissingError, UsageError
from harness.inference import probe
from harness.inference.general import GeneralRunner
from harness.models import packing
from harness.models.adapter import Adapter, targets_of
from harness.models.coverage import weights_of
from harness.models.load import architecture, describe_base
from harness.records import Example
from tests.support.kinds import kind, load, saved
from tests.support.tiny import base_of, tiny_model

# --- a checkpoint that does not fit its configuration ------------------------------------------


def rename(folder: Path, change: Any) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = {key: value for k, value in load_file(path).items() if (key := change(k))}
    save_file(tensors, path, metadata={"format": "pt"})


def test_missing_renamed_and_unused_tensors_are_refused_by_name(tmp_path: Path) -> None:
    folder = saved(tiny_model("llama"), tmp_path / "prefix")
    rename(folder, lambda key: f"_orig_mod.{key}")
    with pytest.raises(MissingError) as caught:
        load(folder)
    assert "21 tensors of the model are not in it (lm_head.weight," in str(caught.value)
    assert "(_orig_mod.lm_head.weight, " in str(caught.value)
    folder = saved(tiny_model("llama"), tmp_path / "one")
    rename(folder, lambda key: None if key == "model.norm.weight" else key)
    with pytest.raises(MissingError, match=r"not in it \(model\.norm\.weight\);"):
        load(folder)
    folder = saved(tiny_model("llama", layers=3), tmp_path / "more")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(MissingError, match=r"9 are in it that the model does not use \(model\.lay"):
        load(folder)


def test_a_tied_head_is_not_missing(tmp_path: Path) -> None:
    base = load(saved(tiny_model("gemma3"), tmp_path))
    assert base.head_weight is base.model.get_input_embeddings().weight


# --- end tokens --------------------------------------------------------------------------------


def test_end_tokens_are_the_tokenizers_and_the_models(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.generation_config.eos_token_id = [0, 7, 9]
    base = load(saved(model, tmp_path))
    assert base.codec("{}").ends == {0, 7, 9}


# --- state along a row ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["convolution", "linear attention"])
def test_state_along_a_row_is_found_by_measurement(name: str, tmp_path: Path) -> None:
    said: list[str] = []
    base = load(saved(kind(name), tmp_path), say=said.append)
    assert said == ["m: each document has a row of its own: measured, a shared one changes it"]
    codec = base.codec("Q: {}\nA: ")
    samples = [codec.sample(Example(str(i), "a", f"<p>{i}</p>"), 256) for i in range(3)]
    assert plan_packing(samples, 1000, base.model.config) == [[0], [1], [2]]
    # What would have come out otherwise: another loss for the same document.
    packed, _ = token_scores(base, samples)
    alone = torch.cat([token_scores(base, [s])[0] for s in samples])
    assert (packed - alone).abs().max() > 1e-3
    assert probe.batches(base)  # with caches of their own for such layers


def test_models_that_attend_only_share_rows_and_batches() -> None:
    for family in ("falcon", "llama", "gemma3"):
        base = base_of(family)
        assert packing.documents_share_rows(base)
        assert probe.batches(base)


def test_a_cache_that_forgets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    base = base_of("llama")
    real = GeneralRunner._mask
    # As if a token saw what stands in its slot behind it.
    monkeypatch.setattr(
        GeneralRunner, "_mask", lambda runner, place, extent: real(runner, place + 1, extent)
    )
    assert not probe.batches(base)


# --- weights outside of nn.Linear ----------------------------------------------------------------


def test_fused_experts_are_counted_said_and_refused_in_four_bits(tmp_path: Path) -> None:
    folder, said = saved(kind("experts"), tmp_path), []
    base = load(folder, say=said.append)
    weights = weights_of(base.model)
    assert weights.others == 2 * 4 * 64 * (2 * 64 + 64) + 2 * 4 * 64  # experts and their routers
    assert weights.total == sum(p.numel() for p in base.model.parameters())
    assert "of its weights stand in no linear layer" in said[0]
    with pytest.raises(AdapterError, match="cannot be held in nf4"):
        load(folder, "nf4")


def test_gpt2s_linears_are_adapted_and_quantised(tmp_path: Path) -> None:
    base = load(saved(kind("gpt2"), tmp_path), "nf4")
    facts = describe_base(base)
    assert facts["linears"] == facts["quantized_linears"] == 8
    assert facts["quantized_share"] == pytest.approx(12 * 64 * 64 * 2 / facts["parameters"])
    base = load(tmp_path)
    adapter = Adapter.attach(base, LoraSettings(r=4), 0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(std=0.1)
    live = adapter.check_live([5, 6, 7])
    assert live["modules"] == 8
    assert live["share"] == pytest.approx(12 * 64 * 64 * 2 / facts["parameters"])


# --- other architectures -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gemma2", "bloom"])
def test_models_without_sdpa_take_the_attention_written_out(name: str, tmp_path: Path) -> None:
    base = load(saved(kind(name), tmp_path))
    assert describe_base(base)["attention"] == "eager"
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.inference_mode():
        wanted = base.model(input_ids=ids, use_cache=False).logits[0]
    codec = base.codec("{}")
    samples = [codec.sample(Example(str(i), "ab", "cd" * i), 256) for i in (1, 2)]
    rows = plan_packing(samples, 1000, base.model.config)
    losses = torch.cat([token_scores(base, [samples[i] for i in row])[0] for row in rows])
    alone = torch.cat([token_scores(base, [s])[0] for s in samples])
    torch.testing.assert_close(losses, alone, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(wanted).all()


def test_of_a_multimodal_model_the_part_for_text_is_taken(tmp_path: Path) -> None:
    whole = kind("pictures too").eval()
    base = load(saved(whole, tmp_path))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        torch.testing.assert_close(base.model(ids).logits, whole(ids).logits)
    assert not [name for name, _ in base.model.named_modules() if "vision" in name]


# --- what the adapter is put on ------------------------------------------------------------------


def test_targets_are_pefts(tmp_path: Path) -> None:
    folder = saved(tiny_model("llama"), tmp_path / "weights")
    for settings, count in (
        (LoraSettings(target_modules=["lm_head", "q_proj"]), 3),
        (LoraSettings(target_modules=r"model\.layers\.1\..*_proj"), 7),
        (LoraSettings(target_modules=["embed_tokens"]), 1),
        (LoraSettings(modules_to_save=["lm_head"]), 14),
    ):
        adapter = Adapter.attach(load(folder), settings, 0)
        assert len(adapter.layers()) == count
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.normal_(std=0.1)
        assert adapter.check_live([5, 6, 7])["modules"] == count
        out = tmp_path / str(count)
        adapter.save(out)
        ids = torch.tensor([[5, 6, 7]])
        with torch.inference_mode():
            wanted = adapter.base.model(ids).logits
            again = Adapter.load(load(folder), out)
            torch.testing.assert_close(again.base.model(ids).logits, wanted)


def test_modules_that_are_not_there_are_told_without_weights(tmp_path: Path) -> None:
    tiny_model("llama").config.save_pretrained(tmp_path)
    model = architecture("m", str(tmp_path))
    assert all(parameter.is_meta for parameter in model.parameters())
    with pytest.raises(UsageError, match="names c_attn, which m does not have; its linear layers"):
        targets_of(model, LoraSettings(target_modules=["c_attn", "q_proj"]), "m")
    with pytest.raises(UsageError, match="matches no module of m"):
        targets_of(model, LoraSettings(target_modules="q_proj"), "m")
    with pytest.raises(UsageError, match="modules_to_save names score"):
        targets_of(model, LoraSettings(modules_to_save=["score"]), "m")
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": "x"}')
    with pytest.raises(UsageError, match=r"no model can be made from"):
        architecture("m", str(tmp_path))


def test_a_saved_adapter_finds_its_base(tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    base = load(saved(tiny_model("llama"), tmp_path / "weights"))
    adapter = Adapter.attach(base, LoraSettings(r=4), 0)
    adapter.save(tmp_path / "adapter")
    again = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    assert again.peft_config["default"].base_model_name_or_path == str(tmp_path / "weights")


def test_an_adapter_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    base = load(saved(tiny_model("llama"), tmp_path / "weights"))
    adapter = Adapter.attach(base, LoraSettings(r=4), 0)
    adapter.save(tmp_path / "adapter")
    adapter.detach()
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(AdapterError, match="does not fit m: 1 tensors"):
        Adapter.load(base, tmp_path / "adapter")
