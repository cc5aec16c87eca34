"""OpenAI's API: base and runs as models, for its clients and for chat front ends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, jsonify, request

from harness.serving.problems import Problem
from harness.serving.schemas import ChatCompletion, Completion, body_of
from harness.serving.service import Ask, Going, Service


def add(app: Flask, service: Service) -> None:
    """Add the routes under /v1 to the application."""

    @app.get("/v1/models")
    def models() -> Response:
        loaded, _ = service.ready()
        names = dict.fromkeys((loaded.model, *loaded.answerers))
        return jsonify(
            {
                "object": "list",
                "data": [
                    {"id": name, "object": "model", "created": 0, "owned_by": "harness"}
                    for name in names
                ],
            }
        )

    @app.post("/v1/chat/completions")
    def chat() -> Response:
        body = body_of(request, ChatCompletion)
        prompt = next(m.text for m in reversed(body.messages) if m.role == "user" and m.text)
        new = body.max_completion_tokens or body.max_tokens
        going = service.begin(_ask(body, prompt, new, template=True))
        return _answered(service, going, body.model, "chat.completion", body.stream)

    @app.post("/v1/completions")
    def completions() -> Response:
        body = body_of(request, Completion)
        going = service.begin(_ask(body, body.prompt, body.max_tokens, template=False))
        return _answered(service, going, body.model, "text_completion", body.stream)


def _ask(body: ChatCompletion | Completion, prompt: str, new: int | None, template: bool) -> Ask:
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return Ask(
        prompt,
        body.model,
        None,
        new,
        body.temperature,
        body.top_p,
        body.seed,
        stop,
        template,
    )


def _answered(service: Service, going: Going, model: str, kind: str, stream: bool) -> Response:
    chat = kind == "chat.completion"
    common = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{going.job.request.id}",
        "created": int(time.time()),
        "model": model,
    }
    if not stream:
        whole = service.finish(going)
        text = whole["raw"]
        choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choices = [
            {"index": 0, **choice, "finish_reason": whole["finish_reason"], "logprobs": None}
        ]
        usage = _usage(whole)
        return jsonify({**common, "object": kind, "choices": choices, "usage": usage})

    def piece(text: str, reason: str | None, first: bool = False) -> str:
        if chat:
            role = {"role": "assistant"} if first else {}
            part: dict[str, Any] = {"delta": {**role, **({"content": text} if text else {})}}
        else:
            part = {"text": text}
        choices = [{"index": 0, **part, "finish_reason": reason, "logprobs": None}]
        name = "chat.completion.chunk" if chat else kind
        return f"data: {json.dumps({**common, 'object': name, 'choices': choices})}\n\n"

    def events() -> Iterator[str]:
        try:
            yield ": ok\n\n"
            if chat:
                yield piece("", None, first=True)
            for each in service.texts(going):
                if isinstance(each, str):
                    yield piece(each, None)
                else:
                    yield piece("", each["finish_reason"])
                    yield "data: [DONE]\n\n"
        except Problem as error:
            yield f"data: {json.dumps(error.to_json())}\n\n"
        finally:
            going.job.cancel()

    return Response(events(), mimetype="text/event-stream")


def _usage(whole: dict[str, Any]) -> dict[str, int]:
    asked, new = whole["prompt_tokens"], whole["new_tokens"]
    return {"prompt_tokens": asked, "completion_tokens": new, "total_tokens": asked + new}
