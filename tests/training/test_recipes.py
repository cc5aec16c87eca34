"""The recipes, as data and carried out: what they say, packed steps, tiny models in 4-bit."""

from __future__ import annotations

import itertools
import json
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.config.overrides import override
from harness.config.registry import Registry
from harness.config.schema import RecipeConfig
from harness.models.adapter import Adapter
from harness.pipeline.options import Options
from harness.training.loader import step_loader
from harness.training.schedule import (
    examples_of_step,
    saves_after,
    steps_per_epoch,
    total_steps,
)
from harness.training.step_log import StepLog
from tests.support.commands import (
    Commands,
    make_registry,
    manifest,
    run_folders,
    run_of,
    write_script,
)
from tests.support.tiny import base_of, tiny_model
from tests.support.training import sample, trained

REGISTRY = Registry()
FALCON_LINEARS = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
LLAMA_LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


# --- as data ---------------------------------------------------------------------------------


def test_falcon_html_is_the_published_recipe() -> None:
    recipe = REGISTRY.recipe("falcon-html").model_dump()
    assert (
        recipe.items()
        >= {
            "quantization": "nf4",
            "precision": "fp16",
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 4,
            "learning_rate": 2e-4,
            "optim": "paged_adamw_8bit",
            "lr_scheduler_type": "cosine",
            "warmup_ratio": 0.05,
            "num_train_epochs": 3.0,
            "packing": False,
        }.items()
    )
    assert recipe["lora"] == {
        "r": 64,
        "lora_alpha": 16.0,
        "lora_dropout": 0.1,
        "bias": "none",
        "task_type": "CAUSAL_LM",
        "target_modules": FALCON_LINEARS,
        "modules_to_save": [],
        "use_rslora": False,
        "use_dora": False,
    }


def test_llama2_html_is_the_published_recipe() -> None:
    recipe = REGISTRY.recipe("llama2-html").model_dump()
    assert (
        recipe.items()
        >= {
            "quantization": "nf4",
            "gradient_accumulation_steps": 4,
            "optim": "adamw_8bit",
            "packing": True,
            "max_length": 4096,
        }.items()
    )
    assert recipe["eval_steps"] > 0
    assert recipe["eval_samples"] > 0
    lora = recipe["lora"]
    assert (lora["r"], lora["lora_alpha"], lora["target_modules"]) == (16, 64.0, "all-linear")


@pytest.mark.parametrize("name", ["falcon-html", "llama2-html"])
def test_a_published_recipe_leaves_nothing_that_it_names_to_a_default(name: str) -> None:
    table = tomllib.loads(REGISTRY.path("recipes", name).read_text(encoding="utf-8"))
    assert set(table) >= {"save_strategy", "save_total_limit", "logging_steps", "optim"}
    assert set(table["lora"]) >= {"r", "lora_alpha", "lora_dropout", "bias", "task_type"}


def test_each_model_has_its_own_recipe_and_task() -> None:
    own = {
        name: (Options().recipe_of(model), Options().tasks_of(model))
        for name in REGISTRY.names("models")
        for model in [REGISTRY.model(name)]
    }
    assert own == {
        "falcon7b": ("falcon-html", ("html_alpaca",)),
        "llama2-7b": ("llama2-html", ("html_dataset",)),
        "gemma3-270m": ("small", ("html_blocks",)),
        "scripted": ("small", ("html_blocks",)),
    }
    for recipe, tasks in own.values():
        assert REGISTRY.recipe(recipe).name == recipe
        assert [REGISTRY.task(task).name for task in tasks] == list(tasks)
    asked = Options(recipe="html", tasks=("html_dataset", "html_alpaca"))
    model = REGISTRY.model("falcon7b")
    assert (asked.recipe_of(model), asked.tasks_of(model)) == (asked.recipe, asked.tasks)


def test_auto_quantises_large_models_only() -> None:
    recipe = REGISTRY.recipe("html")
    assert recipe.quantization == "auto"
    assert recipe.quantization_of(REGISTRY.model("falcon7b").parameters) == "nf4"
    assert recipe.quantization_of(REGISTRY.model("gemma3-270m").parameters) == "none"
    assert REGISTRY.recipe("falcon-html").quantization_of(1) == "nf4"


def recipe_of(**changes: Any) -> RecipeConfig:
    return RecipeConfig(name="test", **changes)


@pytest.mark.parametrize("strategy", ["epoch", "no"])
def test_save_steps_go_with_their_strategy(strategy: Any) -> None:
    with pytest.raises(ValidationError, match="save_steps goes with save_strategy 'steps'"):
        recipe_of(save_strategy=strategy, save_steps=2)


def test_checkpoints_are_due_by_strategy() -> None:
    def due(**changes: Any) -> list[int]:
        return [done for done in range(1, 10) if saves_after(recipe_of(**changes), done, 4)]

    assert due(save_strategy="steps", save_steps=3) == [3, 6, 9]
    assert due(save_strategy="steps") == []
    assert due(save_strategy="epoch") == [4, 8]
    assert due(save_strategy="no") == []


# --- packed steps ----------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=60),
    rows=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@settings(derandomize=True, deadline=None, max_examples=100)
def test_an_epoch_of_packed_steps_sees_each_example_once(
    lengths: list[int], rows: int, seed: int
) -> None:
    recipe = recipe_of(
        packing=True,
        max_length=64,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=rows,
        num_train_epochs=2.0,
    )
    each = steps_per_epoch(recipe, lengths)
    assert total_steps(recipe, lengths) == 2 * each
    for epoch in (0, 1):
        steps = [examples_of_step(recipe, lengths, seed, epoch * each + s) for s in range(each)]
        assert all(steps)
        assert sorted(i for step in steps for i in step) == list(range(len(lengths)))
        # No step holds more than its rows do.
        assert all(sum(lengths[i] for i in step) <= rows * 64 for step in steps)


def test_packed_steps_follow_the_seed_and_change_with_the_epoch() -> None:
    draw = random.Random(0)
    lengths = [draw.randint(20, 90) for _ in range(200)]
    recipe = recipe_of(packing=True, max_length=256, gradient_accumulation_steps=2)
    each = steps_per_epoch(recipe, lengths)
    assert each < 200 / 2 / 3  # about five examples a row

    def epoch(number: int, seed: int = 0) -> list[list[int]]:
        return [examples_of_step(recipe, lengths, seed, number * each + s) for s in range(each)]

    first = epoch(0)
    backwards = [examples_of_step(recipe, lengths, 0, s) for s in reversed(range(each))]
    assert backwards[::-1] == first  # any step, without those before it
    companions = {frozenset(step) for step in first}
    assert companions.isdisjoint(frozenset(step) for step in epoch(1))
    assert companions.isdisjoint(frozenset(step) for step in epoch(0, seed=1))


def test_the_loader_gives_the_steps_from_any_on() -> None:
    samples = [sample(str(i), 10 + i, 3) for i in range(11)]
    recipe = recipe_of(gradient_accumulation_steps=2, num_train_epochs=2.0)
    total = total_steps(recipe, [len(s.ids) for s in samples])
    whole = list(step_loader(samples, recipe, 0, 0, total))
    assert [len(batch) for batch in whole] == 2 * [2, 2, 2, 2, 2, 1]
    rest = step_loader(samples, recipe, 0, 4, total)
    assert len(rest) == total - 4
    assert list(rest) == whole[4:]


def fit(base: Any, recipe: RecipeConfig, folder: Path) -> tuple[Adapter, list[StepLog]]:
    samples = [sample(str(i), 8 + 3 * i, 4, seed=i) for i in range(9)]
    adapter = Adapter.attach(base, recipe.lora, seed=0)
    log: list[StepLog] = []
    trained(base, adapter, recipe, folder, log.append, samples=samples)
    return adapter, log


def test_a_packed_training_resumes_where_it_was(tmp_path: Path) -> None:
    recipe = recipe_of(
        packing=True,
        max_length=40,
        gradient_accumulation_steps=2,
        num_train_epochs=2.0,
        save_strategy="epoch",
        learning_rate=1e-2,
        precision="fp32",
    )
    _, whole = fit(base_of("llama"), recipe, tmp_path)
    each = steps_per_epoch(recipe, [8 + 3 * i for i in range(9)])
    assert [entry.step for entry in whole] == list(range(1, 2 * each + 1))
    assert sum(entry.tokens for entry in whole[:each]) == sum(8 + 3 * i for i in range(9))
    # The checkpoint of the first epoch's end is there; the second epoch is taken again.
    _, rest = fit(base_of("llama"), recipe, tmp_path)
    assert [(e.step, e.loss) for e in rest] == [(e.step, e.loss) for e in whole[each:]]


# --- variants of LoRA ------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["use_rslora", "use_dora"])
def test_a_variant_of_lora_is_trained_saved_and_loaded_by_peft(flag: str, tmp_path: Path) -> None:
    from peft import PeftModel

    changes: dict[str, Any] = {"learning_rate": 1e-2, "lora.r": 8, f"lora.{flag}": True}
    make_registry(tmp_path, **changes)
    recipe = override(Registry(tmp_path).recipe("tiny"), {"recipe.max_steps": 2})
    base = base_of("llama")
    adapter, log = fit(base, recipe, tmp_path / "checkpoints")
    assert log[1].loss < log[0].loss + 0.5
    adapter.check_live([1, 5, 9])
    adapter.save(tmp_path / "adapter")
    ids = torch.arange(2, 40)[None]
    adapter.switch(on=True)
    with torch.inference_mode():
        ours = base.model(input_ids=ids).logits
        loaded = PeftModel.from_pretrained(tiny_model("llama"), tmp_path / "adapter")
        plain = loaded(input_ids=ids).logits
        untouched = tiny_model("llama")(input_ids=ids).logits
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(ours, untouched, atol=1e-4)
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert written[flag] is True


# --- end to end ------------------------------------------------------------------------------

SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo")


def rows(count: int) -> list[tuple[str, str]]:
    """(prompt, page) pairs that have no words in common, so that each can be held out."""
    words = map("".join, itertools.product(SYLLABLES, repeat=3))

    def some(n: int) -> str:
        return " ".join(itertools.islice(words, n))

    return [(some(3), f"<h1>{some(2)}</h1><p>{some(4)}</p>") for _ in range(count)]


def write_rows(path: Path, prompt: str, target: str, **more: str) -> Path:
    lines = [json.dumps({prompt: a, target: b, **more}) for a, b in rows(30)]
    path.write_text("\n".join(lines) + "\n")
    return path


def short_answers(folder: Path, task: str) -> Path:
    """A registry with the shipped task, but for the length of its answers."""
    text = REGISTRY.path("tasks", task).read_text(encoding="utf-8")
    (folder / "tasks" / task).mkdir(parents=True)
    (folder / "tasks" / task / "task.toml").write_text(text.replace("= 1024", "= 16"))
    return folder


FAMILIES = [
    (
        "falcon7b",
        "falcon",
        ("html_alpaca", "instruction", "output", {"input": ""}),
        ("falcon-html", 64, 16, 0.1, FALCON_LINEARS),
    ),
    (
        "llama2-7b",
        "llama",
        ("html_dataset", "label", "html", {}),
        ("llama2-html", 16, 64, 0.0, LLAMA_LINEARS),
    ),
]


@pytest.mark.parametrize(("model", "family", "data", "wanted"), FAMILIES)
def test_a_model_is_trained_by_its_own_recipe_in_4_bit(
    model: str,
    family: str,
    data: tuple[str, str, str, dict[str, str]],
    wanted: tuple[str, int, int, float, list[str]],
    model_commands: Commands,
    tiny_weights: dict[str, Path],
    tmp_path: Path,
) -> None:
    task, prompt, target, more = data
    recipe, r, alpha, dropout, linears = wanted
    path = write_rows(tmp_path / "rows.jsonl", prompt, target, **more)
    words = ["run", "--models", model, "--weights", f"{model}={tiny_weights[family]}"]
    words += ["--data", f"{task}={path}", "--max-steps", "2", "--limit", "2"]
    words += ["--registry", str(short_answers(tmp_path / "registry", task))]
    outcome = model_commands.run(tmp_path, *words)
    assert outcome.status == 0, outcome.output
    assert "Warning" not in outcome.output
    (folder,) = run_folders(tmp_path)
    assert folder.parent == tmp_path / "runs" / model / task
    assert folder.name.startswith(f"{recipe}-seed0-")
    facts = manifest(folder)["stages"]["train"]["facts"]
    assert facts["steps"] == 2
    assert facts["base"]["quantization"] == "nf4"
    assert facts["base"]["quantized_linears"] == 2 * len(linears)  # two layers
    assert facts["adapter"]["modules"] == 2 * len(linears)
    written = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert sorted(written["target_modules"]) == sorted(linears)
    assert (written["r"], written["lora_alpha"], written["lora_dropout"]) == (r, alpha, dropout)
    assert (written["task_type"], written["bias"]) == ("CAUSAL_LM", "none")


def test_the_plan_counts_packed_rows_and_takes_another_precision(
    commands: Commands, tmp_path: Path
) -> None:
    words = run_of(make_registry(tmp_path), {"scripted": write_script(tmp_path / "says")})
    words[words.index("--recipe") + 1] = "llama2-html"

    def plan(*more: str) -> dict[str, str]:
        outcome = commands.run(tmp_path, *words, "--dry-run", *more)
        assert outcome.status == 0, outcome.output
        lines = outcome.stdout.splitlines()[1:]
        return {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}

    # Twelve short examples fill part of one row.
    assert plan()["steps"] == "about 3 of 4 rows of at most 4,096 tokens"
    assert plan("--precision", "bf16")["folder"] != plan()["folder"]
    assert plan("--precision", "auto")["folder"] == plan()["folder"]


def test_a_models_own_recipe_that_is_none_is_its_files_fault(
    commands: Commands, tmp_path: Path
) -> None:
    registry = make_registry(tmp_path / "registry")
    (registry / "models").mkdir()
    text = REGISTRY.path("models", "scripted").read_text().replace('"scripted"', '"mine"', 1)
    (registry / "models" / "mine.toml").write_text(f'recipe = "tinyy"\n{text}')
    script = write_script(tmp_path / "says")
    words = run_of(registry, {"mine": script})
    at = words.index("--recipe")
    del words[at : at + 2]
    outcome = commands.run(tmp_path, *words)
    assert outcome.status == 2
    assert "mine.toml" in outcome.stderr
    assert "did you mean tiny?" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
