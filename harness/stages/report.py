"""A finished (or failed) run as what the tables print of it."""

from __future__ import annotations

from typing import Any

from harness.data.tokens import spelling
from harness.reports import ComparisonRow, Curves, KindRow, RunReport
from harness.runs.store import RunFolder
from harness.runs.view import RunView


def run_report(folder: RunFolder, status: str, error: str | None) -> RunReport:
    """What to print of a run, from its folder alone; of one that is not done, its error only."""
    view = RunView(folder)
    said: dict[str, Any] = {}
    if status == "done":
        said = {
            "rows": [ComparisonRow.from_json(row) for row in view.comparison()],
            "kinds": [KindRow.from_json(row) for row in view.kinds()],
            "caveats": _caveats(view),
            "facts": _facts(view),
            "measured": _measured(view),
            "training": _curves(view),
            "curves": _picture(view),
        }
    return RunReport(
        model=folder.model,
        task=folder.task,
        recipe=folder.recipe,
        seed=folder.seed,
        run=folder.path.name,
        status="done" if status == "done" else "diverged" if status == "diverged" else "failed",
        error=error,
        **said,
    )


def _facts(view: RunView) -> list[tuple[str, str]]:
    identity = view.folder.identity
    data, fit = view.facts("prepare"), view.facts("train")
    near = data["contamination"]
    libraries = identity["weights"]["libraries"]
    measured, answered = view.facts("likelihood-base"), view.facts("generate-base")
    facts = [
        ("weights", ", ".join(f"{k} {v[:12]}" for k, v in identity["weights"]["identity"].items())),
        ("data", f"{data['source']}, {data['rows']:,} rows, sha256 {data['digest'][:12]}"),
        (
            "split",
            f"{data['train']:,} to train on, {data['validation']:,} to validate, "
            f"{data['test']:,} held out, of which {answered['asked']:,} were asked"
            + (f"; {data['groups']:,} groups of near-duplicates" if data["groups"] else ""),
        ),
        (
            "contamination",
            f"held-out rows with a training row of the same prompt: {near['same_prompt']}, the "
            f"same answer: {near['same_target']}, a near prompt: {near['near_prompt']}, a near "
            f"answer: {near['near_target']}",
        ),
    ]
    if notes := data.get("notes"):
        facts.append(("split notes", " ".join(notes)))
    if skipped := {**data["skipped"], **data["repaired"]}:
        facts.append(("data faults", ", ".join(f"{n} × {what}" for what, n in skipped.items())))
    if fit.get("trained", True):
        base, live = fit["base"], fit["adapter"]
        quantized = (
            f", {base['quantized_linears']} linears in {base['quantization']}: "
            f"{base['quantized_share']:.1%} of {base['parameters']:,} weights"
        )
        facts += [
            (
                "base",
                f"{base['dtype']} on {base['device']}"
                + (quantized if base["quantization"] != "none" else ", not quantised")
                + (", attention written out" if base["attention"] == "eager" else "")
                + ("" if base["documents_share_rows"] else ", one document a row"),
            ),
            (
                "training",
                f"{fit['steps']:,} steps, {fit['examples']:,} examples "
                f"({fit['epochs']:.2f} epochs), {fit['tokens']:,} tokens, "
                f"{fit['scored_tokens']:,} of them scored"
                + (f"; {fit['cut']} answers cut" if fit["cut"] else "")
                + (f"; {fit['unlabelled']} examples left out" if fit["unlabelled"] else ""),
            ),
            (
                "adapter",
                f"rank {identity['recipe']['lora']['r']} on {live['modules']} linears, which hold "
                f"{live['share']:.1%} of the base's weights; "
                f"{fit['trainable_parameters']:,} parameters, live",
            ),
        ]
    else:
        facts.append(("training", "none: there are no weights to train"))
    facts += [
        ("decoding", _decoding(identity["task"]["decoding"], fit, answered)),
        (
            "references",
            f"{measured['tokens']:,} tokens of {measured['records']:,} scored for the losses"
            + _unscored(measured)
            + (f"; {measured['cut']:,} cut at the recipe's length" if measured["cut"] else ""),
        ),
        ("statistics", _statistics(view.facts("compare"))),
        ("libraries", ", ".join(f"{name} {version}" for name, version in libraries.items())),
        ("commit", view.folder.manifest["facts"].get("commit", "unknown")),
    ]
    return facts


def _statistics(compared: dict[str, Any]) -> str:
    units, prompts = compared["units"], compared["prompts"]
    clusters = f", prompts drawn in {units:,} groups of near-duplicates" if units < prompts else ""
    return f"{compared['resamples']:,} resamples, seed {compared['seed']}{clusters}"


def _unscored(measured: dict[str, Any]) -> str:
    left = measured["asked"] - measured["records"]
    return f"; {left:,} have no token within the context and are unscored" if left else ""


def _caveats(view: RunView) -> list[str]:
    """What makes the numbers other than a reader would take them for."""
    measured, answered = view.facts("likelihood-base"), view.facts("generate-base")
    said = []
    if cut := answered["cut"]:
        said.append(
            f"{cut:,} of {answered['asked']:,} prompts lost their beginning to the context."
        )
    if lost := view.facts("score")["unwritable"]:
        said.append(
            f"The tokenizer cannot write {lost:,} of {answered['asked']:,} references as they "
            "are; the ceiling is what it can write."
        )
    fit = view.facts("train")
    size = fit.get("bytes_per_token")
    if size is not None and (spelt := spelling(size, fit["vocabulary"])):
        said.append(f"{spelt[0].upper()}{spelt[1:]}.")
    if not measured["records"] and not view.facts("train").get("trained", True):
        said.append("What answers gives no log-likelihoods, so the losses are unscored.")
    elif not measured["records"]:
        said.append("No reference has a token within the context, so the losses are unscored.")
    return said


def _decoding(decoding: dict[str, Any], fit: dict[str, Any], answered: dict[str, Any]) -> str:
    most = decoding["max_new_tokens"]
    least = fit["base"]["context"] - answered["longest_prompt"] if "base" in fit else most
    how = ", ".join(_chosen(decoding))
    less = f" (beside the longest prompt {least:,}, as the context allows)" if least < most else ""
    cut = f"; {answered['cut']:,} prompts cut" if answered["cut"] else ""
    return f"{how}, at most {most:,} new tokens{less}{cut}"


def _chosen(decoding: dict[str, Any]) -> list[str]:
    """How tokens are chosen, and how many answers there are."""
    said = ["greedy"]
    if decoding["temperature"]:
        given = {"top-p": ("top_p", 1.0), "top-k": ("top_k", 0), "min-p": ("min_p", 0.0)}
        said = [f"temperature {decoding['temperature']}"]
        said += [f"{name} {decoding[k]}" for name, (k, off) in given.items() if decoding[k] != off]
        said.append(f"seed {decoding['seed']}")
    if decoding["repetition_penalty"] != 1:
        said.append(f"repetition penalty {decoding['repetition_penalty']}")
    if decoding["stop"]:
        said.append(f"ended by {' or '.join(map(repr, decoding['stop']))}")
    if decoding["num_return_sequences"] > 1:
        said.append(f"{decoding['num_return_sequences']} answers to each prompt, scores averaged")
    return said


def _measured(view: RunView) -> list[tuple[str, str]]:
    entries = view.folder.manifest["stages"]
    pairs = []
    for name, entry in entries.items():
        rate = entry["facts"].get("measured", {}).get("tokens_per_second")
        text = f"{entry['seconds']:.1f} s"
        pairs.append((name, f"{text} ({rate:,.0f} tokens/s)" if rate else text))
    if peak := view.facts("train").get("measured", {}).get("peak_memory_bytes"):
        pairs.append(("peak memory", f"{peak / 2**30:.2f} GiB"))
    return pairs


def _curves(view: RunView) -> dict[str, list[tuple[int, float]]]:
    rows = view.log()
    if not rows:
        return {}
    curves = {"train": [(row["step"], row["loss"]) for row in rows]}
    if held := [(r["step"], r["validation"]) for r in rows if r["validation"] is not None]:
        curves["validation"] = held
    return curves


def _picture(view: RunView) -> Curves | None:
    """What is drawn of the training; nothing of it differs in a repetition of the run."""
    losses, folder = _curves(view), view.folder
    if not losses:
        return None
    fit = view.facts("train")
    chosen = fit["published_step"]
    n = (
        f"n = {fit['examples']:,} examples in {fit['steps']:,} steps, "
        f"{fit['scored_tokens']:,} scored tokens"
    )
    early = ", stopped early" if fit["stopped_early"] else ""
    best = f", adapter of step {chosen:,}" if chosen != fit["steps"] else ""
    return Curves(
        title=f"{folder.model} · {folder.task} · {folder.recipe} · seed {folder.seed}",
        note=n + early + best,
        train=losses["train"],
        validation=losses.get("validation", []),
        rates=[(row["step"], row["learning_rate"]) for row in view.log()],
        best=chosen if best else None,
    )
