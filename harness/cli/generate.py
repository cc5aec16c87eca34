"""`harness generate`: one prompt answered on the terminal by a run's model."""

from __future__ import annotations

import argparse
from typing import Any

from harness.cli.arguments import Parser, Verbs, count
from harness.cli.output import print_text
from harness.errors import EXIT_OK, RunError, UsageError
from harness.host.paths import expanded


def add(verbs: Verbs) -> Parser:
    parser = verbs.add_parser(
        "generate",
        help="answer one prompt on the terminal with a run's model",
        description="Answer one prompt, in the task's template, with a run's adapter or its base.",
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("prompt", metavar="PROMPT")
    parser.add_argument(
        "--system",
        choices=("tuned", "base", "both"),
        default="tuned",
        help="who answers (tuned); both: side by side",
    )
    parser.add_argument(
        "--max-new-tokens", type=count(1), metavar="N", help="tokens at most (the task's)"
    )
    return parser


def carry_out(arguments: argparse.Namespace, command: str) -> int:
    from harness.host.progress import write
    from harness.serving.loading import load_runs
    from harness.serving.problems import Problem
    from harness.serving.service import Ask, Service
    from harness.serving.worker import Worker

    loaded = load_runs([expanded(arguments.run)], write)
    worker = Worker(loaded.engine, 2, write)
    service = Service(3600.0, loaded, worker)
    worker.start()
    names = ("base", "tuned") if arguments.system == "both" else (arguments.system,)
    try:
        going = [
            service.begin(Ask(arguments.prompt, name, max_new_tokens=arguments.max_new_tokens))
            for name in names
        ]
        answers = [service.finish(each) for each in going]
    except Problem as error:
        kind = UsageError if error.status < 500 else RunError
        raise kind(error.message) from error
    finally:
        worker.close(0)
    if len(answers) == 1:
        print_text(f"{answers[0]['html']}\n")
    else:
        print_text(_side_by_side(answers))
    for answer in answers:
        write(_measured(answer))
    return EXIT_OK


def _measured(answer: dict[str, Any]) -> str:
    errors = len(answer["validity"]["errors"])
    return (
        f"{answer['system']}: {answer['new_tokens']} tokens in {answer['seconds']:.1f} s, ended by "
        f"{answer['finish_reason']}, {errors} parse errors"
    )


def _side_by_side(answers: list[dict[str, Any]], width: int = 98) -> str:
    """The sources in columns."""
    each = width // len(answers) - 2
    columns = [[answer["system"], "─" * each, *_lines(answer["html"], each)] for answer in answers]
    height = max(map(len, columns))
    padded = [column + [""] * (height - len(column)) for column in columns]
    rows = zip(*padded, strict=True)
    return "".join("  ".join(c.ljust(each) for c in row).rstrip() + "\n" for row in rows)


def _lines(text: str, width: int) -> list[str]:
    found: list[str] = []
    for line in text.expandtabs(2).splitlines():
        found += [line[at : at + width] for at in range(0, len(line), width)] or [""]
    return found
