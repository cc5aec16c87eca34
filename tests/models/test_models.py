"""Loading: quantised as asked, converted as pinned, refused in one sentence."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from harness.config.registry import Registry
from harness.config.schema import GgufPackageSource, LocalSource, ModelConfig
from harness.errors import AdapterError, MissingError, RunError, StorageError
from harness.host import checksums
from harness.host.files import storing
from harness.models import convert
from harness.models.convert import ensure_converted
from harness.models.device import pick_dtype
from harness.models.families import use_plain_linears
from harness.models.load import load_base, quantized_linears, unpacks
from harness.models.locate import converted_folder, is_converted, locate, missing
from harness.models.quiet import mute
from harness.models.saving import saving
from tests.support.tiny import FAMILIES, save_tiny


@pytest.fixture(autouse=True)
def cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, but for the one that converts once a machine."""
    if "embedded" not in request.node.name:
        path = request.getfixturevalue("tmp_path") / "harness-cache"
        monkeypatch.setenv("HARNESS_CACHE", str(path))


CPU = not torch.cuda.is_available()


def local(folder: Path) -> ModelConfig:
    return ModelConfig(
        name="tiny", parameters=1, source=LocalSource(kind="local", path=str(folder))
    )


def load(folder: Path, quantization: Any = "none", precision: Any = "fp32") -> Any:
    config = local(folder)
    return load_base(config, locate(config, None), quantization, precision, lambda line: None)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_is_nf4_in_every_family(family: str, tmp_path: Path) -> None:
    base = load(save_tiny(tmp_path, family), "nf4")
    wanted = 8 if family == "falcon" else 14
    assert quantized_linears(base.model, "nf4") == wanted
    whole = load(tmp_path)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        a, b = base.model(input_ids=ids).logits, whole.model(input_ids=ids).logits
    assert not torch.equal(a, b)
    # 4-bit weights are near the originals, not the same.
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
    assert float(cosine) > 0.9


@pytest.mark.skipif(not CPU, reason="of a CPU")
@pytest.mark.parametrize("right", [False, True])
def test_rows_that_bitsandbytes_unpacks_wrongly_are_refused(
    right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitsandbytes import functional

    folder = save_tiny(tmp_path, "llama", hidden=96)
    unpack = functional.dequantize_4bit
    monkeypatch.setattr(
        functional, "dequantize_4bit", lambda *given: unpack(*given) * (1 if right else -1)
    )
    unpacks.cache_clear()
    assert unpacks(128) is right
    if right and unpacks(96):  # not on every CPU (0.50.2)
        assert load(folder, "nf4").quantization == "nf4"
    else:
        with pytest.raises(AdapterError, match="q_proj has rows of 96 weights"):
            load(folder, "nf4")
    unpacks.cache_clear()


def test_a_falcon_that_stays_in_full_precision_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.falcon import modeling_falcon

    class OwnLinear(torch.nn.Linear):
        """What transformers' own falcon is built of."""

    folder = save_tiny(tmp_path, "falcon")
    monkeypatch.setattr("harness.models.load.use_plain_linears", lambda: None)
    monkeypatch.setattr(modeling_falcon, "FalconLinear", OwnLinear)
    with pytest.raises(AdapterError, match="0 of 8 linear layers are nf4"):
        load(folder, "nf4")
    use_plain_linears()


def test_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for has, wanted in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("harness.models.device.cpu_has_bf16", lambda has=has: has)
        assert pick_dtype("auto", cpu) == wanted
    assert pick_dtype("fp16", cpu) == torch.float32
    assert pick_dtype("bf16", cpu) == torch.bfloat16


def test_local_weights_are_told_apart_by_their_contents(tmp_path: Path) -> None:
    first = locate(local(save_tiny(tmp_path / "a", "llama")), None).identity
    assert first == locate(local(save_tiny(tmp_path / "b", "llama")), None).identity
    assert first != locate(local(save_tiny(tmp_path / "c", "llama", seed=1)), None).identity


def test_unusable_folders_are_named_with_the_mend(tmp_path: Path) -> None:
    good = save_tiny(tmp_path / "good", "llama")
    assert missing(local(good), None) is None
    for name, sentence in (
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no *.safetensors"),
        ("tokenizer.json", "has no tokenizer"),
    ):
        kept = (good / name).read_bytes()
        (good / name).unlink()
        fault = missing(local(good), None)
        assert fault is not None
        assert sentence in fault
        assert "\n" not in fault
        (good / name).write_bytes(kept)
    (good / "config.json").write_text("[" * 100_000)
    assert "is not JSON" in (missing(local(good), None) or "")
    assert "does not exist" in (missing(local(tmp_path / "absent"), None) or "")


def test_what_is_in_a_folder_in_place_of_the_weights_is_named(tmp_path: Path) -> None:
    """Each fault as it is: another format, a value of a wrong type, a file from elsewhere."""
    good = save_tiny(tmp_path / "good", "llama")
    tensors = good / "model.safetensors"
    index = "model.safetensors.index.json"

    def fault(files: dict[str, Any], *, without: str = "") -> str:
        kept = {name: (good / name).read_bytes() for name in files if (good / name).exists()}
        for name, content in files.items():
            (good / name).write_text(content if isinstance(content, str) else json.dumps(content))
        if without:
            (good / without).rename(tmp_path / "aside")
        found = missing(local(good), None)
        if without:
            (tmp_path / "aside").rename(good / without)
        for name in files:
            (good / name).unlink()
        for name, content in kept.items():
            (good / name).write_bytes(content)
        assert found is not None
        assert "\n" not in found
        return found

    said = fault({"pytorch_model.bin": "x", "training_args.bin": "x"}, without=tensors.name)
    assert "has only pytorch_model.bin; other formats can hold code" in said
    assert "convert the weights to safetensors" in said
    said = fault({"other.safetensors": "x"}, without=tensors.name)
    assert "has *.safetensors but no model.safetensors" in said
    for shards, words in (
        ({"a": "sub/x.safetensors"}, "has weights elsewhere"),
        ({"a": "../x.safetensors"}, "put all files of the model into the one folder"),
        ({"a": str(tensors)}, "has weights elsewhere"),
        ({"a": 1}, "whose weight_map is a number and not the name of a file"),
        (["a"], "whose weight_map is a list and not a table"),
        ({}, "whose weight_map is an empty object"),
        ({"a": "x-2.safetensors"}, "lacks x-2.safetensors, which model.safetensors.index.json"),
    ):
        assert words in fault({index: {"weight_map": shards}}, without=tensors.name)
    config = json.loads((good / "config.json").read_text())
    for key, value, words in (
        ("model_type", 5, "model_type is a number and not text"),
        ("vocab_size", "258", "vocab_size is text and not a whole number"),
        ("vocab_size", True, "vocab_size is true or false and not a whole number"),
        ("eos_token_id", ["</s>"], "eos_token_id is a list and not a token's id"),
        ("transformers_weights", "m.bin", "transformers_weights is text and not a .safetensors"),
        ("transformers_weights", "../m.safetensors", "has weights elsewhere"),
    ):
        assert words in fault({"config.json": {**config, key: value}})
    assert "that is a list and not an object" in fault({"config.json": [1]})
    assert "config.json that is not JSON" in fault({"config.json": "[" * 100_000})
    assert "without model_type" in fault({"config.json": {"a": 1}})
    assert "eos_token_id is text" in fault({"generation_config.json": {"eos_token_id": "0"}})
    assert "holds an adapter" in fault({"adapter_config.json": {}})
    assert missing(local(good), None) is None


def test_links_of_a_users_folder_are_hashed_as_what_they_lead_to(tmp_path: Path) -> None:
    good = save_tiny(tmp_path / "good", "llama")
    plain = locate(local(good), None).identity
    elsewhere = (good / "model.safetensors").rename(tmp_path / "tensors")
    (good / "model.safetensors").symlink_to(elsewhere)
    assert locate(local(good), None).identity == plain
    elsewhere.write_bytes(elsewhere.read_bytes()[:-1] + b"\x7f")
    assert locate(local(good), None).identity != plain


def test_the_file_that_a_configuration_names_is_the_one_that_is_keyed(tmp_path: Path) -> None:
    good = save_tiny(tmp_path / "good", "llama")
    config = json.loads((good / "config.json").read_text())
    (good / "model.safetensors").rename(good / "mine.safetensors")
    (good / "config.json").write_text(
        json.dumps({**config, "transformers_weights": "mine.safetensors"})
    )
    identity = locate(local(good), None).identity
    assert "mine.safetensors" in identity
    assert load(good).name == "tiny"


def test_damaged_weights_are_one_sentence(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "llama")
    tensors = folder / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    with pytest.raises(RunError, match="could not be loaded") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_what_the_hub_has_is_asked_for_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for name in ("falcon7b", "llama2-7b"):
        fault = missing(Registry().model(name), None)
        assert fault is not None
        assert "CUDA GPU" in fault
        assert f"--weights {name}=DIR" in fault
    # The hub within reach, but the repository gated.
    monkeypatch.setattr("harness.models.locate.reachable", lambda: True)
    fault = missing(Registry().model("llama2-7b"), None)
    assert fault is not None
    assert "https://huggingface.co/meta-llama/Llama-2-7b-hf" in fault
    assert "HF_TOKEN" in fault


# --- the embedded model ----------------------------------------------------------------------


def test_a_file_that_is_not_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk = tmp_path / "part"
    chunk.write_bytes(b"not the model")
    package = SimpleNamespace(chunk_paths=lambda: [chunk], EXPECTED_SHA256="whatever it says")
    monkeypatch.setitem(sys.modules, "fake_weights", package)  # type: ignore[arg-type]
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    source = GgufPackageSource(
        kind="gguf-package", package="p", module="fake_weights", file="m.gguf", sha256="0" * 64
    )
    with pytest.raises(MissingError, match="not the pinned one"):
        ensure_converted(source, lambda line: None)
    assert not converted_folder(source).exists()
    assert [f.name for f in converted_folder(source).parent.iterdir() if f.is_dir()] == []


def test_a_damaged_conversion_is_made_again_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = GgufPackageSource(
        kind="gguf-package",
        package="p",
        module="fake_weights",
        file="m.gguf",
        sha256=hashlib.sha256(b"model").hexdigest(),
    )
    chunk = tmp_path / "part"
    chunk.write_bytes(b"model")
    package = SimpleNamespace(chunk_paths=lambda: [chunk])
    monkeypatch.setitem(sys.modules, "fake_weights", package)  # type: ignore[arg-type]

    def write(gguf: Path, target: Path) -> None:
        target.mkdir()
        (target / "config.json").write_text("{}")
        (target / "model.safetensors").write_bytes(gguf.read_bytes() * 100)

    monkeypatch.setattr(convert, "_convert", write)
    said: list[str] = []

    def again(*, verify: bool = False) -> list[str]:
        said.clear()
        folder = ensure_converted(source, said.append, verify=verify)
        assert folder == converted_folder(source)
        assert (folder / "model.safetensors").read_bytes() == b"model" * 100
        names = {f.name for f in folder.parent.iterdir()}
        assert names <= {folder.name, f"{folder.name}.lock"}  # nothing half-made is left
        return said

    assert not is_converted(source)
    assert len(again()) == 1
    assert is_converted(source)
    assert again() == again(verify=True) == []
    folder = converted_folder(source)
    tensors = folder / "model.safetensors"
    for damage in (b"", b"model" * 99, b"Model" + b"model" * 99, None):
        if damage is None:
            tensors.unlink()
        else:
            tensors.write_bytes(damage)
        first, second = again()
        assert "model.safetensors was changed or damaged since it was converted" in first
        assert "converting m.gguf" in second
    tensors.touch()  # another time, the same content
    assert again() == []
    for seal in (b"", b"[]", b"{}"):
        (folder / "seal.json").write_bytes(seal)
        assert "seal.json was changed or damaged" in again()[0]
    # A bit that flipped on the disk, so that neither size nor time tells.
    stamp, before = checksums._stamp, checksums._stamp(tensors)
    tensors.write_bytes(b"Model" + b"model" * 99)
    monkeypatch.setattr(checksums, "_stamp", lambda f: before if f == tensors else stamp(f))
    said.clear()
    ensure_converted(source, said.append)
    assert said == []
    assert "model.safetensors was changed or damaged" in again(verify=True)[0]


@pytest.mark.slow
def test_the_embedded_model_is_what_its_file_says(tmp_path: Path) -> None:
    """Against the gguf library's own dequantisation. Converts, once a machine, if need be."""
    import gguf
    from safetensors import safe_open
    from transformers import AutoTokenizer

    source = Registry().model("gemma3-270m").source
    assert isinstance(source, GgufPackageSource)
    folder = ensure_converted(source, lambda line: None)
    convert._join_chunks(source, tmp_path / source.file)
    tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / source.file).tensors}
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert len(file.keys()) == len(tensors)
        for theirs, ours, shift in (
            ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight", 0.0),
            ("blk.17.attn_q.weight", "model.layers.17.self_attn.q_proj.weight", 0.0),
            # GGUF stores gemma's norms with the 1 added that the model adds itself.
            ("blk.3.attn_norm.weight", "model.layers.3.input_layernorm.weight", -1.0),
        ):
            tensor = tensors[theirs]
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            wanted = torch.from_numpy(np.array(values) + np.float32(shift)).bfloat16()
            assert torch.equal(file.get_tensor(ours), wanted)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    page = (
        '<!DOCTYPE html>\n<ul class="a">\n  <li>é 中 &amp;\t</li>\n\n</ul><table><tr><td>1</td>\n'
    )
    ids = tokenizer(page)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    # <table> and the like are tokens of their own, and no special ones.
    assert tokenizer.decode(ids, skip_special_tokens=True) == page


def test_a_refused_write_of_tensors_is_told_as_the_system_tells_it(tmp_path: Path) -> None:
    """The library's own exception, where no file may be longer than 1,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with (
            pytest.raises(StorageError, match=r"^cannot write \S+: File too large; "),
            storing(tmp_path),
            saving(),
        ):
            save_file({"a": torch.zeros(4096)}, tmp_path / "a.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_native_code_prints_while_muted_is_not_seen(capfd: pytest.CaptureFixture[str]) -> None:
    with mute():
        os.write(1, b"\x1b[31m")
        os.write(2, b"\x1b[31m")
    os.write(1, b"out")
    assert capfd.readouterr() == ("out", "")
