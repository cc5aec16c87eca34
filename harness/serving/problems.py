"""What goes wrong with a request, each with its HTTP status and one JSON shape."""

from __future__ import annotations

from typing import Any


class Problem(Exception):
    """An answer other than the one that was asked for.

    kind: a word for programs. param: the field at fault, if it is one. retry_after: seconds.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message
        self.param, self.retry_after = param, retry_after

    def to_json(self) -> dict[str, Any]:
        """The shape of every error: that of OpenAI's API."""
        error = {"message": self.message, "type": self.kind, "param": self.param}
        return {"error": {**error, "code": self.status}}


def full(retry_after: int) -> Problem:
    """The queue takes no more."""
    said = "too many requests wait already; try again a little later."
    return Problem(429, "queue_full", said, retry_after=retry_after)


def not_ready(message: str) -> Problem:
    """The model is not there yet, or the server is about to end."""
    return Problem(503, "not_ready", message, retry_after=5)


def late(seconds: float) -> Problem:
    """The deadline came before the answer's end."""
    said = f"the answer was not done within {seconds:g} seconds; ask for fewer tokens."
    return Problem(504, "deadline", said)
