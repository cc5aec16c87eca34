"""`harness report`: joint tables of finished runs."""

from __future__ import annotations

import argparse

from harness.cli.arguments import Parser, Verbs, add_place, path_of
from harness.cli.output import print_published
from harness.errors import EXIT_OK


def add(verbs: Verbs) -> Parser:
    parser = verbs.add_parser(
        "report",
        help="joint tables of runs that are finished, from their folders alone",
        description="Write the tables of finished runs, of any commands, as one comparison. "
        "Nothing is run, and no model, data or registry is needed.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=path_of("folder"),
        metavar="RUN",
        help="a run's folder, as `list runs` says",
    )
    parser.add_argument(
        "--name", metavar="NAME", help="the tables' own folder in --results (default: report-…)"
    )
    add_place(parser, "results", "where the tables go")
    return parser


def carry_out(arguments: argparse.Namespace, command: str) -> int:
    from harness.host.progress import write
    from harness.pipeline.report import report

    reports, published = report(arguments.paths, arguments.results, arguments.name, command, write)
    print_published(reports, published)
    return EXIT_OK
