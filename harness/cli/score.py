"""`harness score`: the answers of a file or a run, without a model."""

from __future__ import annotations

import argparse

from harness.cli.arguments import Parser, Verbs, add_scorers, path_of
from harness.cli.output import print_filed
from harness.errors import EXIT_OK, UsageError
from harness.host.console import width


def add(verbs: Verbs) -> Parser:
    parser = verbs.add_parser(
        "score",
        help="score any system's answers, or a run's again, without a model",
        description="Score the answers in a file (JSON lines with prediction, reference and, if "
        "you like, id, prompt, assertions, finish_reason, group), or those that a run's folder "
        "holds.",
    )
    parser.add_argument(
        "run", nargs="?", type=path_of("folder"), metavar="RUN", help="a run's folder"
    )
    parser.add_argument(
        "--predictions", type=path_of("file"), metavar="FILE", help="a JSONL file of answers"
    )
    add_scorers(parser, "results/scores/NAME")
    return parser


def carry_out(arguments: argparse.Namespace, command: str) -> int:
    if (arguments.run is None) == (arguments.predictions is None):
        raise UsageError(
            "give either a run's folder or --predictions FILE, not "
            f"{'both' if arguments.run is not None else 'neither'}; see `harness score --help`."
        )
    from harness.pipeline.score import score_predictions, score_run

    work = score_run if arguments.predictions is None else score_predictions
    table = work(
        arguments.predictions or arguments.run,
        arguments.scorers,
        arguments.text,
        arguments.out,
        by_group=not arguments.no_clusters,
    )
    print_filed(table.text(width()), table.folders[0])
    return EXIT_OK
