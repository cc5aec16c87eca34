"""`serve`, `query` and `generate` as commands, on a run of a tiny model."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.serving.loading import Loaded, load_model, load_runs
from harness.serving.service import Ask, Service
from harness.serving.worker import Worker
from tests.support.commands import ROOT, Commands, make_registry, run_folders, run_of, write_script

pytestmark = pytest.mark.slow


def test_a_run_is_served_asked_and_ended(
    model_commands: Commands, commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    registry = make_registry(tmp_path / "registry")
    made = model_commands.run(
        tmp_path, *run_of(registry, {"llama2-7b": tiny_weights["llama"]}, "--max-steps", 2)
    )
    assert made.status == 0, made.output
    (run,) = run_folders(tmp_path)
    harness = [sys.executable, "-m", "harness"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    server = subprocess.Popen(
        [*harness, "serve", "--port", "0"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        said = ""
        for line in server.stderr:
            said += line
            if line.startswith("ready"):
                break
        assert f"serving the newest run, runs/{run.relative_to(tmp_path / 'runs')}" in said
        (url,) = set(re.findall(r"http://127\.0\.0\.1:\d+", said))
        asked = commands.run(tmp_path, "query", "--api_url", url, "--user_prompt", "say sun")
        assert asked.status == 0, asked.output
        page = tmp_path / "page.html"
        words = ["query", "--api-url", f"{url}/query", "--user-prompt", "say sun"]
        assert commands.run(tmp_path, *words, "--out", str(page)).status == 0
        assert asked.stdout == f"{page.read_text()}\n"
        taken = subprocess.run(
            [*harness, "serve", "--port", url.rsplit(":", 1)[1]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert taken.returncode == 2
        assert "cannot be had" in taken.stderr
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
    gone = commands.run(tmp_path, "query", "--api_url", url, "--user_prompt", "x")
    assert gone.status == 1
    assert "nothing answers at" in gone.stderr
    assert len(gone.stderr.splitlines()) == 1
    both = model_commands.run(tmp_path, "generate", str(run), "say sun", "--system", "both")
    assert both.status == 0, both.output
    assert re.match(r"base +tuned\n─+  ─+\n", both.stdout)
    alone = model_commands.run(tmp_path, "generate", str(run), "say sun")
    assert alone.stdout == asked.stdout
    assert "parse errors" in alone.stderr


def test_an_adapter_of_a_registered_model_is_served(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    registry = make_registry(tmp_path / "registry")
    made = model_commands.run(
        tmp_path, *run_of(registry, {"llama2-7b": tiny_weights["llama"]}, "--max-steps", 2)
    )
    assert made.status == 0, made.output
    (run,) = run_folders(tmp_path)
    (registry / "models").mkdir(exist_ok=True)
    (registry / "models" / "mine.toml").write_text(
        'name = "mine"\nparameters = 250_000\ntask = "words"\nrecipe = "tiny"\n\n'
        f'[source]\nkind = "local"\npath = "{tiny_weights["llama"]}"\n'
    )
    loaded = load_model("mine", run / "adapter", print, registry)
    assert {*loaded.answerers} == {"base", "mine", "tuned"}
    of_run = load_runs([run], print)
    assert loaded.answerers["tuned"].adapter == of_run.answerers["tuned"].adapter
    for name in ("base", "tuned"):
        assert answer(loaded, name) == answer(of_run, name)
    with pytest.raises(UsageError, match=r"--adapter: .* does not exist: give an adapter's folder"):
        load_model("mine", tmp_path / "none", print, registry)


def answer(loaded: Loaded, system: str) -> str:
    worker = Worker(loaded.engine, 1, print)
    service = Service(60.0, loaded, worker)
    worker.start()
    try:
        return str(service.answer(Ask("say sun", system))["raw"])
    finally:
        worker.close(5)


def test_what_cannot_be_served_is_one_sentence(commands: Commands, tmp_path: Path) -> None:
    script = write_script(tmp_path / "says.jsonl")
    registry = make_registry(tmp_path / "registry")
    assert commands.run(tmp_path, *run_of(registry, {"scripted": script})).status == 0
    (run,) = run_folders(tmp_path)
    (tmp_path / "key").write_text("short")
    for words, told in (
        (["serve", str(run), "--port", "0"], "trained no adapter"),
        (["serve", "nowhere", "--port", "0"], "does not exist"),
        (["serve", str(run), "--model", "gemma3-270m"], "give runs or --model"),
        (["serve", str(run), "--host", "0.0.0.0", "--port", "0"], "give --key-file"),
        (["serve", str(run), "--key-file", "key", "--port", "0"], "16 characters"),
        (["serve", "--adapter", "key", "--port", "0"], "name it with --model"),
        (["serve", "--model", "gema", "--port", "0"], "no model named gema; there are"),
        (["generate", "nowhere", "x"], "does not exist"),
    ):
        outcome = commands.run(tmp_path, *words)
        assert outcome.status == 2, outcome.output
        assert told in outcome.stderr
        assert "Traceback" not in outcome.output
