"""The command line: verbs only. Parse, call one function, print. Imports nothing heavy."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness import __version__
from harness.errors import (
    EXIT_OK,
    HarnessError,
    Interrupted,
    RunError,
    StorageError,
    UsageError,
)
from harness.host.console import color, emit, width
from harness.host.paths import expanded

if TYPE_CHECKING:
    from harness.pipeline.publishing import Published
    from harness.reports import RunReport

QUANTIZATIONS = ("nf4", "int8", "none")
PRECISIONS = ("auto", "bf16", "fp16", "fp32")
SINKS = ("wandb", "tensorboard", "trackio")
KINDS = ("models", "tasks", "recipes", "scorers", "runs")
_LONGEST, _LONGEST_USAGE = 2_000, 300  # characters of a message, of one on the command line


class _Parser(argparse.ArgumentParser):
    """One sentence for a wrong command line, not the whole usage."""

    def error(self, message: str) -> NoReturn:
        told = _short(" ".join(message.split()), _LONGEST_USAGE)
        raise UsageError(f"{told}; see `{self.prog} --help`.")

    def _print_message(self, message: str, file: object = None) -> None:
        _print(message)  # help and version: the one place where text leaves


def run_cli(argv: Sequence[str]) -> int:
    """Carry out a command line; returns the exit status, having printed what there is to say."""
    command = shlex.join(["python", "-m", "harness", *argv])
    try:
        from harness.host.signals import handling

        with handling(command):
            return _dispatch(_parser().parse_args(argv), command)
    except HarnessError as error:
        from harness.host.progress import write

        for line in str(error).split("\n"):
            write(f"harness: {_short(line)}")
        return error.exit_status
    except Interrupted as error:
        from harness.host.progress import write

        write("harness: interrupted; what is done is kept. To continue:")
        write(command)
        return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="harness",
        description="Fine-tune adapters for open language models on HTML generation, and compare "
        "the tuned model with its base on prompts that neither has seen.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)

    run = verbs.add_parser(
        "run",
        help="fine-tune, generate, score, compare: the main job",
        description="Fine-tune an adapter for each model on each task, answer the held-out prompts "
        "with and without it, and write the comparison. The same command again does only what is "
        "missing.",
        allow_abbrev=False,
    )
    run.add_argument(
        "--models",
        nargs="+",
        metavar="M",
        default=["gemma3-270m"],
        help="registered models (default: gemma3-270m)",
    )
    run.add_argument(
        "--tasks",
        nargs="+",
        metavar="T",
        help="registered tasks (default: each model's own, html_blocks for gemma3-270m)",
    )
    run.add_argument(
        "--recipe",
        metavar="R",
        help="training recipe (default: each model's own, quick for gemma3-270m)",
    )
    run.add_argument(
        "--seeds",
        nargs="+",
        type=_count(0),
        metavar="N",
        default=[0],
        help="training seeds (default: 0)",
    )
    run.add_argument("--limit", type=_count(1), metavar="N", help="ask at most N held-out prompts")
    run.add_argument(
        "--max-steps", type=_count(1), metavar="N", help="optimiser steps, whatever the epochs"
    )
    run.add_argument("--epochs", type=_positive, metavar="X", help="passes over the training part")
    _add_pairs(
        run,
        "--data",
        "TASK=PATH",
        "read a task's rows from a folder, JSON, JSONL, CSV or Parquet file",
    )
    _add_pairs(run, "--weights", "MODEL=PATH", "load a model from a local folder")
    run.add_argument(
        "--quantization",
        choices=QUANTIZATIONS,
        help="how the frozen base is held (default: the recipe's)",
    )
    run.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="the type that products are computed in (default: the recipe's)",
    )
    run.add_argument(
        "--max-memory",
        type=_bytes,
        metavar="SIZE",
        help="plan training for a GPU of so much memory, as 16GiB (default: what this one has)",
    )
    run.add_argument(
        "--registry",
        type=_folder,
        metavar="DIR",
        help="your own models/, recipes/ and tasks/ beside the shipped ones",
    )
    _add_place(run, "runs", "where runs are kept")
    _add_place(run, "results", "where the tables go")
    run.add_argument(
        "--name",
        metavar="NAME",
        help="the tables' own folder in --results (default: made of what the command asks for)",
    )
    run.add_argument(
        "--report-to",
        nargs="+",
        choices=SINKS,
        metavar="SINK",
        default=[],
        help=f"show the steps of trainings there too: {', '.join(SINKS)}",
    )
    run.add_argument(
        "--verify",
        action="store_true",
        help="hash weights and data in the caches anew, and mend what is damaged",
    )
    run.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")

    _add_report(verbs)
    _add_scoring(verbs)

    bench = verbs.add_parser(
        "bench",
        help="time the scorers, or training, beside other libraries on the same work",
        allow_abbrev=False,
    )
    bench.add_argument("subject", choices=("score", "train"))
    bench.add_argument(
        "--models", nargs="+", metavar="M", default=["gemma3-270m"], help="train: registered models"
    )
    bench.add_argument("--against", choices=("trl",), help="train: measure this peer as well")
    _add_pairs(
        bench,
        "--weights",
        "MODEL=PATH",
        "train: real weights, instead of random values in the true shapes",
    )
    bench.add_argument(
        "--steps", type=_count(3), metavar="N", help="train: steps of a run (24; on a CPU 12)"
    )
    bench.add_argument(
        "--repeats", type=_count(1), metavar="N", default=3, help="runs of each figure (3)"
    )
    bench.add_argument(
        "--systems",
        nargs="+",
        metavar="PATTERN",
        default=["*"],
        help="train: only the rows of these names, such as harness 'trl-*'; the file's others stay",
    )
    bench.add_argument("--tiny", action="store_true", help="train: tiny shapes, to try it anywhere")
    bench.add_argument(
        "--pages",
        type=_count(1),
        metavar="N",
        default=1000,
        help="answers to score, of two arms (default: 1000)",
    )
    bench.add_argument(
        "--out",
        type=_folder,
        metavar="DIR",
        default=Path("results/bench"),
        help="where score.json or train.json goes (default: results/bench)",
    )

    listing = verbs.add_parser(
        "list", help="what is registered, and which runs there are", allow_abbrev=False
    )
    listing.add_argument("kind", choices=KINDS)
    listing.add_argument("--registry", type=_folder, metavar="DIR", help="your own registry folder")
    _add_place(listing, "runs", "where runs are kept")

    doctor = verbs.add_parser(
        "doctor", help="what this machine can run, and why not the rest", allow_abbrev=False
    )
    doctor.add_argument("--registry", type=_folder, metavar="DIR", help="your own registry folder")
    return parser


def _add_place(parser: argparse.ArgumentParser, name: str, what: str) -> None:
    """A folder of that name, which the working folder has unless another is given."""
    help_ = f"{what} (default: {name})"
    parser.add_argument(f"--{name}", type=_folder, metavar="DIR", default=Path(name), help=help_)


def _add_pairs(parser: argparse.ArgumentParser, option: str, metavar: str, what: str) -> None:
    """An option for any number of NAME=PATH."""
    parser.add_argument(
        option, nargs="+", action="extend", type=_pair, metavar=metavar, default=[], help=what
    )


def _add_report(verbs: argparse._SubParsersAction[_Parser]) -> None:
    report = verbs.add_parser(
        "report",
        help="joint tables of runs that are finished, from their folders alone",
        description="Write the tables of finished runs, of any commands, as one comparison. "
        "Nothing is run, and no model, data or registry is needed.",
        allow_abbrev=False,
    )
    report.add_argument(
        "paths", nargs="+", type=_folder, metavar="RUN", help="a run's folder, as `list runs` says"
    )
    report.add_argument(
        "--name", metavar="NAME", help="the tables' own folder in --results (default: report-…)"
    )
    _add_place(report, "results", "where the tables go")


def _add_scoring(verbs: argparse._SubParsersAction[_Parser]) -> None:
    """The verbs that need no model."""
    score = verbs.add_parser(
        "score",
        help="score any system's answers, or a run's again, without a model",
        description="Score the answers in a file (JSON lines with prediction, reference and, if "
        "you like, id, prompt, assertions, finish_reason, group), or those that a run's folder "
        "holds.",
        allow_abbrev=False,
    )
    score.add_argument("run", nargs="?", type=_folder, metavar="RUN", help="a run's folder")
    score.add_argument("--predictions", type=_file, metavar="FILE", help="a JSONL file of answers")
    _add_scorers(score, "results/scores/NAME")

    compare = verbs.add_parser(
        "compare",
        help="compare two systems on the same samples, B against A",
        description="Paired comparison of B against A; each is a JSONL file of predictions, or a "
        "run's folder: its tuned arm, or with :base, :reference or :nearest after it another "
        "system's answers. In the tables A is base and B is tuned.",
        allow_abbrev=False,
    )
    compare.add_argument("a", metavar="A", help="a file of predictions, or RUN[:SYSTEM]")
    compare.add_argument("b", metavar="B", help="the same, to compare against A")
    _add_scorers(compare, "results/compare/A-B")

    check = verbs.add_parser(
        "check",
        help="hold the scorers, or a run's table, to what is frozen in baselines/",
        description="Check golden cases and frozen scores; with --results and --baseline, a run's "
        "comparison.csv against a frozen one. Exit status 1 where something moved.",
        allow_abbrev=False,
    )
    check.add_argument("--update", action="store_true", help="freeze what there is now")
    check.add_argument("--results", type=_file, metavar="CSV", help="a run's comparison.csv")
    check.add_argument("--baseline", type=_file, metavar="CSV", help="the frozen one")


def _add_scorers(parser: argparse.ArgumentParser, place: str) -> None:
    parser.add_argument(
        "--scorers",
        nargs="+",
        metavar="S",
        help="scorers or metrics, as `list scorers` names them, or evaluate:PATH_OR_NAME (default: "
        "all; of a run, its task's)",
    )
    parser.add_argument(
        "--text",
        choices=("raw", "extracted"),
        help="score answers as they are, or without chat and fence (default: raw; of a run, as "
        "its task says)",
    )
    parser.add_argument(
        "--out", type=_folder, metavar="DIR", help=f"where the files go (default: {place})"
    )
    parser.add_argument(
        "--no-clusters",
        action="store_true",
        help="draw samples one by one, those of one group too",
    )


def _print(text: str) -> None:
    """Print what the command is for. Raises StorageError where standard output takes nothing."""
    if reason := emit(text):
        raise StorageError(f"standard output cannot be written to ({reason}); send it elsewhere.")


def _short(line: str, most: int = _LONGEST) -> str:
    """A line for people: names from a file or a command line can have any length."""
    return line if len(line) <= most else f"{line[:most]}…"


def _tell(text: str, where: object, *, bold: bool = False) -> None:
    """Print what stands in files too, `where`: they are there, whatever standard output takes."""
    if reason := emit(text, bold=bold):
        from harness.host.progress import write

        write(
            f"harness: standard output cannot be written to ({reason}); the work is done, "
            f"see {where}."
        )


def _dispatch(arguments: argparse.Namespace, command: str) -> int:
    if arguments.verb == "list":
        from harness.pipeline.inventory import listing

        _print(f"{listing(arguments.kind, arguments.registry, arguments.runs, width())}\n")
        return EXIT_OK
    if arguments.verb == "doctor":
        from harness.pipeline.inventory import doctor

        _print(f"{doctor(arguments.registry, width())}\n")
        return EXIT_OK
    from harness.host.temporary import sweep_temporary

    sweep_temporary()
    verbs = {
        "run": _run,
        "report": _report,
        "score": _score,
        "compare": _compare,
        "check": _check,
        "bench": _bench,
    }
    return verbs[arguments.verb](arguments, command)


def _score(arguments: argparse.Namespace, command: str) -> int:
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
    _tell(table.text(width()), table.folders[0])
    return EXIT_OK


def _compare(arguments: argparse.Namespace, command: str) -> int:
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
    _tell(
        f"{headline(report, width())}\n{comparison_terminal([report], width(), bold)}\n",
        folder / "comparison.md",
        bold=bold,
    )
    _tell(f"report: {folder / 'comparison.md'}\ntable: {folder / 'comparison.csv'}\n", folder)
    return EXIT_OK


def _bench(arguments: argparse.Namespace, command: str) -> int:
    from harness.host.progress import write

    if arguments.subject == "train":
        from harness.benchmarks.train import bench_train

        table, faults = bench_train(
            arguments.models,
            arguments.against,
            _pairs("--weights", arguments.weights),
            arguments.steps,
            arguments.tiny,
            arguments.out,
            command,
            write,
            arguments.repeats,
            arguments.systems,
        )
        _tell(f"{table}\n", arguments.out)
        if faults:
            raise RunError(f"these figures are wrong: {'; '.join(faults)}.")
        return EXIT_OK
    from harness.benchmarks.score import bench_score

    scored = bench_score(arguments.pages, arguments.out, write, arguments.repeats)
    _tell(f"{scored}\n", arguments.out)
    return EXIT_OK


def _check(arguments: argparse.Namespace, command: str) -> int:
    from harness.regression.check import check

    return check(
        update=arguments.update,
        results=arguments.results,
        baseline=arguments.baseline,
        say=lambda line: _print(f"{_short(' '.join(line.splitlines()))}\n"),
    )


def _run(arguments: argparse.Namespace, command: str) -> int:
    from harness.pipeline.plan import Options

    options = Options(
        models=tuple(arguments.models),
        tasks=None if arguments.tasks is None else tuple(arguments.tasks),
        recipe=arguments.recipe,
        seeds=tuple(arguments.seeds),
        limit=arguments.limit,
        max_steps=arguments.max_steps,
        epochs=arguments.epochs,
        quantization=arguments.quantization,
        precision=arguments.precision,
        data=_pairs("--data", arguments.data),
        weights=_pairs("--weights", arguments.weights),
        max_memory=arguments.max_memory,
        report_to=tuple(dict.fromkeys(arguments.report_to)),
        verify=arguments.verify,
        registry=arguments.registry,
        runs=arguments.runs,
        results=arguments.results,
        name=arguments.name,
    )
    if arguments.dry_run:
        from harness.pipeline.dry_run import dry_run

        _print(f"{dry_run(options)}\n")
        return EXIT_OK
    from harness.host.progress import write
    from harness.pipeline import run

    status, reports, published = run.run(options, command, write)
    _tell_published(reports, published)
    return status


def _tell_published(reports: Sequence[RunReport], published: Published) -> None:
    """The comparison, and where its files are."""
    from harness.reports import comparison_terminal

    bold = color()
    table = comparison_terminal(reports, width(), bold)
    _tell(f"{table}\n{published.text()}", published.folder / "comparison.md", bold=bold)


def _report(arguments: argparse.Namespace, command: str) -> int:
    from harness.host.progress import write
    from harness.pipeline.report import report

    reports, published = report(arguments.paths, arguments.results, arguments.name, command, write)
    _tell_published(reports, published)
    return EXIT_OK


def _count(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or value >= 2**31 or not text.isascii() or "_" in text:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return value

    return parse


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number over 0")
    return value


def _bytes(text: str) -> int:
    units = {"GiB": 2**30, "GB": 10**9, "MiB": 2**20, "MB": 10**6}
    number = text.strip()
    unit = next((u for u in units if number.endswith(u)), None)
    try:
        value = float(number.removesuffix(unit or "")) * units[unit or ""]
    except (ValueError, KeyError):
        value = 0.0
    if not 2**20 <= value < 2**50:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size of memory such as 16GiB")
    return int(value)


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("an empty path is no folder")
    return expanded(text)


def _file(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("an empty path is no file")
    return expanded(text)


def _pair(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, str(expanded(path))


def _pairs(option: str, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, path in pairs:
        if name in found:
            raise UsageError(f"{option} names {name} twice; name it once.")
        found[name] = path
    return found
