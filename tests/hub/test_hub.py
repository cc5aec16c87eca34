"""The hub's cache: what counts as there, what is fetched, and that its commit keys the stages."""

from __future__ import annotations

import errno
import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from harness import hub
from harness.config.registry import Registry
from harness.config.schema import HubSource, ModelConfig
from harness.data import load as data
from harness.data.hub import fetch_snapshot
from harness.data.identity import identity
from harness.errors import MissingError, StorageError
from harness.host import checksums
from harness.hub import cached_snapshot, fetch
from harness.models.load import load_base
from harness.models.locate import ensure, locate, missing
from tests.support.commands import ROOT, write_script
from tests.support.tiny import save_tiny

COMMIT = "c" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and a hub that is switched off."""
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put(cache: Path, kind: str, repo: str, files: dict[str, bytes]) -> Path:
    """A snapshot laid out as the hub's library does: names link to blobs."""
    folder = cache / f"{kind}s--{repo.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    for part in (snapshot, folder / "blobs", folder / "refs"):
        part.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(COMMIT)
    for number, (name, content) in enumerate(files.items()):
        (folder / "blobs" / str(number)).write_bytes(content)
        (snapshot / name).symlink_to(folder / "blobs" / str(number))
    return snapshot


def rows() -> bytes:
    return json.dumps(
        [
            {"instruction": f"ask {i} {'x' * i}", "input": "", "output": f"<p>{i}</p>"}
            for i in range(5)
        ]
    ).encode()


def test_a_cached_data_set_is_read_like_a_local_copy_of_it(cache: Path) -> None:
    task = Registry().task("html_alpaca")
    task_dir = Registry().path("tasks", "html_alpaca").parent
    assert "HF_HUB_OFFLINE" in (data.available(task) or "")
    assert identity(task, task_dir, None) == {"hub": "ttbui/html_alpaca", "revision": "main"}
    snapshot = put(cache, "dataset", "ttbui/html_alpaca", {"data.json": rows()})
    assert data.available(task) is None
    assert identity(task, task_dir, None)["revision"] == COMMIT
    cached = data.load(task, task_dir=task_dir)
    local = data.load(task, task_dir=task_dir, path=str(snapshot))
    assert (cached.examples, cached.digest) == (local.examples, local.digest)
    assert cached.source == "ttbui/html_alpaca"
    assert len(cached.examples) == 5


def test_a_cached_model_is_located_by_its_commit(cache: Path, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "tiny", "falcon")
    files = {f.name: f.read_bytes() for f in folder.iterdir()}
    snapshot = put(cache, "model", "someone/tiny", files)
    model = ModelConfig(
        name="tiny", parameters=1, source=HubSource(kind="hub", repo="someone/tiny")
    )
    assert missing(model, None) is None
    ensure(model, None, lambda line: pytest.fail("nothing to download"))
    located = locate(model, None)
    assert located.path == str(snapshot)
    assert located.identity == {"repo": "someone/tiny", "revision": COMMIT}
    base = load_base(model, located, "none", "fp32", lambda line: None)
    assert base.origin == "someone/tiny"  # which a saved adapter names as its base


def test_a_model_with_a_shard_missing_is_not_there(cache: Path) -> None:
    index = json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}).encode()
    files = {"config.json": b"{}", "model.safetensors.index.json": index, "one.safetensors": b""}
    snapshot = put(cache, "model", "o/m", files)
    assert cached_snapshot("o/m", "main", "model") is None
    (snapshot / "two.safetensors").write_bytes(b"")
    assert cached_snapshot("o/m", "main", "model") == snapshot
    assert cached_snapshot("o/m", COMMIT, "model") == snapshot
    (snapshot.parents[1] / "blobs" / "x.incomplete").write_bytes(b"")
    assert cached_snapshot("o/m", "main", "model") is None


def test_a_download_leaves_code_behind_and_is_named_by_its_commit(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def download(repo: str, **settings: Any) -> str:
        asked.update(settings)
        return str(put(cache, "model", repo, {"config.json": b"{}", "model.safetensors": b""}))

    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    said: list[str] = []
    found = fetch("o/m", "main", "model", "--weights m=DIR", said.append)
    assert found.name == COMMIT
    assert said == ["downloading o/m"]
    assert "*.safetensors" in asked["allow_patterns"]
    assert not any(p.endswith((".bin", ".py", "*")) for p in asked["allow_patterns"])


def test_a_download_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    option = "--weights m=DIR"
    with pytest.raises(MissingError, match=r"not within reach; give a local copy with --weights"):
        fetch("o/m", "main", "model", option, lambda line: None)
    monkeypatch.setattr(hub, "reachable", lambda: True)
    for error, kind, text in (
        (ConnectionError("https://…/secret"), MissingError, r"\(ConnectionError\); try again"),
        (OSError(errno.ENOSPC, "No space left"), StorageError, "free space, or set HF_HOME"),
    ):

        def fail(*_: Any, error: Exception = error, **__: Any) -> str:
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        with pytest.raises(kind, match=text) as caught:
            fetch("o/m", "main", "model", option, lambda line: None)
        assert "secret" not in str(caught.value)
    # A repository that holds no weights that we load.
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: "")
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *a, **k: ["README.md"])
    with pytest.raises(MissingError, match=r"no config\.json or no safetensors"):
        fetch("o/m", "main", "model", option, lambda line: None)


def blobs(cache: Path, repo: str, files: dict[str, bytes]) -> Path:
    """A snapshot as a download leaves it: blobs named by SHA-256 (tensors) or git's SHA-1."""
    snapshot = put(cache, "model", repo, {})
    for name, content in files.items():
        header = f"blob {len(content)}\0".encode()
        large = name.endswith(".safetensors")
        named = hashlib.sha256(content) if large else hashlib.sha1(header + content)
        blob = snapshot.parents[1] / "blobs" / named.hexdigest()
        blob.write_bytes(content)
        if not (snapshot / name).exists():
            (snapshot / name).symlink_to(blob)
    return snapshot


FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"tensors" * 1000,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("seen", [False, True])
def test_a_damaged_snapshot_is_downloaded_again_or_named(
    name: str, seen: bool, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was damaged before it was first seen (the blob's name tells) or since."""
    import huggingface_hub

    model = ModelConfig(name="m", parameters=1, source=HubSource(kind="hub", repo="o/m"))
    snapshot = blobs(cache, "o/m", FILES)
    said: list[str] = []
    if seen:
        time.sleep(0.06)
        ensure(model, None, said.append)
    blob = (snapshot / name).resolve()
    blob.write_bytes(FILES[name][:-1] + b"?")
    with pytest.raises(MissingError, match=rf"o/m: {name} in the hub's cache .* give a local copy"):
        ensure(model, None, said.append)
    assert said == []

    asked: dict[str, Any] = {}

    def download(repo: str, **settings: Any) -> str:
        asked.update(settings)
        assert not blob.exists()
        assert not (snapshot / name).is_symlink()
        return str(blobs(cache, repo, FILES))

    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr("harness.models.locate.reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    ensure(model, None, said.append, dry=True)
    assert said == [f"o/m: {name} in the hub's cache is damaged and downloaded again"]
    assert not asked
    ensure(model, None, said.append)
    assert asked["revision"] == COMMIT  # the one that the runs are keyed by, not today's
    assert said[1:] == [said[0], "downloading o/m"]
    assert blob.read_bytes() == FILES[name]
    ensure(model, None, lambda line: pytest.fail("it is whole"))


def test_a_blob_that_is_a_link_is_held_to_its_own_name(cache: Path) -> None:
    model = ModelConfig(name="m", parameters=1, source=HubSource(kind="hub", repo="o/m"))
    snapshot = blobs(cache, "o/m", FILES)
    blob = (snapshot / "tokenizer.json").resolve()
    (cache / "moved").write_bytes(blob.read_bytes())
    blob.unlink()
    blob.symlink_to(cache / "moved")
    ensure(model, None, pytest.fail)
    (cache / "moved").write_bytes(b"[]")
    with pytest.raises(MissingError, match=r"tokenizer\.json in the hub's cache"):
        ensure(model, None, pytest.fail)
    blob.unlink()
    blob.write_bytes(FILES["tokenizer.json"])
    ensure(model, None, pytest.fail)


def test_a_link_out_of_the_cache_is_no_part_of_a_snapshot(cache: Path) -> None:
    model = ModelConfig(name="m", parameters=1, source=HubSource(kind="hub", repo="o/m"))
    link = blobs(cache, "o/m", FILES) / "tokenizer.json"
    blob = link.resolve()
    link.unlink()
    link.symlink_to(cache / "moved")
    (cache / "moved").write_bytes(FILES["tokenizer.json"])
    with pytest.raises(MissingError, match=r"tokenizer\.json in the hub's cache"):
        ensure(model, None, pytest.fail)
    link.unlink()
    link.symlink_to(blob)
    ensure(model, None, pytest.fail)


def test_a_bit_of_a_snapshot_that_no_time_tells_of_is_found_with_verify(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelConfig(name="m", parameters=1, source=HubSource(kind="hub", repo="o/m"))
    snapshot = blobs(cache, "o/m", FILES)
    time.sleep(0.06)
    ensure(model, None, lambda line: None)
    tensors = snapshot / "model.safetensors"
    stamp, before = checksums._stamp, checksums._stamp(tensors)
    tensors.write_bytes(b"Tensors" + FILES[tensors.name][7:])
    monkeypatch.setattr(checksums, "_stamp", lambda f: before if f == tensors else stamp(f))
    ensure(model, None, lambda line: None)
    with pytest.raises(MissingError, match=r"model\.safetensors in the hub's cache"):
        ensure(model, None, lambda line: None, verify=True)


def test_a_damaged_data_set_is_named(cache: Path) -> None:
    task = Registry().task("html_alpaca")
    snapshot = put(cache, "dataset", "ttbui/html_alpaca", {"data.json": rows()})
    time.sleep(0.06)
    fetch_snapshot(task, lambda line: None)
    (snapshot / "data.json").write_bytes(rows()[:-9])
    with pytest.raises(MissingError, match=r"data\.json in the hub's cache"):
        fetch_snapshot(task, lambda line: None)


def test_a_snapshot_without_safetensors_is_named_as_such(cache: Path) -> None:
    model = ModelConfig(name="m", parameters=1, source=HubSource(kind="hub", repo="o/m"))
    put(cache, "model", "o/m", {"config.json": FILES["config.json"], "pytorch_model.bin": b"x"})
    fault = missing(model, None)
    assert fault is not None
    assert "has only pytorch_model.bin; other formats can hold code" in fault
    index = b'{"weight_map": {"a": "../x.safetensors"}}'
    put(cache, "model", "o/n", {**FILES, "model.safetensors.index.json": index})
    model = ModelConfig(name="n", parameters=1, source=HubSource(kind="hub", repo="o/n"))
    assert missing(model, None) is None  # the index is not read beside the whole file
    (cache / "models--o--n" / "snapshots" / COMMIT / "model.safetensors").unlink()
    assert "has weights elsewhere" in (missing(model, None) or "")


def test_a_token_is_the_librarys_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert hub.token() is None
    (tmp_path / "token").write_text("hf_mine\n")
    assert hub.token() == "hf_mine"
    (tmp_path / "token").write_bytes(b"\xff")
    assert hub.token() is None
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert hub.token() == "hf_other"


def test_what_needs_no_hub_does_not_import_its_library(tmp_path: Path) -> None:
    code = """
import sys
import harness.pipeline.dry_run, harness.pipeline.inventory, harness.pipeline.run
from harness.pipeline.options import Options
from harness.pipeline.plan import plan_runs
from harness.pipeline.preflight import fetch, preflight
from harness.pipeline.selection import select
chosen = select(Options(models=("scripted",), weights={"scripted": sys.argv[1]}))
preflight(chosen); fetch(chosen, print); plan_runs(chosen)
print(*[name for name in sys.modules if name.startswith("huggingface_hub")])
"""
    script = write_script(tmp_path / "says.jsonl")
    command = [sys.executable, "-c", code, str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_a_hub_that_cannot_be_had_is_said_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    registry = Registry()
    task = registry.task("html_alpaca")
    asked: list[object] = []

    def refusing(address: object, *_: object) -> None:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refusing)
    hub._answers.cache_clear()
    reason = data.available(task)
    assert reason is not None
    assert "ttbui/html_alpaca" in reason
    assert reason.endswith("give a local copy with --data html_alpaca=PATH.")
    with pytest.raises(MissingError, match=r"give a local copy with --data html_alpaca=PATH\."):
        data.load(task, task_dir=registry.path("tasks", "html_alpaca").parent)
    assert asked == [("127.0.0.1", 9)]  # once, however often it is needed
    hub._answers.cache_clear()


def test_a_name_server_that_never_answers_does_not_hang_the_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given_up = threading.Event()
    ended: list[bool] = []

    def never(*_: object) -> None:
        ended.append(given_up.wait(60))
        raise OSError("no answer")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(socket, "create_connection", never)
    hub._answers.cache_clear()
    assert not hub.reachable()
    assert ended == []  # it did not wait for the answer
    given_up.set()
    hub._answers.cache_clear()
