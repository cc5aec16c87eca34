"""The API on a socket: its routes, its errors, many clients at once, and its end."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from harness.errors import UsageError
from harness.serving import start
from harness.serving.server import serve
from tests.support.serving import World, loaded


def ask(
    world: World | str,
    path: str,
    body: Any = None,
    *,
    raw: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any, dict[str, str]]:
    url = world if isinstance(world, str) else world.handle.url
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    sent = {"Content-Type": "application/json", **(headers or {})}
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    connection.request("GET" if data is None else "POST", path, data, sent)
    response = connection.getresponse()
    text = response.read().decode()
    kind = response.headers.get_content_type()
    found = json.loads(text) if kind == "application/json" else text
    return response.status, found, dict(response.headers)


def test_a_prompt_is_answered_in_the_tasks_template_by_either_system(world: World) -> None:
    for system, engine in (("tuned", "run-1"), ("base", "base"), ("run-1", "run-1")):
        status, found, _ = ask(
            world, "/generate_html", {"prompt": "a <b>sea</b>", "system": system}
        )
        assert status == 200
        assert found["raw"] == world.wanted("a <b>sea</b>", engine)
        assert (found["model"], found["system"]) == ("tiny", engine)
        assert found["adapter"] == (None if engine == "base" else "a" * 64)
        assert found["finish_reason"] in ("stop", "length")
        assert found["new_tokens"] <= 24
        assert found["prompt_tokens"] == len(world.codec.prompt_ids("a <b>sea</b>"))
        assert {"html_valid", "errors"} <= found["validity"].keys()
        assert ask(world, found["page"])[1].encode() == found["html"].encode("utf-8", "replace")
    status, both, _ = ask(world, "/generate_html", {"prompt": "x", "system": "both"})
    assert (status, [*both]) == (200, ["base", "tuned"])
    assert both["base"]["raw"] == world.wanted("x", "base")
    assert both["tuned"]["raw"] == world.wanted("x", "run-1")
    status, found, _ = ask(world, "/query", {"user_prompt": "x"})
    assert (status, found["raw"]) == (200, world.wanted("x", "run-1"))


def test_one_seed_gives_one_answer_and_limits_are_heeded(world: World) -> None:
    warm = {"prompt": "x", "temperature": 1.0, "max_new_tokens": 12}
    first, again, other = (
        ask(world, "/generate_html", {**warm, "seed": seed})[1]["raw"] for seed in (1, 1, 2)
    )
    assert first == again != other
    long = ask(world, "/generate_html", {"prompt": "y" * 500, "max_input_tokens": 20})[1]
    assert (long["prompt_tokens"], long["prompt_cut"]) == (20, True)


def test_the_answer_streams_and_is_the_same(world: World) -> None:
    _, text, headers = ask(world, "/generate_html/stream", {"prompt": "x", "system": "base"})
    assert headers["Content-Type"].startswith("text/event-stream")
    events = [json.loads(e[6:]) for e in text.split("\n\n") if e.startswith("data: ")]
    pieces = "".join(e["text"] for e in events[:-1])
    assert pieces == events[-1]["answer"]["raw"] == world.wanted("x", "base")


def test_openais_shapes(world: World) -> None:
    _, models, _ = ask(world, "/v1/models")
    assert [each["id"] for each in models["data"]] == ["tiny", "base", "tuned", "run-1"]
    chat = {"model": "run-1", "messages": [{"role": "user", "content": "x"}], "max_tokens": 24}
    _, found, _ = ask(world, "/v1/chat/completions", chat)
    assert found["object"] == "chat.completion"
    assert found["choices"][0]["message"]["content"] == world.wanted("x", "run-1")
    assert found["usage"]["total_tokens"] == sum(
        found["usage"][k] for k in ("prompt_tokens", "completion_tokens")
    )
    _, text, _ = ask(world, "/v1/chat/completions", {**chat, "stream": True})
    events = [e[6:] for e in text.split("\n\n") if e.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(e)["choices"][0] for e in events[:-1]]
    said = "".join(c["delta"].get("content", "") for c in chunks)
    assert said == found["choices"][0]["message"]["content"]
    assert chunks[-1]["finish_reason"] == found["choices"][0]["finish_reason"]
    _, plain, _ = ask(world, "/v1/completions", {"model": "base", "prompt": "say x\n"})
    assert plain["choices"][0]["text"] == world.wanted("x", "base")


@pytest.mark.parametrize(
    ("path", "raw", "headers", "status", "said"),
    [
        ("/generate_html", b"[]", {}, 422, "valid dictionary"),
        ("/generate_html", b"[" * 60_000, {}, 400, "no JSON"),
        ("/generate_html", b"{", {}, 400, "no JSON"),
        ("/generate_html", b'{"prompt": NaN}', {}, 400, "no JSON"),
        ("/generate_html", b"\xff\xfe", {}, 400, "no JSON"),
        ("/generate_html", b"{}", {}, 422, "prompt: Field required"),
        ("/generate_html", b'{"prompt": ""}', {}, 422, "prompt"),
        ("/generate_html", b'{"prompt": 7}', {}, 422, "prompt"),
        ("/generate_html", b'{"prompt": "x", "max_new_tokens": 0}', {}, 422, "max_new_tokens"),
        ("/generate_html", b'{"prompt": "x", "max_new_tokens": 9999}', {}, 422, "at most 255"),
        ("/generate_html", b'{"prompt": "x", "temprature": 1}', {}, 422, "temprature"),
        ("/generate_html", b'{"prompt": "x", "system": "../etc"}', {}, 404, "no model is called"),
        ("/generate_html", b'{"prompt": "x"}', {"Content-Type": "text/plain"}, 415, "send JSON"),
        ("/generate_html", b'{"prompt": "x"}', {"Host": "evil.example"}, 400, "not called so"),
        ("/generate_html", b'{"prompt": "x"}', {"Origin": "http://evil.example"}, 403, "other"),
        ("/generate_html", b'"' + b"x" * 70_000 + b'"', {}, 413, "64 KiB"),
        ("/nowhere", b"{}", {}, 404, "not found"),
        ("/healthz", b"{}", {}, 405, "method not allowed"),
        ("/v1/chat/completions", b'{"model": "tiny", "messages": []}', {}, 422, "messages"),
        (
            "/v1/chat/completions",
            b'{"model": "gpt-4", "messages": [{"role": "user", "content": "x"}]}',
            {},
            404,
            "no model is called 'gpt-4'",
        ),
        ("/query", b'{"user_prompt": null}', {}, 422, "user_prompt"),
    ],
)
def test_bad_requests_get_their_status_and_one_shape(
    world: World, path: str, raw: bytes, headers: dict[str, str], status: int, said: str
) -> None:
    found, body, _ = ask(world, path, raw=raw, headers=headers)
    assert (found, said in body["error"]["message"]) == (status, True), body
    assert {*body["error"]} == {"message", "type", "param", "code"}
    assert "Traceback" not in str(body)


def test_clients_at_once_get_their_own_answers_and_the_queue_is_bounded(world: World) -> None:
    prompts = [f"number {i}" for i in range(40)]
    wanted = {p: world.wanted(p, "run-1") for p in prompts}

    def one(prompt: str) -> tuple[str, int, Any, dict[str, str]]:
        return (prompt, *ask(world, "/generate_html", {"prompt": prompt}))

    with ThreadPoolExecutor(40) as clients:
        found = list(clients.map(one, prompts))
        health = ask(world, "/healthz")
    assert health[0] == 200
    assert {status for _, status, _, _ in found} <= {200, 429}
    answered = [(prompt, body["raw"]) for prompt, status, body, _ in found if status == 200]
    assert len(answered) >= 12
    assert all(text == wanted[prompt] for prompt, text in answered)
    for _, status, body, headers in found:
        if status == 429:
            assert headers["Retry-After"] == "2"
            assert body["error"]["type"] == "queue_full"


def test_a_client_that_goes_away_frees_its_place(world: World) -> None:
    host, port = urlsplit(world.handle.url).netloc.split(":")
    body = json.dumps({"prompt": "x", "max_new_tokens": 200}).encode()
    head = (
        f"POST /generate_html/stream HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(head.encode() + body)
        raw.recv(64)
    half = socket.create_connection((host, int(port)))
    half.sendall(head.encode())  # its body never comes
    until = time.monotonic() + 20
    worker = world.handle.service.worker
    assert worker is not None
    while worker.load and time.monotonic() < until:
        time.sleep(0.05)
    assert worker.load == 0
    assert ask(world, "/generate_html", {"prompt": "x"})[0] == 200
    half.close()


def test_pages_are_shown_where_they_can_do_nothing(world: World) -> None:
    found = ask(world, "/query", {"user_prompt": "x"})[1]
    _, _, still = ask(world, found["page"])
    policy = still["Content-Security-Policy"]
    assert policy.startswith("sandbox; default-src 'none'; ")
    assert "script-src" not in policy
    _, _, unframed = ask(world, f"{found['page']}?scripts=1")
    assert unframed["Content-Security-Policy"] == policy
    framed = {"Sec-Fetch-Dest": "iframe"}
    _, _, moving = ask(world, f"{found['page']}?scripts=1", headers=framed)
    assert moving["Content-Security-Policy"].startswith("sandbox allow-scripts; default-src 'none'")
    assert "allow-same-origin" not in moving["Content-Security-Policy"]
    tab = {"Sec-Fetch-Dest": "document"}
    _, around, alone = ask(world, f"{found['page']}?scripts=1", headers=tab)
    assert f'<iframe title="the page" sandbox="allow-scripts" src="{found["page"]}?sc' in around
    assert "frame-src 'self'" in alone["Content-Security-Policy"]
    for headers in (still, moving, alone):
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
    assert ask(world, "/shown/nothing")[0] == 404
    status, page, headers = ask(world, "/")
    assert (status, "<!DOCTYPE html>" in page) == (200, True)
    assert "frame-src 'self'" in headers["Content-Security-Policy"]
    assert "http" not in page.replace("http-equiv", "")


def test_readiness_metrics_and_the_description(world: World) -> None:
    assert ask(world, "/readyz")[1]["status"] == "ready"
    _, metrics, _ = ask(world, "/metrics")
    assert "harness_tokens_total" in metrics
    _, described, _ = ask(world, "/openapi.json")
    assert described["paths"]["/generate_html"]["post"]["responses"]["429"]
    _, systems, _ = ask(world, "/systems")
    assert [each["name"] for each in systems["systems"]] == ["base", "run-1"]


def test_a_server_says_when_it_is_not_ready_and_what_failed() -> None:
    gate = threading.Event()

    def slow() -> Any:
        gate.wait(20)
        raise UsageError("the weights are gone.")

    handle = serve(slow, "127.0.0.1", 0, None)
    assert ask(handle.url, "/healthz")[0] == 200
    status, body, headers = ask(handle.url, "/generate_html", {"prompt": "x"})
    assert (status, body["error"]["message"]) == (503, "the model is being loaded.")
    assert headers["Retry-After"]
    gate.set()
    with pytest.raises(UsageError, match="the weights are gone"):
        handle.wait(20)
    assert "the weights are gone" in ask(handle.url, "/readyz")[1]["error"]["message"]
    with pytest.raises(UsageError, match=r"port \d+ of 127.0.0.1 cannot be had"):
        serve(slow, "127.0.0.1", int(handle.url.rsplit(":", 1)[1]), None)
    handle.close(0)


def test_a_key_is_needed_beyond_this_machine_and_checked() -> None:
    with pytest.raises(UsageError, match="give --key-file"):
        start(host="0.0.0.0")
    handle = serve(loaded, "127.0.0.1", 0, "sixteen letters!").wait(60)
    assert ask(handle.url, "/healthz")[0] == 200
    assert ask(handle.url, "/systems")[0] == 401
    for headers in (
        {"Authorization": "Bearer sixteen letters!"},
        {"X-API-Key": "sixteen letters!"},
    ):
        assert ask(handle.url, "/systems", headers=headers)[0] == 200
    assert ask(handle.url, "/systems", headers={"X-API-Key": "another"})[0] == 401
    handle.close(0)


def test_closing_finishes_what_is_begun_and_a_deadline_ends_an_answer() -> None:
    handle = serve(loaded, "127.0.0.1", 0, None, deadline=60.0).wait(60)
    with ThreadPoolExecutor(4) as clients:
        going = [
            clients.submit(
                ask, handle.url, "/generate_html", {"prompt": f"{i}", "max_new_tokens": 120}
            )
            for i in range(4)
        ]
        worker = handle.service.worker
        assert worker is not None
        while worker.load < 4:
            time.sleep(0.01)
        handle.close(30)
        assert [each.result()[0] for each in going] == [200] * 4
    late = serve(loaded, "127.0.0.1", 0, None, deadline=0.001).wait(60)
    status, body, _ = ask(late.url, "/generate_html", {"prompt": "x", "max_new_tokens": 200})
    assert (status, body["error"]["type"]) == (504, "deadline")
    late.close(0)
