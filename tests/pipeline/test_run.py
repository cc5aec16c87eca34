"""The whole command with real (tiny) models: three families, quantisation, overfitting, reuse."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.reports import COLUMNS, ComparisonRow, parse_comparison_csv
from harness.stages import stage_names
from tests.support.commands import (
    Commands,
    Fault,
    files_under,
    make_registry,
    manifest,
    run_folders,
    run_of,
    tables,
    write_script,
)

MODEL_OF = {"falcon": "falcon7b", "llama": "llama2-7b", "gemma3": "gemma3-270m"}
EVERYTHING = tuple(stage_names())
AFTER_TRAINING = EVERYTHING[2:]
SAMPLED = ("temperature=0.7", "top_k=5", "stop=['</html>']")


def rows_of(cwd: Path) -> dict[str, ComparisonRow]:
    rows = parse_comparison_csv((cwd / "results" / "comparison.csv").read_text("utf-8"))
    return {row.metric: row for row in rows}


def stage_facts(folder: Path, stage: str) -> dict[str, Any]:
    facts: dict[str, Any] = manifest(folder)["stages"][stage]["facts"]
    return facts


def test_ten_samples_are_learned_by_heart(model_commands: Commands, tmp_path: Path) -> None:
    weights = model_commands.save_tiny(tmp_path / "llama", "llama", head_scale=10.0)
    registry = make_registry(
        tmp_path / "registry",
        train=10,
        test=10,
        tokens=32,
        per_device_train_batch_size=10,
        num_train_epochs=80.0,
        learning_rate=1e-2,
        save_steps=0,
    )
    outcome = model_commands.run(tmp_path, *run_of(registry, {"llama2-7b": weights}))
    assert outcome.status == 0, outcome.output
    assert "exact match: base 0 of 10, tuned 10 of 10" in outcome.stdout

    text = (tmp_path / "results" / "comparison.csv").read_text("utf-8")
    assert text.splitlines()[0].lstrip("\ufeff") == ",".join(COLUMNS)
    rows = rows_of(tmp_path)
    assert {row.n for row in rows.values()} == {10}
    exact = rows["exact_match"]
    assert (exact.base, exact.tuned, exact.delta) == (0.0, 1.0, 1.0)
    assert (exact.wins, exact.ties, exact.losses) == (10, 0, 0)
    assert (exact.reference, exact.nearest) == (1.0, 1.0)
    loss = rows["cross_entropy"]
    assert loss.tuned is not None
    assert loss.tuned < 0.1
    assert loss.ci_high is not None
    assert loss.ci_high < 0
    assert rows["truncated"].tuned == 0.0  # it has learned to stop


@pytest.mark.parametrize("family", MODEL_OF)
def test_each_family_goes_through(
    family: str, model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    registry = make_registry(tmp_path / "registry", validation=0.2)
    words = run_of(registry, {MODEL_OF[family]: tiny_weights[family]}, "--max-steps", 2)
    outcome = model_commands.run(tmp_path, *words)
    assert outcome.status == 0, outcome.output
    assert outcome.stages == EVERYTHING
    (folder,) = run_folders(tmp_path)
    assert manifest(folder)["status"] == "done"
    facts = stage_facts(folder, "train")
    assert facts["steps"] == 2
    assert facts["base"]["dtype"] == "float32"
    assert facts["base"]["quantized_linears"] == 0
    assert facts["adapter"]["modules"] == facts["base"]["linears"]
    losses = rows_of(tmp_path)["cross_entropy"]
    assert losses.base is not None
    assert losses.tuned is not None
    assert losses.tuned < losses.base
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [1, 2]
    assert log[-1]["validation"] > 0
    # PEFT's own format, which says where its base is loaded from.
    adapter = (folder / "adapter" / "adapter_config.json").read_text()
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert json.loads(adapter)["base_model_name_or_path"] == str(tiny_weights[family])


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_quantised_falcon_is_quantised(
    kind: str, model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    registry = make_registry(tmp_path / "registry")
    words = run_of(registry, {"falcon7b": tiny_weights["falcon"]}, "--max-steps", 2)
    outcome = model_commands.run(tmp_path, *words, "--quantization", kind)
    assert outcome.status == 0, outcome.output
    (folder,) = run_folders(tmp_path)
    facts = stage_facts(folder, "train")["base"]
    assert facts["quantization"] == kind
    assert facts["quantized_linears"] == facts["linears"] == 2 * 4  # four linears a layer
    assert f"8 linears in {kind}" in tables(tmp_path)["comparison.md"]
    # Two steps and their surroundings: no library speaks up. A slow machine shows progress, too.
    lines = [li for li in outcome.stderr.splitlines() if not re.match(r"\w[\w ]*  \d+/\d+ ", li)]
    assert len(lines) <= 7, outcome.stderr


def test_a_falcon_that_would_not_be_quantised_is_refused(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    registry = make_registry(tmp_path / "registry")
    words = run_of(registry, {"falcon7b": tiny_weights["falcon"]}, "--quantization", "nf4")
    skip = Fault("call", "harness.models.load:use_plain_linears", action="SKIP")
    outcome = model_commands.run(tmp_path, *words, fault=skip)
    assert outcome.status == 1
    assert "0 of 8 linear layers are nf4" in outcome.stderr
    assert "Traceback" not in outcome.output
    (folder,) = run_folders(tmp_path)
    assert manifest(folder)["status"] == "failed"
    assert "train" not in manifest(folder)["stages"]
    assert not (folder / "adapter").exists()
    assert "0 of 8 linear layers are nf4" in tables(tmp_path)["comparison.md"]


def test_a_finished_run_answers_without_torch(
    commands: Commands,
    model_commands: Commands,
    tiny_weights: dict[str, Path],
    tmp_path: Path,
) -> None:
    words = run_of(make_registry(tmp_path / "registry"), {"llama2-7b": tiny_weights["llama"]})
    assert model_commands.run(tmp_path, *words, "--max-steps", 1).status == 0
    before = tables(tmp_path)
    again = commands.run(tmp_path, *words, "--max-steps", 1)
    assert again.status == 0, again.output
    assert again.stages == ()
    assert "torch" not in again.imported
    assert "transformers" not in again.imported
    assert tables(tmp_path) == before
    plan = commands.run(tmp_path, *words, "--max-steps", 1, "--dry-run")
    assert "cached   everything" in plan.stdout


@pytest.mark.slow
def test_what_changed_is_made_anew_and_no_more(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    registry = make_registry(tmp_path / "registry")
    words = run_of(registry, {"llama2-7b": tiny_weights["llama"]})

    def stages(*more: object) -> tuple[str, ...]:
        outcome = model_commands.run(tmp_path, *words, *more)
        assert outcome.status == 0, outcome.output
        return outcome.stages

    def without(*names: str) -> tuple[str, ...]:
        return tuple(name for name in EVERYTHING if name not in names)

    base = ("generate-base", "likelihood-base")
    assert stages() == EVERYTHING
    assert stages() == ()
    assert stages("--limit", 3) == AFTER_TRAINING
    assert {row.n for row in rows_of(tmp_path).values()} == {3}
    assert stages("--seeds", 1) == without("prepare", *base)
    assert stages("--max-steps", 1) == without("prepare", *base)
    assert stages() == ()
    assert stages("--seeds", 0, 1) == ()  # both are there

    # The task's file: its scorers touch scores only, its template all but the data.
    task = registry / "tasks" / "words" / "task.toml"
    plain = task.read_text()
    task.write_text(plain.replace('"rouge", ', ""))
    assert stages() == ("score", "compare")
    task.write_text(plain.replace("{}", "Do: {}"))
    assert stages() == without("prepare")
    task.write_text(plain.replace("max_new_tokens = 8", "max_new_tokens = 4"))
    assert stages() == ("generate-base", "generate-tuned", "score", "compare")
    task.write_text(plain)
    assert stages() == ()

    # Its data, and the weights, everything that came of them.
    generator = registry / "tasks" / "words" / "generator.py"
    generator.write_text(generator.read_text().replace("sun", "sky"))
    assert stages() == EVERYTHING
    other = model_commands.save_tiny(tmp_path / "other", "llama", seed=1)
    words[words.index(f"llama2-7b={tiny_weights['llama']}")] = f"llama2-7b={other}"
    assert stages() == without("prepare")


def test_a_run_that_diverges_stops_alone(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    weights = {"llama2-7b": tiny_weights["llama"], "scripted": write_script(tmp_path / "says")}
    registry = make_registry(
        tmp_path / "registry", learning_rate=1e30, max_grad_norm=1e30, num_train_epochs=20.0
    )
    outcome = model_commands.run(tmp_path, *run_of(registry, weights))
    assert outcome.status == 1
    assert "training diverged at step" in outcome.stderr
    assert "Traceback" not in outcome.output
    diverged, done = run_folders(tmp_path)
    assert manifest(diverged)["status"] == "diverged"
    assert not (diverged / "adapter").exists()
    assert manifest(done)["status"] == "done"
    markdown = tables(tmp_path)["comparison.md"]
    assert "diverged" in markdown
    assert "llama2-7b" in markdown
    rows = parse_comparison_csv((tmp_path / "results" / "comparison.csv").read_text("utf-8"))
    assert {row.model for row in rows} == {"scripted"}
    # Again: it diverges again, the other is not done again.
    again = model_commands.run(tmp_path, *run_of(registry, weights))
    assert (again.status, again.stages) == (1, ("train",))


def test_secrets_and_places_stay_out_of_what_is_written(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    canaries: dict[str, Any] = {"HF_TOKEN": "hf_canary1Ja7", "WANDB_API_KEY": "wandb-canary-2Kq9"}
    working = tmp_path / "work"
    working.mkdir()
    words = run_of(make_registry(tmp_path / "registry"), {"gemma3-270m": tiny_weights["gemma3"]})
    outcome = model_commands.run(working, *words, "--max-steps", 1, **canaries)
    assert outcome.status == 0, outcome.output
    failed = model_commands.run(
        working,
        *words,
        "--max-steps",
        2,
        fault=Fault("replace", "log.jsonl", action="ENOSPC"),
        **canaries,
    )
    assert failed.status == 1
    texts = [outcome.output, failed.output]
    written = [*files_under(working / "runs"), *files_under(working / "results")]
    assert len(written) > 20
    texts += [path.read_bytes().decode("utf-8", "replace") for path in written]
    for canary in canaries.values():
        assert not any(canary in text for text in texts)
    adapters = [path for path in written if path.name == "adapter_config.json"]
    assert adapters
    for path in adapters:
        assert str(tmp_path) not in path.read_text()


def test_several_answers_to_a_prompt_are_averaged_and_drawn_together(
    commands: Commands, tmp_path: Path
) -> None:
    registry = make_registry(tmp_path / "registry", test=4)
    script = write_script(tmp_path / "says.jsonl")
    right = {"arm": "base", "text": "{reference}"}
    # Of base's three answers to the first prompt two are right, of those to the third one is.
    rows = [{**right, "id": id} for id in ("000012", "000012#2", "000014#1")]
    with script.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    words = run_of(registry, {"scripted": script}, "--set", "decoding.num_return_sequences=3")
    refused = commands.run(tmp_path, *words)
    assert refused.status == 2
    assert "needs a temperature" in refused.stderr
    outcome = commands.run(tmp_path, *words, *(f"decoding.{x}" for x in SAMPLED))
    assert outcome.status == 0, outcome.output

    exact = rows_of(tmp_path)["exact_match"]
    assert (exact.n, exact.base, exact.tuned) == (4, pytest.approx(1 / 4), 1.0)
    assert (exact.wins, exact.ties) == (4, 0)
    # All sixteen flips of the four prompts' means: two are as far from 0 as what was found.
    assert exact.p_value == pytest.approx(2 / 16)
    predictions = list(csv.DictReader((tmp_path / "results" / "predictions.csv").open()))
    assert [row["id"] for row in predictions[:4]] == ["000012", "000012#1", "000012#2", "000013"]
    own = [row["base_exact_match"] for row in predictions if row["id"].startswith("000012")]
    assert own == ["1.0", "0.0", "1.0"]
    text = (tmp_path / "results" / "comparison.md").read_text()
    assert "temperature 0.7, top-k 5, seed 0, ended by '" in text
    assert "3 answers to each prompt, scores averaged" in text

    (folder,) = run_folders(tmp_path)
    again = commands.run(tmp_path, "compare", f"{folder}:base", f"{folder}:tuned")
    assert again.status == 0, again.output
    assert "4 of 12 samples" in again.output


@pytest.mark.slow
def test_given_adapters_answer_as_systems_of_their_own(
    model_commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    registry = make_registry(tmp_path / "registry")
    words = run_of(registry, {"llama2-7b": tiny_weights["llama"]}, "--max-steps", 2)
    plain = model_commands.run(tmp_path, *words)
    assert plain.status == 0, plain.output
    (first,) = run_folders(tmp_path)
    longer = model_commands.run(tmp_path, *words[:-1], "4", "--results", "other")
    assert longer.status == 0, longer.output
    (other,) = set(run_folders(tmp_path)) - {first}

    given = ["--adapters", f"same={first / 'adapter'}", f"longer={other}"]
    outcome = model_commands.run(tmp_path, *words, *given, "--name", "several")
    assert outcome.status == 0, outcome.output
    assert "train" not in outcome.stages  # nor is it trained anew
    assert {"generate-same", "generate-longer", "likelihood-longer"} <= {*outcome.stages}
    (run,) = set(run_folders(tmp_path)) - {first, other}
    answers = {
        name: [
            row["text"]
            for line in (run / "generations" / f"{name}.jsonl").read_text().splitlines()
            for row in (json.loads(line),)
        ]
        for name in ("base", "tuned", "same", "longer")
    }
    assert answers["same"] == answers["tuned"]
    assert answers["tuned"] != answers["base"]
    rows = list(csv.DictReader((tmp_path / "results" / "several" / "systems.csv").open()))
    loss = {row["system"]: row for row in rows if row["metric"] == "cross_entropy"}
    assert [*loss] == ["base", "tuned", "same", "longer"]
    tuned = float(loss["tuned"]["mean"])
    assert float(loss["same"]["mean"]) == pytest.approx(tuned, abs=1e-5)
    assert float(loss["longer"]["to_tuned"]) < 0
    assert (run / "scores" / "longer.jsonl").is_file()
    again = model_commands.run(tmp_path, *words, *given, "--name", "several")
    assert again.stages == ()
    compared = model_commands.run(tmp_path, "compare", f"{run}:tuned", f"{run}:longer")
    assert compared.status == 0, compared.output
    assert "cross_entropy" in compared.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("base=adapter", "is none of 'base', 'tuned'"),
        ("Other=adapter", "a system's name has 1 to 64"),
        ("mine=nowhere", "does not exist: give an adapter's folder"),
        ("mine=empty", "adapter_config.json"),
        ("mine=prompts", "is of the type 'PROMPT_TUNING': give a LoRA"),
        ("mine=broken", "is no configuration of an adapter"),
    ],
)
def test_an_adapter_that_cannot_answer_is_refused_before_any_work(
    given: str, said: str, commands: Commands, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    for name, config in {
        "adapter": '{"peft_type": "LORA"}',
        "prompts": '{"peft_type": "PROMPT_TUNING"}',
        "broken": "[",
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text(config)
        (folder / "adapter_model.safetensors").write_text("")
    (tmp_path / "empty").mkdir()
    words = run_of(make_registry(tmp_path / "registry"), {"llama2-7b": tiny_weights["llama"]})
    outcome = commands.run(tmp_path, *words, "--adapters", given)
    assert outcome.status == 2, outcome.output
    assert said in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    script = write_script(tmp_path / "says.jsonl")
    words = run_of(tmp_path / "registry", {"scripted": script}, "--adapters", "mine=adapter")
    assert "run one model that has weights" in commands.run(tmp_path, *words).stderr
