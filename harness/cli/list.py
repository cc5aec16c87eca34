"""`harness list`: what is registered, and which runs there are."""

from __future__ import annotations

import argparse

from harness.cli.arguments import Parser, Verbs, add_place, add_registry
from harness.cli.output import print_text
from harness.errors import EXIT_OK
from harness.host.console import width

KINDS = ("models", "tasks", "recipes", "scorers", "runs")


def add(verbs: Verbs) -> Parser:
    parser = verbs.add_parser("list", help="what is registered, and which runs there are")
    parser.add_argument("kind", choices=KINDS)
    add_registry(parser)
    add_place(parser, "runs", "where runs are kept")
    return parser


def carry_out(arguments: argparse.Namespace, command: str) -> int:
    from harness.pipeline.inventory import listing

    print_text(f"{listing(arguments.kind, arguments.registry, arguments.runs, width())}\n")
    return EXIT_OK
