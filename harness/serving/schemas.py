"""The bodies of requests, and what is wrong with one as a Problem."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from flask import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harness.serving.problems import Problem

MOST_BYTES = 64 * 1024
"""Of a body."""

Text = Annotated[str, Field(min_length=1, max_length=MOST_BYTES)]
Tokens = Annotated[int, Field(ge=1, le=100_000)]
Temperature = Annotated[float, Field(ge=0.0, le=10.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class GenerateHtml(_Body):
    """`POST /generate_html`. system: tuned, base, both, or a name of `GET /v1/models`."""

    prompt: Text
    system: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    max_input_tokens: Tokens | None = None
    max_new_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    seed: Seed | None = None


class Query(_Body):
    """`POST /query`."""

    user_prompt: Text


class _OpenAi(BaseModel):
    """What OpenAI's clients send; fields that change nothing here are passed over."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model: Annotated[str, Field(min_length=1, max_length=200)]
    max_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    seed: Seed | None = None
    stop: Text | Annotated[list[Text], Field(max_length=8)] | None = None
    stream: bool = False
    n: Annotated[int, Field(ge=1, le=1)] = 1


class Part(BaseModel):
    """A piece of a message."""

    type: str
    text: str = ""


class Message(BaseModel):
    """A turn of a conversation."""

    role: Annotated[str, Field(min_length=1, max_length=40)]
    content: str | list[Part]

    @property
    def text(self) -> str:
        """What is said, the pieces joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if part.type == "text")


class ChatCompletion(_OpenAi):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=200)]
    max_completion_tokens: Tokens | None = None

    @field_validator("messages")
    @classmethod
    def _someone_asks(cls, messages: list[Message]) -> list[Message]:
        if not any(message.role == "user" and message.text for message in messages):
            raise ValueError("one message must be of the role user, with a text")
        return messages


class Completion(_OpenAi):
    """`POST /v1/completions`: the prompt as it is, without the task's template."""

    prompt: Text


Body = TypeVar("Body", bound=BaseModel)


def body_of(request: Request, schema: type[Body]) -> Body:
    """The request's body. Raises Problem 400, 413, 415 or 422."""
    if request.mimetype != "application/json":
        raise Problem(415, "not_json", "send JSON, with the header Content-Type: application/json.")
    if (request.content_length or 0) > MOST_BYTES:
        raise too_large()
    try:
        given: Any = json.loads(request.get_data(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "bad_json", "the body is no JSON.") from error
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        said = f"{path}: {first['msg']}" if path else first["msg"]
        raise Problem(422, "invalid_request", said, path or None) from error


def too_large() -> Problem:
    """The body is longer than any prompt can be."""
    return Problem(413, "too_large", f"the body is over {MOST_BYTES // 1024} KiB.")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
