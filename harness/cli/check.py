"""`harness check`: the scorers, or a run's table, beside what is frozen."""

from __future__ import annotations

import argparse

from harness.cli.arguments import Parser, Verbs, path_of
from harness.cli.output import print_text, short


def add(verbs: Verbs) -> Parser:
    parser = verbs.add_parser(
        "check",
        help="hold the scorers, or a run's table, to what is frozen in baselines/",
        description="Check golden cases and frozen scores; with --results and --baseline, a run's "
        "comparison.csv against a frozen one. Exit status 1 where something moved.",
    )
    file = path_of("file")
    parser.add_argument("--update", action="store_true", help="freeze what there is now")
    parser.add_argument("--results", type=file, metavar="CSV", help="a run's comparison.csv")
    parser.add_argument("--baseline", type=file, metavar="CSV", help="the frozen one")
    return parser


def carry_out(arguments: argparse.Namespace, command: str) -> int:
    from harness.regression.check import check

    return check(
        update=arguments.update,
        results=arguments.results,
        baseline=arguments.baseline,
        say=lambda line: print_text(f"{short(' '.join(line.splitlines()))}\n"),
    )
