"""prepare: rows into examples, examples into train, validation and test; contamination measured."""

from __future__ import annotations

from typing import Any

from harness.data.identity import identity
from harness.host.files import write_jsonl
from harness.host.progress import Progress
from harness.runs.context import Context, stopwatch
from harness.runs.run import Run
from harness.runs.stage import Stage


def prepare(context: Context) -> None:
    """Write data/{train,validation,test}.jsonl. Raises DataError or MissingError."""
    from harness.data.load import load
    from harness.data.split import contamination, split, split_notes

    run = context.run
    config = run.task.split
    with stopwatch() as seconds:
        with Progress("read", None, "rows") as bar:
            loaded = load(run.task, task_dir=run.task_dir, path=run.data_path, advance=bar.advance)
        texts = 4 * len(loaded.examples)  # prompts and targets, taken apart and compared
        with Progress("split", texts if config.method == "groups" else 0, "texts") as bar:
            parts = split(
                loaded.examples, config, loaded.sides, name=run.task.name, advance=bar.advance
            )
        notes = split_notes(parts, config)
        with Progress("contamination", 4 * (len(parts.train) + len(parts.test)), "texts") as bar:
            near = contamination(
                parts.train,
                parts.test,
                target_jaccard=config.target_jaccard,
                prompt_jaccard=config.prompt_jaccard,
                advance=bar.advance,
            )
        groups = {example.group for example in (*parts.train, *parts.validation, *parts.test)}
        facts = {
            "source": loaded.source,
            "digest": loaded.digest,
            "rows": len(loaded.examples),
            "groups": len(groups) if config.method == "groups" else None,
            "skipped": loaded.skipped,
            "repaired": loaded.repaired,
            "train": len(parts.train),
            "validation": len(parts.validation),
            "test": len(parts.test),
            "contamination": near.to_json(),
            "notes": notes,
        }
        parts_by_name = {"train": parts.train, "validation": parts.validation, "test": parts.test}
        files = [
            write_jsonl(context.view.files.examples(part), (e.to_json() for e in examples))
            for part, examples in parts_by_name.items()
        ]
        for what, count in {**loaded.skipped, **loaded.repaired}.items():
            context.say(f"{run.task.name}: {count} × {what}")
        context.say(
            f"{run.task.name}: {len(parts.train)} to train on, {len(parts.validation)} to validate "
            f"on, {len(parts.test)} held out; of these {near.near_target} have a near copy of "
            f"their answer in training, {near.near_prompt} of their prompt"
        )
        for note in notes:
            context.say(f"{run.task.name}: {note}")
        context.publish("prepare", files, facts, seconds())


def _inputs(run: Run) -> dict[str, Any]:
    task = run.task
    return {
        "source": identity(task, run.task_dir, run.data_path),
        "data": task.data.model_dump(),
        "columns": task.columns.model_dump() if task.columns else None,
        "split": task.split.model_dump(),
    }


STAGE = Stage("prepare", prepare, code=lambda run: [__name__], inputs=_inputs)
