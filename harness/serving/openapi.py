"""The API described by OpenAPI 3.1, made of the schemas that requests are held against."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from harness import __version__
from harness.serving.schemas import ChatCompletion, Completion, GenerateHtml, Query

_POST: dict[str, tuple[type[BaseModel], str]] = {
    "/generate_html": (GenerateHtml, "Answer a prompt in the task's template with HTML."),
    "/generate_html/stream": (GenerateHtml, "The same as an event stream."),
    "/query": (Query, "Answer a prompt; the shape of the second project's client."),
    "/v1/chat/completions": (ChatCompletion, "Answer the last message of a user."),
    "/v1/completions": (Completion, "Continue a text."),
}
_GET = {
    "/healthz": "Whether the server runs.",
    "/readyz": "Whether the model is loaded.",
    "/metrics": "Figures for Prometheus.",
    "/systems": "What answers, and prompts to try.",
    "/v1/models": "What answers, as OpenAI's clients ask for it.",
}
_STATUSES = {
    "400": "The body is no JSON, or the host is another.",
    "401": "The key is missing or wrong.",
    "403": "The request is of another site's page.",
    "404": "No model is called so.",
    "413": "The body is over 64 KiB.",
    "415": "The body is not declared as JSON.",
    "422": "A field is missing or wrong; `param` names it.",
    "429": "Too many requests wait; Retry-After says when to come again.",
    "503": "The model is not loaded yet.",
    "504": "The answer was not done in time.",
}


def document() -> dict[str, Any]:
    """The whole description."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for path, (schema, said) in _POST.items():
        described = schema.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= described.pop("$defs", {})
        schemas[schema.__name__] = described
        reference = {"$ref": f"#/components/schemas/{schema.__name__}"}
        body = {"required": True, "content": {"application/json": {"schema": reference}}}
        paths[path] = {"post": {"summary": said, "requestBody": body, "responses": _responses()}}
    for path, said in _GET.items():
        paths[path] = {"get": {"summary": said, "responses": _responses()}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "harness", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _responses() -> dict[str, Any]:
    shape = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "object"}},
    }
    content = {"application/json": {"schema": shape}}
    wrong = {code: {"description": said, "content": content} for code, said in _STATUSES.items()}
    return {"200": {"description": "As asked."}, **wrong}
