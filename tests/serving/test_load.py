"""A server process under load: 32 clients for a minute, health beside them, SIGTERM in between."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.commands import ROOT, Commands, make_registry, run_folders, run_of

pytestmark = pytest.mark.slow

CLIENTS, QUEUE, SECONDS = 32, 24, 60.0
HEALTH = """
import json, sys, time, urllib.request
url, until, found = sys.argv[1] + "/healthz", time.monotonic() + float(sys.argv[2]), []
while time.monotonic() < until:
    began = time.perf_counter()
    urllib.request.urlopen(url).read()
    found.append(time.perf_counter() - began)
    time.sleep(0.1)
json.dump(found, sys.stdout)
"""
"""In a process of its own: the clients' would make it wait for its turn."""
PROMPTS = [f"say word {i}" for i in range(20)]


class Server:
    """`harness serve` on a run, as a process."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        head = {"Content-Type": "application/json"}
        sent = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, sent, head)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def memory(self) -> int:
        """KiB of it that are in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])


@pytest.fixture(scope="module")
def run(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path_factory: Any
) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("load")
    registry = make_registry(folder / "registry")
    words = run_of(registry, {"llama2-7b": tiny_weights["llama"]}, "--max-steps", 2)
    made = model_commands.run(folder, *words)
    assert made.status == 0, made.output
    (found,) = run_folders(folder)
    return folder, found


@contextmanager
def serving(run: tuple[Path, Path]) -> Iterator[Server]:
    folder, path = run
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "harness", "serve", str(path), "--port", "0"),
            "--queue",
            f"{QUEUE}",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith("ready"):
                break
        (url,) = set(re.findall(r"http://127\.0\.0\.1:\d+", said))
        yield Server(process, url)
    finally:
        process.kill()
        process.wait()


def test_a_minute_of_load(run: tuple[Path, Path]) -> None:
    with serving(run) as server:
        alone = {p: server.ask("/generate_html", {"prompt": p})[1]["raw"] for p in PROMPTS}
        until = time.monotonic() + SECONDS
        statuses: Counter[int] = Counter()
        wrong: list[str] = []
        sizes: list[int] = []

        def client(number: int) -> None:
            at = number
            while time.monotonic() < until:
                at += 1
                prompt = PROMPTS[at % len(PROMPTS)]
                status, found = server.ask("/generate_html", {"prompt": prompt})
                statuses[status] += 1
                if status == 200 and found["raw"] != alone[prompt]:
                    wrong.append(f"{prompt}: {found['raw']!r}, alone {alone[prompt]!r}")
                if status == 429:
                    time.sleep(0.2)

        def watch() -> None:
            while time.monotonic() < until:
                sizes.append(server.memory())
                time.sleep(0.25)

        # A reader that takes nothing for the whole minute, and then has its answer.
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow.connect(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
        body = json.dumps({"prompt": PROMPTS[0]})
        slow.sendall(
            f"POST /generate_html/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        words = [sys.executable, "-c", HEALTH, server.url, f"{SECONDS - 2}"]
        with (
            subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as asking,
            ThreadPoolExecutor(CLIENTS + 1) as clients,
        ):
            going = [clients.submit(client, i) for i in range(CLIENTS)] + [clients.submit(watch)]
            for each in going:
                each.result()
            health = sorted(json.loads(asking.communicate()[0]))
        assert not wrong
        assert set(statuses) == {200, 429}, statuses
        assert statuses[200] > 100
        quarter = len(sizes) // 4
        assert max(sizes[-quarter:]) < 1.03 * max(sizes[quarter : 2 * quarter]), sizes
        print(f"{statuses}, health {health[len(health) // 2]:.3f}, at most {health[-1]:.3f} s")
        assert len(health) > 100
        assert health[int(0.99 * len(health))] < 0.1, health[-10:]
        text = b""
        while part := slow.recv(2048):
            text += part
        assert json.dumps(alone[PROMPTS[0]])[1:-1].encode() in text


def test_sigterm_in_the_middle_loses_no_accepted_answer(run: tuple[Path, Path]) -> None:
    with serving(run) as server:
        alone = {p: server.ask("/generate_html", {"prompt": p})[1]["raw"] for p in PROMPTS}
        accepted: list[str] = []
        answered: Counter[str] = Counter()
        refused = threading.Event()

        def client(number: int) -> None:
            at = number
            while not refused.is_set():
                at += 1
                prompt = PROMPTS[at % len(PROMPTS)]
                connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
                head = {"Content-Type": "application/json"}
                path = "/generate_html/stream"
                try:
                    connection.request("POST", path, json.dumps({"prompt": prompt}), head)
                    response = connection.getresponse()
                except OSError:  # nobody listens any more
                    refused.set()
                    return
                if response.status != 200:
                    response.read()
                    time.sleep(0.02)
                    continue
                accepted.append(prompt)
                events = [
                    line[6:] for line in response.read().split(b"\n") if line[:6] == b"data: "
                ]
                if json.loads(events[-1])["answer"]["raw"] == alone[prompt]:
                    answered[prompt] += 1

        with ThreadPoolExecutor(CLIENTS) as clients:
            going = [clients.submit(client, i) for i in range(CLIENTS)]
            time.sleep(4)
            server.process.send_signal(signal.SIGTERM)
            for each in going:
                each.result()
        assert server.process.wait(60) == 0
        assert len(accepted) > 50
        assert Counter(accepted) == answered
