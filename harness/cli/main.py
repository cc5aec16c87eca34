"""The command line: each verb parses, calls one function and prints. Imports nothing heavy."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from harness import __version__
from harness.cli import bench, check, compare, doctor, generate, query, report, run, score, serve
from harness.cli import list as list_
from harness.cli.arguments import Parser
from harness.cli.output import short
from harness.errors import HarnessError, Interrupted

VERBS = (run, serve, query, generate, report, score, compare, check, bench, list_, doctor)
"""Each has `add`, for its options, and `carry_out`, which returns the exit status."""

_READ_ONLY = ("list", "doctor")


def run_cli(argv: Sequence[str]) -> int:
    """Carry out a command line; returns the exit status, having printed what there is to say."""
    command = shlex.join(["python", "-m", "harness", *argv])
    try:
        from harness.host.signals import handling

        with handling(command):
            arguments = _parser().parse_args(argv)
            if arguments.verb not in _READ_ONLY:
                from harness.host.temporary import sweep_temporary

                sweep_temporary()
            status: int = arguments.carry_out(arguments, command)
            return status
    except HarnessError as error:
        from harness.host.progress import write

        for line in str(error).split("\n"):
            write(f"harness: {short(line)}")
        return error.exit_status
    except Interrupted as error:
        from harness.host.progress import write

        write("harness: interrupted; what is done is kept. To continue:")
        write(command)
        return error.exit_status


def _parser() -> Parser:
    parser = Parser(
        prog="harness",
        description="Fine-tune adapters for open language models on HTML generation, and compare "
        "the tuned model with its base on prompts that neither has seen.",
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    for verb in VERBS:
        verb.add(verbs).set_defaults(carry_out=verb.carry_out)
    return parser
