"""The server that one writes first: Flask, a lock, and transformers' `generate` for each request.

It stands for the peer in `bench serve`, which it serves the same model to.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from flask import Flask, Response, request
from werkzeug.serving import make_server

from harness.data.tokens import Codec
from harness.models.adapter import Adapter
from harness.models.load import Base


@contextmanager
def naive_server(base: Base, adapter: Adapter, codec: Codec) -> Iterator[str]:
    """Its address, while it runs. It sends an answer when it is whole, as a stream of one event."""
    app = Flask("naive")
    lock = threading.Lock()

    @app.post("/generate_html/stream")
    def generate_html() -> Response:
        body = request.get_json()
        ids = torch.tensor([codec.prompt_ids(body["prompt"])], device=base.device)
        with lock, torch.inference_mode(), base.autocast():
            adapter.switch(on=body["system"] == "tuned")
            made = base.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=body["max_new_tokens"],
                do_sample=False,
                eos_token_id=sorted(codec.ends),
                pad_token_id=0,
            )
        new = made[0, ids.shape[1] :].tolist()
        answer = {"html": codec.decode(new), "new_tokens": len(new)}
        return Response(f"data: {json.dumps({'answer': answer})}\n\n", mimetype="text/event-stream")

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
