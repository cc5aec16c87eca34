"""`harness bench`: the time of the whole job or of a part of it, beside other libraries."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.arguments import Parser, Verbs, add_pairs, count, pairs, path_of
from harness.cli.output import print_filed
from harness.errors import EXIT_OK, RunError


def add(verbs: Verbs) -> Parser:
    parser = verbs.add_parser(
        "bench",
        help="time the whole job, or scorers, training, answers, losses, beside other libraries",
    )
    parser.add_argument("subject", choices=("score", "train", "generate", "loss", "job"))
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="M",
        default=["gemma3-270m"],
        help="registered models (not for score)",
    )
    parser.add_argument("--against", choices=("trl",), help="train: measure this peer as well")
    add_pairs(
        parser,
        "--weights",
        "MODEL=PATH",
        "real weights (but for job: instead of random values in the true shapes)",
    )
    parser.add_argument(
        "--steps",
        type=count(3),
        metavar="N",
        help="train: steps of a run (24; on a CPU 12); job: of its training (the recipe's)",
    )
    parser.add_argument(
        "--slots", nargs="+", type=count(1), metavar="N", help="generate: prompts at a time"
    )
    parser.add_argument(
        "--new-tokens",
        nargs=2,
        type=count(1),
        metavar=("LOW", "HIGH"),
        help="generate: tokens of an answer, drawn evenly between these (64 192; on a CPU 40 120)",
    )
    parser.add_argument(
        "--prompts", type=count(1), metavar="N", default=64, help="job: prompts answered (64)"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "bf16", "fp16", "fp32"),
        default="auto",
        help="job: the type that products are computed in (auto)",
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
        "--tiny", action="store_true", help="train, generate, loss: tiny shapes, to try it anywhere"
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
        help="where SUBJECT.json goes (default: results/bench)",
    )
    return parser


def carry_out(arguments: argparse.Namespace, command: str) -> int:
    from harness.host.progress import write

    weights = pairs("--weights", arguments.weights)
    if arguments.subject == "score":
        from harness.benchmarks.score import bench_score

        table = bench_score(arguments.pages, arguments.out, write, arguments.repeats)
    elif arguments.subject == "generate":
        from harness.benchmarks.generate import bench_generate

        table = bench_generate(
            arguments.models,
            weights,
            arguments.slots,
            arguments.new_tokens,
            arguments.tiny,
            arguments.out,
            command,
            write,
            arguments.repeats,
        )
    elif arguments.subject == "loss":
        from harness.benchmarks.loss import bench_loss

        table = bench_loss(
            arguments.models,
            weights,
            arguments.tiny,
            arguments.out,
            command,
            write,
            arguments.repeats,
        )
    elif arguments.subject == "job":
        from harness.benchmarks.job import bench_job

        table = bench_job(
            arguments.models,
            weights,
            arguments.steps,
            arguments.prompts,
            arguments.precision,
            arguments.out,
            command,
            write,
        )
    else:
        return _train(arguments, weights, command)
    print_filed(f"{table}\n", arguments.out)
    return EXIT_OK


def _train(arguments: argparse.Namespace, weights: dict[str, str], command: str) -> int:
    from harness.benchmarks.train import bench_train
    from harness.host.progress import write

    table, faults = bench_train(
        arguments.models,
        arguments.against,
        weights,
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
