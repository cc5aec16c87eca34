"""`harness bench`: the time of scorers, of training or of answers, beside other libraries."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.arguments import Parser, Verbs, add_pairs, count, pairs, path_of
from harness.cli.output import print_filed
from harness.errors import EXIT_OK, RunError


def add(verbs: Verbs) -> Parser:
    parser = verbs.add_parser(
        "bench",
        help="time the scorers, training or answers beside other libraries on the same work",
    )
    parser.add_argument("subject", choices=("score", "train", "generate"))
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="M",
        default=["gemma3-270m"],
        help="train, generate: registered models",
    )
    parser.add_argument("--against", choices=("trl",), help="train: measure this peer as well")
    add_pairs(
        parser,
        "--weights",
        "MODEL=PATH",
        "train, generate: real weights, instead of random values in the true shapes",
    )
    parser.add_argument(
        "--steps", type=count(3), metavar="N", help="train: steps of a run (24; on a CPU 12)"
    )
    parser.add_argument(
        "--slots", nargs="+", type=count(1), metavar="N", help="generate: prompts at a time"
    )
    parser.add_argument(
        "--repeats", type=count(1), metavar="N", default=3, help="runs of each figure (3)"
    )
    parser.add_argument(
        "--systems",
        nargs="+",
        metavar="PATTERN",
        default=["*"],
        help="train: only the rows of these names, such as harness 'trl-*'; the file's others stay",
    )
    parser.add_argument(
        "--tiny", action="store_true", help="train, generate: tiny shapes, to try it anywhere"
    )
    parser.add_argument(
        "--pages",
        type=count(1),
        metavar="N",
        default=1000,
        help="answers to score, of two systems (default: 1000)",
    )
    parser.add_argument(
        "--out",
        type=path_of("folder"),
        metavar="DIR",
        default=Path("results/bench"),
        help="where score.json, train.json or generate.json goes (default: results/bench)",
    )
    return parser


def carry_out(arguments: argparse.Namespace, command: str) -> int:
    from harness.host.progress import write

    if arguments.subject == "score":
        from harness.benchmarks.score import bench_score

        table = bench_score(arguments.pages, arguments.out, write, arguments.repeats)
        print_filed(f"{table}\n", arguments.out)
        return EXIT_OK
    if arguments.subject == "generate":
        from harness.benchmarks.generate import bench_generate

        table = bench_generate(
            arguments.models,
            pairs("--weights", arguments.weights),
            arguments.slots,
            arguments.tiny,
            arguments.out,
            command,
            write,
            arguments.repeats,
        )
        print_filed(f"{table}\n", arguments.out)
        return EXIT_OK
    from harness.benchmarks.train import bench_train

    table, faults = bench_train(
        arguments.models,
        arguments.against,
        pairs("--weights", arguments.weights),
        arguments.steps,
        arguments.tiny,
        arguments.out,
        command,
        write,
        arguments.repeats,
        arguments.systems,
    )
    print_filed(f"{table}\n", arguments.out)
    if faults:
        raise RunError(f"these figures are wrong: {'; '.join(faults)}.")
    return EXIT_OK
