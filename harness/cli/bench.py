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
        help="time the whole job, or scorers, training, answers, losses, the server, beside other "
        "libraries",
    )
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="SUBJECT")

    def subject(name: str, what: str) -> Parser:
        """A subject, with the option that all have."""
        added: Parser = subjects.add_parser(name, help=what)
        added.add_argument(
            "--out",
            type=path_of("folder"),
            metavar="DIR",
            default=Path("results/bench"),
            help=f"where {name}.json goes (default: results/bench)",
        )
        return added

    score = _repeated(
        subject("score", "scorers and tables, beside rouge-score, sacrebleu and evaluate")
    )
    score.add_argument(
        "--pages",
        type=count(1),
        metavar="N",
        default=1000,
        help="answers to score, of two systems (1000)",
    )
    train = _anywhere(subject("train", "the training loop, beside TRL's"))
    train.add_argument("--against", choices=("trl",), help="measure this peer as well")
    train.add_argument(
        "--steps", type=count(3), metavar="N", help="steps of a run (24; on a CPU 12)"
    )
    train.add_argument(
        "--systems",
        nargs="+",
        metavar="PATTERN",
        default=["*"],
        help="only the rows of these names, such as harness 'trl-*'; the file's others stay",
    )
    generate = _anywhere(subject("generate", "answers, beside transformers' generate"))
    generate.add_argument(
        "--slots", nargs="+", type=count(1), metavar="N", help="prompts at a time, each measured"
    )
    generate.add_argument(
        "--new-tokens",
        dest="new",
        nargs=2,
        type=count(1),
        metavar=("LOW", "HIGH"),
        help="tokens of an answer, drawn evenly between these (64 192; on a CPU 40 120)",
    )
    _anywhere(subject("loss", "log-likelihoods of references, beside transformers' layers"))
    serve = _anywhere(subject("serve", "the server under clients, beside Flask and generate"))
    serve.add_argument(
        "--clients",
        nargs="+",
        type=count(1),
        metavar="N",
        help="at a time, each measured (1 8 64; on a CPU 1 8)",
    )
    serve.add_argument(
        "--length",
        type=count(256),
        metavar="N",
        default=2048,
        help="tokens of a prompt and its answer together that there is room for (2048)",
    )
    job = _of_models(subject("job", "`harness run` as a whole, beside TRL, generate and rouge"))
    job.add_argument(
        "--steps", type=count(3), metavar="N", help="of the training (default: the recipe's)"
    )
    job.add_argument(
        "--prompts", type=count(1), metavar="N", default=64, help="prompts answered (64)"
    )
    job.add_argument(
        "--precision",
        choices=("auto", "bf16", "fp16", "fp32"),
        default="auto",
        help="the type that products are computed in (auto)",
    )
    return parser


def _of_models(parser: Parser) -> Parser:
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="M",
        default=["gemma3-270m"],
        help="registered models (gemma3-270m)",
    )
    add_pairs(
        parser,
        "--weights",
        "MODEL=PATH",
        "real weights, for models that would need a download, or get random values",
    )
    return parser


def _anywhere(parser: Parser) -> Parser:
    """The options of benchmarks of models that take random values, too."""
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to try it anywhere")
    return _repeated(_of_models(parser))


def _repeated(parser: Parser) -> Parser:
    parser.add_argument(
        "--repeats", type=count(1), metavar="N", default=3, help="runs of each figure (3)"
    )
    return parser


def carry_out(arguments: argparse.Namespace, command: str) -> int:
    from harness.host.progress import write

    given = {k: v for k, v in vars(arguments).items() if k not in ("verb", "subject", "carry_out")}
    if "weights" in given:
        given["weights"] = pairs("--weights", arguments.weights)
    faults: list[str] = []
    if arguments.subject == "score":
        from harness.benchmarks.score import bench_score

        table = bench_score(**given, say=write)
    elif arguments.subject == "train":
        from harness.benchmarks.train import bench_train

        table, faults = bench_train(**given, command=command, say=write)
    elif arguments.subject == "generate":
        from harness.benchmarks.generate import bench_generate

        table = bench_generate(**given, command=command, say=write)
    elif arguments.subject == "loss":
        from harness.benchmarks.loss import bench_loss

        table = bench_loss(**given, command=command, say=write)
    elif arguments.subject == "serve":
        from harness.benchmarks.serve import bench_serve

        table = bench_serve(**given, command=command, say=write)
    else:
        from harness.benchmarks.job import bench_job

        table = bench_job(**given, command=command, say=write)
    print_filed(f"{table}\n", arguments.out)
    if faults:
        raise RunError(f"these figures are wrong: {'; '.join(faults)}.")
    return EXIT_OK
