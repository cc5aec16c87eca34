"""The hub's cache: what counts as there, what is fetched, and that its commit keys the stages."""

from __future__ import annotations

import errno
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from harness import hub
from harness.config.registry import Registry
from harness.config.schema import HubSource, ModelConfig
from harness.data import load as data
from harness.data.identity import identity
from harness.errors import MissingError, StorageError
from harness.hub import cached_snapshot, fetch
from harness.models.load import load_base
from harness.models.locate import ensure, locate, missing
from tests.tiny import save_tiny

COMMIT = "c" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and a hub that is switched off."""
    for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "hf" / "hub"


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
    with pytest.raises(MissingError, match=r"no config\.json or no safetensors"):
        fetch("o/m", "main", "model", option, lambda line: None)


def test_a_hub_that_cannot_be_had_is_said_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    registry = Registry()
    task = registry.task("html_alpaca")
    start = time.monotonic()
    reason = data.available(task)
    assert reason is not None
    assert "ttbui/html_alpaca" in reason
    assert reason.endswith("give a local copy with --data html_alpaca=PATH.")
    with pytest.raises(MissingError, match=r"give a local copy with --data html_alpaca=PATH\."):
        data.load(task, task_dir=registry.path("tasks", "html_alpaca").parent)
    assert time.monotonic() - start < 4


def test_a_name_server_that_never_answers_does_not_hang_the_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object) -> None:
        time.sleep(1.0)
        raise OSError("no answer")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(socket, "create_connection", never)
    hub._answers.cache_clear()
    start = time.monotonic()
    assert not hub.reachable()
    assert time.monotonic() - start < 0.9
    hub._answers.cache_clear()
