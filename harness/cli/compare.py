"""`harness compare`: two systems on the same samples."""

from __future__ import annotations

import argparse

from harness.cli.arguments import Parser, Verbs, add_scorers
from harness.cli.output import print_filed
from harness.errors import EXIT_OK
from harness.host.console import color, width


def add(verbs: Verbs) -> Parser:
    parser = verbs.add_parser(
        "compare",
        help="compare two systems on the same samples, B against A",
        description="Paired comparison of B against A; each is a JSONL file of predictions, or a "
        "run's folder: its tuned system, or with :base, :reference or :nearest after it another "
        "system's answers. In the tables A is base and B is tuned.",
    )
    parser.add_argument("a", metavar="A", help="a file of predictions, or RUN[:SYSTEM]")
    parser.add_argument("b", metavar="B", help="the same, to compare against A")
    add_scorers(parser, "results/compare/A-B")
    return parser


def carry_out(arguments: argparse.Namespace, command: str) -> int:
    from harness.pipeline.compare import compare, headline
    from harness.reports import comparison_terminal

    report, folder = compare(
        arguments.a,
        arguments.b,
        arguments.scorers,
        arguments.text,
        arguments.out,
        command=command,
        by_group=not arguments.no_clusters,
    )
    bold = color()
    table = f"{headline(report, width())}\n{comparison_terminal([report], width(), bold)}\n"
    print_filed(table, folder / "comparison.md", bold=bold)
    files = f"report: {folder / 'comparison.md'}\ntable: {folder / 'comparison.csv'}\n"
    print_filed(files, folder)
    return EXIT_OK
