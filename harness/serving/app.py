"""The routes. Every answer is JSON, an event stream, or the page's own files; never a trace."""

from __future__ import annotations

import hmac
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from harness.serving import openai_api
from harness.serving.problems import Problem
from harness.serving.schemas import MOST_BYTES, GenerateHtml, Query, body_of, too_large
from harness.serving.service import Ask, Service
from harness.serving.shown import Shown

PAGE = Path(__file__).with_name("page")
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/script.js": ("script.js", "text/javascript; charset=utf-8"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_OPEN = frozenset(["/healthz", "/readyz", *_FILES])
"""What is seen without a key."""


def make_app(
    service: Service, shown: Shown, hosts: frozenset[str], key: str | None = None
) -> Flask:
    """The application. shown: the pages that were answered. hosts: names that a request's Host may
    have, without the port; empty: any. key: what requests must show, None: nothing."""
    app = Flask("harness", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MOST_BYTES

    @app.before_request
    def guard() -> None:
        host = urlsplit(f"//{request.host}").hostname or ""
        if hosts and host not in hosts:
            raise Problem(400, "bad_host", "this server is not called so.")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise Problem(403, "bad_origin", "pages of other sites may not ask.")
        if key is not None and request.path not in _OPEN and not _has_key(key):
            raise Problem(401, "no_key", "give the key: Authorization: Bearer KEY.")
        g.id = uuid.uuid4().hex

    @app.after_request
    def headers(response: Response) -> Response:
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("Content-Security-Policy", _POLICY)
        return response

    @app.errorhandler(Problem)
    def problem(error: Problem) -> Response:
        response = jsonify(error.to_json())
        response.status_code = error.status
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(error.retry_after)
        return response

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        if error.code == 413:
            return problem(too_large())
        said = (error.name or "refused").lower()
        return problem(Problem(error.code or 500, said.replace(" ", "_"), f"{said}."))

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        app.logger.error("%s: %s", type(error).__name__, error)
        return problem(Problem(500, "failed", "the server failed; its log says why."))

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Response:
        loaded, worker = service.ready()
        return jsonify({"status": "ready", "model": loaded.model, "load": worker.load})

    @app.get("/metrics")
    def metrics() -> Response:
        loaded, worker = service.ready()
        values = {
            "harness_answers_total": ("counter", worker.answered),
            "harness_tokens_total": ("counter", worker.tokens),
            "harness_requests_waiting_or_answered": ("gauge", worker.load),
            "harness_slots": ("gauge", loaded.engine.slots),
        }
        lines = [f"# TYPE {n} {kind}\n{n} {value}\n" for n, (kind, value) in values.items()]
        return Response("".join(lines), mimetype="text/plain; version=0.0.4")

    @app.get("/systems")
    def systems() -> Response:
        loaded, _ = service.ready()
        first = service.answerer(None)
        return jsonify(
            {
                "model": loaded.model,
                "default": first.name,
                "systems": [
                    {"name": a.name, "run": a.run, "adapter": a.adapter, "task": a.task}
                    for a in loaded.listed
                ],
                "examples": list(first.examples),
                "max_new_tokens": min(first.decoding.max_new_tokens, loaded.length // 2),
            }
        )

    @app.post("/generate_html")
    def generate_html() -> Response:
        body = body_of(request, GenerateHtml)
        if body.system != "both":
            return jsonify(_shown(shown, service.answer(_ask(body, body.system))))
        names = ("base", "tuned")
        going = []
        try:
            for name in names:
                going.append(service.begin(_ask(body, name)))
            answers = [_shown(shown, service.finish(each)) for each in going]
        finally:
            for each in going:  # where one of them fails, the other's slot is free
                each.job.cancel()
        return jsonify(dict(zip(names, answers, strict=True)))

    @app.post("/generate_html/stream")
    def stream() -> Response:
        body = body_of(request, GenerateHtml)
        going = service.begin(_ask(body, body.system))

        def events() -> Iterator[str]:
            try:
                yield ": ok\n\n"
                for piece in service.texts(going):
                    if isinstance(piece, str):
                        yield f"data: {json.dumps({'text': piece})}\n\n"
                    else:
                        yield f"data: {json.dumps({'answer': _shown(shown, piece)})}\n\n"
            except Problem as error:
                yield f"data: {json.dumps(error.to_json())}\n\n"
            finally:
                going.job.cancel()

        return Response(events(), mimetype="text/event-stream")

    @app.post("/query")
    def query() -> Response:
        body = body_of(request, Query)
        return jsonify(_shown(shown, service.answer(Ask(body.user_prompt))))

    @app.get("/shown/<name>")
    def page(name: str) -> Response:
        scripts = request.args.get("scripts") == "1"
        return shown.response(name, scripts, request.headers.get("Sec-Fetch-Dest"))

    @app.get("/openapi.json")
    def openapi() -> Response:
        from harness.serving.openapi import document

        return jsonify(document())

    for path, (name, kind) in _FILES.items():
        content = (PAGE / name).read_bytes()
        app.add_url_rule(
            path, f"file {name}", lambda c=content, k=kind: Response(c, content_type=k)
        )
    openai_api.add(app, service)
    return app


def _ask(body: GenerateHtml, system: str | None) -> Ask:
    return Ask(
        body.prompt,
        system,
        body.max_input_tokens,
        body.max_new_tokens,
        body.temperature,
        body.top_p,
        body.seed,
    )


def _shown(shown: Shown, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, with the address at which its page may be looked at for a while."""
    return {**answer, "page": f"/shown/{shown.keep(answer['html'])}"}


def _has_key(key: str) -> bool:
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    given = request.headers.get("X-API-Key", given)
    return hmac.compare_digest(given.encode(), key.encode())
