"""`harness serve`: the local API over a run's model, and the page to try it on."""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from harness.cli.arguments import Parser, Verbs, add_registry, count, path_of
from harness.errors import EXIT_OK, UsageError
from harness.host.paths import expanded, no_file, read_text
from harness.host.text import quoted


def add(verbs: Verbs) -> Parser:
    parser = verbs.add_parser(
        "serve",
        help="a local API over a run's model, and a page to try it on",
        description="Serve the adapters of runs of one base, and the base, until it is "
        "interrupted; without a run the newest finished one.",
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="a run's folder")
    parser.add_argument("--model", metavar="M", help="instead of runs, a registered model")
    parser.add_argument(
        "--adapter",
        type=path_of("folder"),
        metavar="DIR",
        help="an adapter on --model, of PEFT's format",
    )
    add_registry(parser, "your own registry folder, for --model")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="H", help="address to listen on (127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=count(0), default=5001, metavar="N", help="port (5001; 0: a free one)"
    )
    parser.add_argument(
        "--key-file",
        type=path_of("file"),
        metavar="F",
        help="file with the key that requests must show; needed for another --host",
    )
    parser.add_argument(
        "--no-key", action="store_true", help="let whoever reaches another --host ask"
    )
    parser.add_argument(
        "--length",
        type=count(2),
        metavar="N",
        help="tokens of a prompt and its answer together, at most (2048); fewer take less memory",
    )
    parser.add_argument(
        "--queue", type=count(1), default=64, metavar="N", help="requests at a time (64)"
    )
    parser.add_argument(
        "--deadline", type=count(1), default=300, metavar="S", help="seconds an answer may take"
    )
    parser.add_argument(
        "--grace", type=count(0), default=30, metavar="S", help="seconds to finish at the end (30)"
    )
    return parser


def carry_out(arguments: argparse.Namespace, command: str) -> int:
    from harness.host.progress import write
    from harness.serving.server import loader, serve

    runs = [expanded(run) for run in arguments.runs]
    load = loader(
        runs,
        arguments.model,
        arguments.adapter,
        Path("runs"),
        write,
        arguments.registry,
        arguments.length,
    )
    ended = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        handle = serve(
            load,
            arguments.host,
            arguments.port,
            _key(arguments.key_file),
            open_to_all=arguments.no_key,
            capacity=arguments.queue,
            deadline=float(arguments.deadline),
            say=write,
        )
        write(f"listening on {handle.url}, loading the model (Ctrl-C ends)")
        said = False
        while not ended.wait(0.2):
            if handle.service.failed is not None:
                handle.close(0)
                handle.wait(0)  # raises what is wrong
            if handle.service.loaded is not None and not said:
                said = True
                names = ", ".join(handle.service.loaded.answerers)
                write(f"ready: {handle.url} answers as {names}")
        write("ending: what is begun is finished")
        handle.close(float(arguments.grace))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return EXIT_OK


def _key(path: Path | None) -> str | None:
    """The key in a file. Raises UsageError."""
    if path is None:
        return None
    if fault := no_file(path):
        raise UsageError(f"--key-file {quoted(path)} {fault}: give a file with the key.")
    try:
        key = read_text(path).strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"--key-file {quoted(path)} cannot be read as text.") from error
    if len(key) < 16 or not key.isascii() or not key.isprintable():
        raise UsageError(
            f"--key-file {quoted(path)}: the key has 16 characters or more, all of ASCII."
        )
    return key
