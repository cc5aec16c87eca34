"""`harness query`: ask a server, and print the HTML."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from harness.cli.arguments import Parser, Verbs, path_of
from harness.cli.output import print_text
from harness.errors import EXIT_OK, HarnessError, StorageError, UsageError
from harness.host.text import one_line, quoted


def add(verbs: Verbs) -> Parser:
    parser = verbs.add_parser(
        "query",
        help="ask a running server one prompt, and print the HTML",
        description="Send one prompt to `harness serve`, and print the HTML that comes back.",
    )
    parser.add_argument(
        "--api_url", "--api-url", default="http://127.0.0.1:5001", metavar="URL",
        help="where the server is (http://127.0.0.1:5001)",
    )  # fmt: skip
    parser.add_argument("--user_prompt", "--user-prompt", required=True, metavar="TEXT")
    parser.add_argument("--key", metavar="KEY", help="the server's key, where it wants one")
    parser.add_argument(
        "--out", type=path_of("file"), metavar="FILE", help="write the HTML there instead"
    )
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    return parser


def carry_out(arguments: argparse.Namespace, command: str) -> int:
    answer = _asked(arguments.api_url, arguments.user_prompt, arguments.key)
    if arguments.out is None:
        print_text(f"{answer['html']}\n")
    else:
        _write(arguments.out, answer["html"])
    if answer["finish_reason"] == "length":
        from harness.host.progress import write

        write("the answer was cut off at its most tokens")
    if arguments.open:
        import webbrowser

        webbrowser.open(f"{_root(arguments.api_url)}{answer['page']}")
    return EXIT_OK


def _root(url: str) -> str:
    return url.rstrip("/").removesuffix("/query")


def _asked(url: str, prompt: str, key: str | None) -> dict[str, Any]:
    """The server's answer. Raises HarnessError, one sentence."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--api_url {quoted(url)} is no address: it begins with http://.")
    headers = {"Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {key}"} if key else {}
    body = json.dumps({"user_prompt": prompt}).encode()
    asked = Request(f"{_root(url)}/query", data=body, headers=headers)
    try:
        with urlopen(asked, timeout=600) as response:
            answer: dict[str, Any] = json.loads(response.read())
    except HTTPError as error:
        raise HarnessError(f"the server at {url} says: {_said(error)}") from error
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise HarnessError(
            f"nothing answers at {url} ({one_line(str(reason), 100)}): start `python -m harness "
            "serve`, or give --api_url."
        ) from error
    except ValueError as error:
        raise HarnessError(f"what answers at {url} is no harness server.") from error
    if not isinstance(answer, dict) or not isinstance(answer.get("html"), str):
        raise HarnessError(f"what answers at {url} is no harness server.")
    return answer


def _said(error: Any) -> str:
    try:
        return one_line(str(json.loads(error.read())["error"]["message"]), 300)
    except (ValueError, KeyError, TypeError, OSError):
        return f"status {error.code}."


def _write(path: Path, text: str) -> None:
    from harness.host.files import write_atomic

    try:
        write_atomic(path, text)
    except OSError as error:
        raise StorageError(
            f"{quoted(path)} cannot be written ({error.strerror or error}): give another --out."
        ) from error
