"""prepare: rows into examples, examples into train, validation and test; contamination measured."""

from __future__ import annotations

from harness.stages.context import Context, stopwatch, write_jsonl


def prepare(context: Context) -> None:
    """Write data/{train,validation,test}.jsonl. Raises DataError or MissingError."""
    from harness.data.load import load
    from harness.data.split import contamination, split

    run = context.run
    with stopwatch() as seconds:
        loaded = load(run.task, task_dir=run.task_dir, path=run.data_path)
        parts = split(loaded.examples, run.task.split, loaded.sides, name=run.task.name)
        near = contamination(
            parts.train,
            parts.test,
            target_jaccard=run.task.split.target_jaccard,
            prompt_jaccard=run.task.split.prompt_jaccard,
        )
        groups = {example.group for example in (*parts.train, *parts.validation, *parts.test)}
        facts = {
            "source": loaded.source,
            "digest": loaded.digest,
            "rows": len(loaded.examples),
            "groups": len(groups) if run.task.split.method == "groups" else None,
            "skipped": loaded.skipped,
            "repaired": loaded.repaired,
            "train": len(parts.train),
            "validation": len(parts.validation),
            "test": len(parts.test),
            "contamination": near.to_json(),
        }
        parts_by_name = {"train": parts.train, "validation": parts.validation, "test": parts.test}
        files = [
            write_jsonl(context.path("data", f"{part}.jsonl"), (e.to_json() for e in examples))
            for part, examples in parts_by_name.items()
        ]
        for what, count in {**loaded.skipped, **loaded.repaired}.items():
            context.say(f"{run.task.name}: {count} × {what}")
        context.say(
            f"{run.task.name}: {len(parts.train)} to train on, {len(parts.validation)} to validate "
            f"on, {len(parts.test)} held out; of these {near.near_target} have a near copy of "
            f"their answer in training, {near.near_prompt} of their prompt"
        )
        context.publish("prepare", files, facts, seconds())
