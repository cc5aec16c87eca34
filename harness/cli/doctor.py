"""`harness doctor`: what this machine can run, and why not the rest."""

from __future__ import annotations

import argparse

from harness.cli.arguments import Parser, Verbs, add_registry
from harness.cli.output import print_text
from harness.errors import EXIT_OK
from harness.host.console import width


def add(verbs: Verbs) -> Parser:
    parser = verbs.add_parser("doctor", help="what this machine can run, and why not the rest")
    add_registry(parser)
    return parser


def carry_out(arguments: argparse.Namespace, command: str) -> int:
    from harness.pipeline.inventory import doctor

    print_text(f"{doctor(arguments.registry, width())}\n")
    return EXIT_OK
