"""`--set`: what a field's name and value may be, and what they make of a recipe or task."""

from __future__ import annotations

from typing import Any

import pytest

from harness.config.overrides import override, parse
from harness.config.registry import Registry
from harness.errors import UsageError

RECIPE = Registry().recipe("quick")
SHORT = {"recipe.max_steps": ("--max-steps", 5), "recipe.precision": ("--precision", None)}
TASK = Registry().task("html_blocks")


@pytest.mark.parametrize(
    ("assignment", "field", "value"),
    [
        ("learning_rate=3e-4", "recipe.learning_rate", 3e-4),
        ("recipe.learning_rate = 3e-4", "recipe.learning_rate", 3e-4),
        ("lora.r=8", "recipe.lora.r", 8),
        ("num_train_epochs=2", "recipe.num_train_epochs", 2.0),
        ("packing=true", "recipe.packing", True),
        ("optim=adamw_8bit", "recipe.optim", "adamw_8bit"),
        ("lora.target_modules=.*_proj", "recipe.lora.target_modules", ".*_proj"),
        ('lora.target_modules=["q_proj"]', "recipe.lora.target_modules", ["q_proj"]),
        ("recipe.description=of mine", "recipe.description", "of mine"),
        ("task.description='of mine'", "task.description", "of mine"),
        ("split.seed=1 # the second", "task.split.seed", 1),
        ("decoding.max_new_tokens=64", "task.decoding.max_new_tokens", 64),
        ("task.decoding.top_p=1", "task.decoding.top_p", 1.0),
        ("template=Ask: {}=", "task.template", "Ask: {}="),
        (r'template="{}\n"', "task.template", "{}\n"),
        ("text=extracted", "task.text", "extracted"),
        ("data.revision=2024-01-01", "task.data.revision", "2024-01-01"),
        ("data.revision=a\nb = 1", "task.data.revision", "a\nb = 1"),
    ],
)
def test_a_field_gets_its_value(assignment: str, field: str, value: Any) -> None:
    overrides = parse([assignment], {})
    assert overrides == {field: value}
    changed = {"recipe": override(RECIPE, overrides), "task": override(TASK, overrides)}
    kind, *path = field.split(".")
    found: Any = changed[kind]
    for name in path:
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)
    other = "task" if kind == "recipe" else "recipe"
    assert changed[other] == {"recipe": RECIPE, "task": TASK}[other]


@pytest.mark.parametrize(
    ("assignments", "text"),
    [
        (["lora.rank=8"], "--set lora.rank: no recipe or task .* did you mean lora.r?"),
        (["lr=1"], "did you mean learning_rate?"),
        (["max_new_tokens=8"], "did you mean decoding.max_new_tokens?"),
        (["recipe.max_new_tokens=8"], "schema.py"),  # it is a task's
        (["task.lora.r=8"], "schema.py"),
        (["recipe=8"], "schema.py"),
        (["zzz=8"], "schema.py"),
        (["a\x1b[2J=8"], r"--set a\\x1b\[2J:"),
        (["description=x"], "set recipe.description or task.description"),
        (["name=x"], "choose --recipe and --tasks"),
        (["task.name=x"], "choose --recipe and --tasks"),
        (["lora=8"], "--set lora: it is a table; .* such as lora.r"),
        (["decoding={seed = 1}"], "it is a table"),
        (["scorers=[rouge]"], "is no value of TOML"),
        (["template='{}"], "is no value of TOML"),
        (["scorers=" + "[" * 5000], "is no value of TOML"),
        (["eval_steps=" + "9" * 20], "more than 64 bits"),
        (["lora.r=8", "recipe.lora.r=8"], "--set names recipe.lora.r twice"),
        (["template=\udcff{}"], "--set template is not text in UTF-8"),
        (["max_steps=4"], "--max-steps and --set max_steps set one field"),
        (["recipe.max_steps=4"], "--max-steps and --set recipe.max_steps set one field"),
    ],
)
def test_what_cannot_be_set_is_one_sentence(assignments: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        parse(assignments, SHORT)
    assert str(caught.value).endswith((".", "?"))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("assignments", "texts"),
    [
        (["learning_rate=fast"], ["recipe quick: learning_rate is 'fast', but: input should be"]),
        (["max_steps=1.5"], ["max_steps is 1.5"]),
        (["packing=1"], ["packing is 1"]),
        (["max_steps=" + "9" * 5000], ["max_steps is '999"]),
        (["warmup_ratio=nan"], ["warmup_ratio is nan"]),
        (["optim=sgd"], ["optim is 'sgd', but: input should be 'adamw'"]),
        (["lora.r=0", "lora.bias=some"], ["lora.r is 0", "lora.bias is 'some'"]),
        (["save_steps=5", "save_strategy=epoch"], ["save_steps goes with save_strategy 'steps'"]),
        (["split.test=2"], ["task html_blocks: split.test is 2"]),
        (["scorers=rouge"], ["scorers is 'rouge', but: input should be a valid list"]),
        (["template=none"], ["template is 'none', but: the template must contain {}"]),
        (["columns.prompt=q"], ["the key columns.target is missing"]),
    ],
)
def test_what_does_not_fit_names_its_field(assignments: list[str], texts: list[str]) -> None:
    overrides = parse(assignments, {})
    of_task = any(field.startswith("task.") for field in overrides)
    with pytest.raises(UsageError) as caught:
        override(TASK if of_task else RECIPE, overrides)
    lines = str(caught.value).split("\n")
    assert len(lines) == len(texts)
    for line, text in zip(lines, texts, strict=True):
        assert line.startswith("--set for ")
        assert text in line
        assert line.endswith(".")


def test_short_forms_are_overrides() -> None:
    assert parse(["precision=fp32"], SHORT) == {"recipe.max_steps": 5, "recipe.precision": "fp32"}


def test_epochs_go_before_a_recipes_own_steps() -> None:
    bounded = RECIPE.model_copy(update={"max_steps": 7})
    assert override(bounded, {"recipe.lora.r": 8}).max_steps == 7
    assert override(bounded, {"recipe.num_train_epochs": 2.0}).max_steps is None
    both = {"recipe.num_train_epochs": 2.0, "recipe.max_steps": 3}
    assert override(bounded, both).max_steps == 3


def test_a_script_of_a_scorer_begins_at_the_working_folder(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = parse(['scorers=["evaluate:./mine.py", "rouge"]'], {})
    assert overrides["task.scorers"] == [f"evaluate:{tmp_path / 'mine.py'}", "rouge"]
