"""`run --dry-run`: what the command would do, said without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.config.schema import RecipeConfig
from harness.data.hub import snapshot
from harness.data.load import load
from harness.data.prompt import render
from harness.data.split import split
from harness.executors.job import Job
from harness.models.locate import is_converted
from harness.pipeline.naming import asked, name_of
from harness.pipeline.options import Options
from harness.pipeline.plan import plan_runs
from harness.pipeline.preflight import fetch, preflight
from harness.pipeline.publishing import refuse
from harness.pipeline.run import at_most
from harness.pipeline.selection import select
from harness.records import Example
from harness.runs.journal import Journal
from harness.runs.run import Run
from harness.runs.store import RunFolder
from harness.stages import stage_names
from harness.training.schedule import examples_per_step, steps_per_epoch, total_steps

CHARACTERS_A_TOKEN = 3.0
"""Rough, for HTML and the tokenizers at hand; the plan says "about"."""

ADAPTER_SHARE_OF_RANK_16 = 0.016
"""Adapter parameters over the model's, rank 16 on all linears: 0.6 % at 7 B, 1.4 % at 270 M."""


def dry_run(options: Options) -> str:
    """The plan as text. Raises what `run` would raise before any work; writes nothing.

    Of each stage it asks what the run itself asks: whether it is done and whole, and whether an
    earlier run has it; a run of this very command that comes before is taken as done.
    """
    selection = select(options)
    preflight(selection)
    name = name_of(options)
    lines: list[str] = []
    fetch(selection, lines.append, dry=True)
    jobs = [Job(run, options.runs) for run in plan_runs(selection)]
    refuse(options.results, name, asked(options), *at_most(options, jobs))
    earlier: set[tuple[str, ...]] = set()
    for number, job in enumerate(jobs, 1):
        run = job.run
        lines += [
            f"{number} of {len(jobs)}: {run.label}",
            *(f"  {line}" for line in _plan(job, earlier)),
        ]
        earlier.update((run.model.name, run.task.name, *each) for each in run.keys.items())
    lines.append(f"tables: {options.results / name}")
    return "\n".join(lines)


def _plan(job: Job, earlier: set[tuple[str, ...]]) -> list[str]:
    damage: list[str] = []
    run, folder = job.run, job.folder(damage.append)
    stages = _Stages.of(run, folder, earlier)
    place = [f"folder   {folder.path}", *(f"damaged  {line}" for line in damage)]
    if not (stages.taken or stages.made):
        return [*place, "cached   everything: the tables are written at once"]
    if run.task.data.hub is not None and run.data_path is None and snapshot(run.task) is None:
        return [*place, f"samples  unknown until {run.task.data.hub} is downloaded"]
    loaded = load(run.task, task_dir=run.task_dir, path=run.data_path)
    parts = split(loaded.examples, run.task.split, loaded.sides, name=run.task.name)
    asked = parts.test if run.limit is None else parts.test[: run.limit]
    recipe = run.recipe
    lengths = [_tokens(run, example) for example in parts.train]
    steps = total_steps(recipe, lengths)
    tokens = sum(lengths) * steps / steps_per_epoch(recipe, lengths)
    decoding = run.task.decoding
    answers = len(asked) * decoding.num_return_sequences * decoding.max_new_tokens
    adapter = run.model.parameters * ADAPTER_SHARE_OF_RANK_16 * recipe.lora.r / 16
    disk = adapter * (4 + 12 * recipe.save_total_limit)
    made = [f"{name}{_begun(run, folder, name, asked)}" for name in stages.made]
    return [
        *place,
        f"samples  {len(parts.train):,} to train on, {len(parts.validation):,} to validate, "
        f"{len(asked):,} of {len(parts.test):,} held out to answer",
        f"steps    {_steps(recipe, steps)}",
        f"tokens   about {tokens:,.0f} to train on, at most {answers:,} to generate by each system",
        f"disk     about {disk / 2**20:,.0f} MiB while it trains{_weights(run)}",
        f"cached   {', '.join(stages.cached) or 'nothing'}",
        *([f"taken    {', '.join(stages.taken)}: from an earlier run"] if stages.taken else []),
        *([f"to do    {', '.join(made)}"] if made else []),
    ]


@dataclass(frozen=True, slots=True)
class _Stages:
    """A run's stages by what the run will do: nothing, take over what another made, or work."""

    cached: list[str]
    taken: list[str]
    made: list[str]

    @classmethod
    def of(cls, run: Run, folder: RunFolder, earlier: set[tuple[str, ...]]) -> _Stages:
        found = cls([], [], [])
        for name in stage_names(tuple(run.adapters)):
            key = run.keys[name]
            if folder.is_done(name, key):
                found.cached.append(name)
            elif (run.model.name, run.task.name, name, key) in earlier or any(
                True for _ in folder.elsewhere(name, key)
            ):
                found.taken.append(name)
            else:
                found.made.append(name)
        return found


def _begun(run: Run, folder: RunFolder, name: str, asked: Sequence[Example]) -> str:
    """How much of a stage an interrupted run left behind, in brackets, or nothing."""
    scratch = folder.scratch(name, run.keys[name])
    if name == "train":
        # Whether a checkpoint is whole is seen when it is loaded.
        steps = [int(f.stem.removeprefix("step-")) for f in scratch.glob("checkpoints/step-*.pt")]
        return f" (goes on from step {max(steps)})" if steps else ""
    known = {example.id for example in asked}
    rows = Journal(scratch / "records.jsonl").read()
    done = len({row["record"]["id"] for row in rows} & known)
    return f" ({done} of {len(asked)} are there)" if done else ""


def _tokens(run: Run, example: Example) -> int:
    text = len(render(run.task.template, example.prompt)) + len(example.target)
    return min(run.recipe.max_length, max(1, round(text / CHARACTERS_A_TOKEN)))


def _steps(recipe: RecipeConfig, steps: int) -> str:
    """Rows are counted on estimated lengths, so their number is "about"."""
    if recipe.packing:
        rows = f"{examples_per_step(recipe)} rows of at most {recipe.max_length:,} tokens"
        return f"about {steps:,} of {rows}"
    return f"{steps:,} of {examples_per_step(recipe)} examples"


def _weights(run: Run) -> str:
    source = run.model.source
    if source.kind == "gguf-package" and not is_converted(source):
        return (
            f"; {2 * run.model.parameters / 2**30:.1f} GiB in the cache for the converted weights"
        )
    return ""
