"""Clients of a server, in a process of their own: each asks, waits for its answer, and asks again.

`python -m harness.benchmarks.clients`, with what to do as JSON on its input, writes what each
request took as JSON.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit


def ask(url: str, prompt: str, system: str, new: int) -> dict[str, float]:
    """One answer, streamed: seconds to its first text and to its end, and its tokens."""
    body = json.dumps({"prompt": prompt, "system": system, "max_new_tokens": new})
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)
    began = time.perf_counter()
    path, head = urlsplit(url).path, {"Content-Type": "application/json"}
    connection.request("POST", path, body, head)
    response = connection.getresponse()
    first, answer = 0.0, None
    if response.status != 200:
        raise SystemExit(f"{response.status}: {response.read().decode()}")
    for line in response:
        if not line.startswith(b"data: "):
            continue
        event = json.loads(line[6:])
        first = first or time.perf_counter() - began
        answer = event.get("answer", answer)
    connection.close()
    if answer is None:
        raise SystemExit("the stream ended without an answer")
    seconds = time.perf_counter() - began
    return {"first": first, "seconds": seconds, "tokens": float(answer["new_tokens"])}


def all_of(url: str, clients: int, prompts: Sequence[str], new: int) -> dict[str, Any]:
    """So many clients, who share the prompts; the requests, and the seconds of them all."""
    each = -(-len(prompts) // clients)

    def one(mine: tuple[int, Sequence[str]]) -> list[dict[str, float]]:
        at, prompts = mine
        return [ask(url, p, ("base", "tuned")[(at + i) % 2], new) for i, p in enumerate(prompts)]

    with ThreadPoolExecutor(clients) as threads:
        began = time.perf_counter()
        found = [r for part in threads.map(one, enumerate(_parts(prompts, each))) for r in part]
        return {"requests": found, "seconds": time.perf_counter() - began}


def _parts(prompts: Sequence[str], each: int) -> list[Sequence[str]]:
    return [prompts[at : at + each] for at in range(0, len(prompts), each)]


if __name__ == "__main__":
    json.dump(all_of(**json.load(sys.stdin)), sys.stdout)
