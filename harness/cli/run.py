"""`harness run`: the main job."""

from __future__ import annotations

import argparse

from harness.cli.arguments import (
    Parser,
    Verbs,
    add_pairs,
    add_place,
    add_registry,
    count,
    memory,
    pairs,
    positive,
)
from harness.cli.output import print_published, print_text
from harness.errors import EXIT_OK

QUANTIZATIONS = ("nf4", "int8", "none")
PRECISIONS = ("auto", "bf16", "fp16", "fp32")
SINKS = ("wandb", "tensorboard", "trackio")


def add(verbs: Verbs) -> Parser:
    parser = verbs.add_parser(
        "run",
        help="fine-tune, generate, score, compare: the main job",
        description="Fine-tune an adapter for each model on each task, answer the held-out prompts "
        "with and without it, and write the comparison. The same command again does only what is "
        "missing.",
    )
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="M",
        default=["gemma3-270m"],
        help="registered models (default: gemma3-270m)",
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="T",
        help="registered tasks (default: each model's own, html_blocks for gemma3-270m)",
    )
    parser.add_argument(
        "--recipe",
        metavar="R",
        help="training recipe (default: each model's own, small for gemma3-270m)",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=count(0),
        metavar="N",
        default=[0],
        help="training seeds (default: 0)",
    )
    parser.add_argument(
        "--limit", type=count(1), metavar="N", help="ask at most N held-out prompts"
    )
    parser.add_argument(
        "--max-steps", type=count(1), metavar="N", help="optimiser steps, whatever the epochs"
    )
    parser.add_argument(
        "--epochs", type=positive, metavar="X", help="passes over the training part"
    )
    add_pairs(
        parser,
        "--data",
        "TASK=PATH",
        "read a task's rows from a folder, JSON, JSONL, CSV or Parquet file",
    )
    add_pairs(parser, "--weights", "MODEL=PATH", "load a model from a local folder")
    add_pairs(
        parser,
        "--adapters",
        "NAME=DIR",
        "let other LoRA adapters of the model answer as well, each from a folder of PEFT's or a "
        "run's; they are in systems.csv",
    )
    parser.add_argument(
        "--quantization",
        choices=QUANTIZATIONS,
        help="how the frozen base is held (default: the recipe's)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="the type that products are computed in (default: the recipe's)",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        type=_assignment,
        metavar="FIELD=VALUE",
        default=[],
        help="fields of the recipes and tasks (harness/config/schema.py), such as lora.r=8 "
        "learning_rate=3e-4 decoding.max_new_tokens=64; values as in TOML, a bare word is text; "
        "a field that both have is recipe.FIELD or task.FIELD",
    )
    parser.add_argument(
        "--max-memory",
        type=memory,
        metavar="SIZE",
        help="plan training for a GPU of so much memory, as 16GiB (default: what this one has)",
    )
    add_registry(parser, "your own models/, recipes/ and tasks/ beside the shipped ones")
    add_place(parser, "runs", "where runs are kept")
    add_place(parser, "results", "where the tables go")
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="the tables' own folder in --results (default: made of what the command asks for)",
    )
    parser.add_argument(
        "--report-to",
        nargs="+",
        choices=SINKS,
        metavar="SINK",
        default=[],
        help=f"show the steps of trainings there too: {', '.join(SINKS)}",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="hash weights and data in the caches anew, and mend what is damaged",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")
    return parser


def _assignment(text: str) -> str:
    field, _, value = text.partition("=")
    if not (field.strip() and value.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    return text


def carry_out(arguments: argparse.Namespace, command: str) -> int:
    from harness.config.overrides import parse
    from harness.pipeline.options import Options

    options = Options(
        models=tuple(arguments.models),
        tasks=None if arguments.tasks is None else tuple(arguments.tasks),
        recipe=arguments.recipe,
        seeds=tuple(arguments.seeds),
        limit=arguments.limit,
        overrides=parse(
            arguments.set,
            {
                "recipe.max_steps": ("--max-steps", arguments.max_steps),
                "recipe.num_train_epochs": ("--epochs", arguments.epochs),
                "recipe.quantization": ("--quantization", arguments.quantization),
                "recipe.precision": ("--precision", arguments.precision),
            },
        ),
        data=pairs("--data", arguments.data),
        weights=pairs("--weights", arguments.weights),
        adapters=pairs("--adapters", arguments.adapters),
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

        print_text(f"{dry_run(options)}\n")
        return EXIT_OK
    from harness.host.progress import write
    from harness.pipeline import run

    status, reports, published = run.run(options, command, write)
    print_published(reports, published)
    return status
