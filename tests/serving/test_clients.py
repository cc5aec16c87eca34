"""Other people's clients: openai's package, and schemathesis over the description."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.serving import World

pytestmark = pytest.mark.slow


def test_the_openai_package_is_a_client(world: World) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{world.handle.url}/v1", api_key="none")
    assert "run-1" in [model.id for model in client.models.list()]
    messages = [{"role": "user", "content": "x"}]
    whole = client.chat.completions.create(model="tuned", messages=messages, max_tokens=24)
    assert whole.choices[0].message.content == world.wanted("x", "run-1")
    pieces = client.chat.completions.create(
        model="tuned", messages=messages, max_tokens=24, stream=True
    )
    text, reason = "", None
    for piece in pieces:
        text += piece.choices[0].delta.content or ""
        reason = piece.choices[0].finish_reason or reason
    assert (text, reason) == (whole.choices[0].message.content, whole.choices[0].finish_reason)
    plain = client.completions.create(model="base", prompt="say x\n", max_tokens=24)
    assert plain.choices[0].text == world.wanted("x", "base")
    with pytest.raises(openai.NotFoundError, match="no model is called"):
        client.chat.completions.create(model="gpt-4", messages=messages)


def test_the_call_of_the_first_projects_document(world: World) -> None:
    requests = pytest.importorskip("requests")
    url = f"{world.handle.url}/generate_html"
    answer = requests.post(url, json={"prompt": "x"}, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["raw"] == world.wanted("x", "run-1")


def test_schemathesis_finds_no_failure_of_the_server(world: World, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run"),
            f"{world.handle.url}/openapi.json",
            *("--checks", "not_a_server_error", "--max-examples", "40", "--seed", "1"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
