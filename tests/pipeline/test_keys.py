"""What a stage's key has: each line of the table changes it, or does not."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config.schema import RecipeConfig, TaskConfig
from harness.host import checksums, machine
from harness.host.files import digest
from harness.pipeline import plan
from harness.pipeline.options import Options
from harness.pipeline.plan import plan_runs
from harness.pipeline.selection import select
from harness.runs import stage as stage_module
from harness.runs.run import UNKEYED, Run
from harness.stages import stage_names
from tests.support.commands import GENERATOR, make_registry

ALL = frozenset(stage_names())
NONE: frozenset[str] = frozenset()
MODEL = ALL - {"prepare"}
TRAINED = MODEL - {"generate-base", "likelihood-base"}
ANSWERED = MODEL - {"train"}
GENERATED = frozenset(["generate-base", "generate-tuned", "score", "compare"])
SCORED = frozenset(["score", "compare"])

ROWS = '{"q": "one", "a": "<p>1</p>"}\n\n{"q": "two", "a": "<p>2</p>"}\n'
TASK = """
name = "rows"
template = "{}"
scorers = ["exact_match"]
[data]
hub = "nobody/nothing"
[columns]
prompt = "q"
target = "a"
"""


class World:
    """A registry with two tasks, a model's folder and a file of rows; what `plan_runs` reads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry = make_registry(root / "registry", validation=0.2)
        self.task = self.registry / "tasks" / "words" / "task.toml"
        self.recipe = self.registry / "recipes" / "tiny.toml"
        self.model = self.registry / "models" / "mine.toml"
        self.model.parent.mkdir()
        self.model.write_text(
            'name = "mine"\nparameters = 1000\n[source]\nkind = "local"\npath = "."\n'
        )
        rows = self.registry / "tasks" / "rows"
        rows.mkdir()
        (rows / "task.toml").write_text(TASK)
        self.weights = root / "weights"
        self.weights.mkdir()
        for name, text in {
            "config.json": '{"model_type": "llama"}',
            "generation_config.json": '{"eos_token_id": 0}',
            "model.safetensors": "tensors",
            "tokenizer.json": "{}",
            "tokenizer_config.json": "{}",
        }.items():
            (self.weights / name).write_text(text)
        self.rows = root / "rows.jsonl"
        self.rows.write_text(ROWS)
        self.options: dict[str, Any] = {}

    def keys(self, task: str = "words") -> dict[str, str]:
        """The keys of a run, and the name of its folder as "folder"."""
        run = self.run(task)
        return {**run.keys, "folder": digest(run.identity)}

    def run(self, task: str = "words") -> Run:
        options = {
            "models": ("mine",),
            "tasks": (task,),
            "recipe": "tiny",
            "registry": self.registry,
            "weights": {"mine": str(self.weights)},
            "data": {"rows": str(self.rows)} if task == "rows" else {},
            **self.options,
        }
        (run,) = plan_runs(select(Options(**options)))
        return run


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return World(tmp_path)


def changed(world: World, change: Callable[[World], object], task: str = "words") -> set[str]:
    before = world.keys(task)
    change(world)
    after = world.keys(task)
    moved = {name for name in before if before[name] != after[name]}
    # Where no stage is another, the run is the same one, in the same folder.
    assert bool(moved) == ("folder" in moved)
    return moved - {"folder"}


def edit(file: str, old: str, new: str) -> Callable[[World], object]:
    """Replace `old`, which must be there, in one of the world's files; "" adds at the end."""

    def change(world: World) -> None:
        path: Path = getattr(world, file)
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1) if old else text + new)

    return change


def beside(name: str, text: str = "x", folder: str = "weights") -> Callable[[World], object]:
    """Put a file into the folder of weights, or of the task."""

    def change(world: World) -> None:
        path = (world.weights if folder == "weights" else world.task.parent) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return change


def option(**given: Any) -> Callable[[World], object]:
    return lambda world: world.options.update(given)


def recipe(line: str) -> Callable[[World], object]:
    return edit("recipe", "", f"{line}\n")


READ = (
    *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"),
    *("tokenizer_config.json", "merges.txt", "vocab.txt", "vocab.json", "spiece.model"),
    *("tokenizer.model", "tokenizer.model.v3", "chat_template.jinja", "chat_template.json"),
    *("additional_chat_templates/tool.jinja", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.4.0.0.json", "qwen.tiktoken", "tekken.json", "source.spm", "bpe.codes"),
)
IGNORED = (
    *("README.md", ".gitattributes", "LICENSE.txt", "pytorch_model.bin", "optimizer.pt"),
    *("training_args.bin", "trainer_state.json", "onnx/config.json", "onnx/model.onnx"),
    *("original/consolidated.00.pth", "original/tokenizer.model", "consolidated.safetensors"),
    *("model.gguf", "config.json~", ".config.json.swp", ".DS_Store", "modeling_mine.py"),
)
VALID = {
    "config.json": '{"model_type": "llama", "a": 1}',
    "generation_config.json": '{"eos_token_id": [0, 2]}',
    "tokenizer_config.json": '{"a": 1}',
}

TABLE: dict[str, tuple[Callable[[World], object], frozenset[str]]] = {
    # the command
    "limit": (option(limit=3), ANSWERED),
    "seed": (option(seeds=(1,)), TRAINED),
    "max steps": (option(overrides={"recipe.max_steps": 2}), TRAINED),
    "epochs": (option(overrides={"recipe.num_train_epochs": 1.0}), TRAINED),
    "quantization": (option(overrides={"recipe.quantization": "nf4"}), MODEL),
    "precision": (option(overrides={"recipe.precision": "bf16"}), MODEL),
    "precision as it was": (option(overrides={"recipe.precision": "fp32"}), NONE),
    **{
        f"set {name} to {value}": (option(overrides={name: value}), stages)
        for name, value, stages in (
            ("recipe.learning_rate", 0.02, TRAINED),
            ("recipe.learning_rate", 0.01, NONE),  # as it was
            ("recipe.lora.r", 8, TRAINED),
            ("recipe.max_length", 64, TRAINED | {"likelihood-base"}),
            ("recipe.save_steps", 3, NONE),
            ("recipe.description", "x", NONE),
            ("task.description", "x", NONE),
            ("task.template", "Do: {}", MODEL),
            ("task.decoding.max_new_tokens", 4, GENERATED),
            ("task.scorers", ["exact_match"], SCORED),
            ("task.split.validation", 0.4, ALL),
            ("task.data.train", 11, ALL),
        )
    },
    "memory": (option(max_memory=2**30), NONE),
    "sinks": (option(report_to=("wandb",)), NONE),
    "verify": (option(verify=True), NONE),
    "where runs are": (option(runs=Path("there"), results=Path("here")), NONE),
    # the recipe
    "learning rate": (edit("recipe", "0.01", "0.02"), TRAINED),
    "rank": (recipe("[lora]\nr = 8"), TRAINED),
    "max length": (recipe("max_length = 64"), TRAINED | {"likelihood-base"}),
    "eval steps": (recipe("eval_steps = 2"), TRAINED),
    "eval samples": (recipe("eval_samples = 2"), TRAINED),
    "logging steps": (recipe("logging_steps = 5"), NONE),
    "save steps": (edit("recipe", "save_steps = 2", "save_steps = 3"), NONE),
    "save strategy": (edit("recipe", "save_steps = 2", 'save_strategy = "epoch"'), NONE),
    "save limit": (recipe("save_total_limit = 1"), NONE),
    "recipe's description": (recipe('description = "x"'), NONE),
    "recipe's comment": (recipe("# x"), NONE),
    # the model
    "model's description": (edit("model", "[", 'description = "x"\nlicense = "y"\n['), NONE),
    "model's parameters": (edit("model", "1000", "2000"), NONE),
    "model's path, unused": (edit("model", '"."', '"elsewhere"'), NONE),
    "weights elsewhere": (
        lambda world: (
            world.weights.rename(world.root / "moved"),
            setattr(world, "weights", world.root / "moved"),
        ),
        NONE,
    ),
    "weights touched": (lambda world: os.utime(world.weights / "model.safetensors", (1, 1)), NONE),
    # the task
    "template": (edit("task", "{}", "Do: {}"), MODEL),
    "answer's length": (edit("task", "max_new_tokens = 8", "max_new_tokens = 4"), GENERATED),
    "scorers": (edit("task", '"rouge", ', ""), SCORED),
    "what is scored": (edit("task", "[data]", 'text = "extracted"\n[data]'), SCORED),
    "validation": (edit("task", "0.2", "0.4"), ALL),
    "rows": (edit("task", "train = 12", "train = 11"), ALL),
    "task's description": (edit("task", "[data]", 'description = "x"\n[data]'), NONE),
    "task's comment": (edit("task", "", "\n# x\n\n"), NONE),
    # beside the generator, which opens no file
    "generator": (beside("generator.py", GENERATOR.format(extra="# other"), "task"), ALL),
    "generator's module": (beside("bank.py", "x = 1", "task"), ALL),
    "notes": (beside("notes.txt", folder="task"), NONE),
    "readme": (beside("README.md", folder="task"), NONE),
    "editor": (beside("generator.py~", folder="task"), NONE),
    "bytecode": (beside("__pycache__/x.pyc", folder="task"), NONE),
    # in the folder of weights
    **{f"read: {name}": (beside(name, VALID.get(name, "[1]")), MODEL) for name in READ},
    **{f"not read: {name}": (beside(name), NONE) for name in IGNORED},
}


@pytest.mark.parametrize("line", TABLE)
def test_each_line_of_the_table(line: str, world: World) -> None:
    change, wanted = TABLE[line]
    assert changed(world, change) == wanted


def test_a_field_that_is_set_is_keyed_like_one_of_the_file(world: World) -> None:
    world.options["overrides"] = {"recipe.lora.r": 8, "task.decoding.max_new_tokens": 4}
    given = world.keys()
    del world.options["overrides"]
    recipe("[lora]\nr = 8")(world)
    edit("task", "max_new_tokens = 8", "max_new_tokens = 4")(world)
    assert world.keys() == given


DATA: dict[str, tuple[str, str, bool]] = {
    "a row": ("rows.jsonl", ROWS + '{"q": "three", "a": "3"}\n', True),
    "a value": ("rows.jsonl", ROWS.replace("<p>1", "<p>3"), True),
    "spaces in a value": ("rows.jsonl", ROWS.replace("<p>1", "<p> 1"), True),
    "the order": ("rows.jsonl", "\n".join(reversed(ROWS.split("\n"))), True),
    "a trailing blank line": ("rows.jsonl", ROWS + "\n", False),
    "no last newline": ("rows.jsonl", ROWS.rstrip("\n"), False),
    "a mark and CRLF": ("rows.jsonl", "\ufeff" + ROWS.replace("\n", "\r\n"), False),
    "blank lines between": ("rows.jsonl", ROWS.replace("\n", "\n \n"), False),
}


@pytest.mark.parametrize("line", DATA)
def test_data_are_keyed_by_what_is_read(line: str, world: World) -> None:
    _, text, wanted = DATA[line]
    change = lambda world: world.rows.write_bytes(text.encode())  # noqa: E731
    assert changed(world, change, "rows") == (ALL if wanted else NONE)


def test_blank_lines_of_a_csv_file_count_only_within_a_cell(world: World) -> None:
    world.rows = world.root / "rows.csv"
    world.rows.write_text('q,a\none,"<p>\n\n1</p>"\n')
    assert changed(world, edit("rows", "", "\n\n"), "rows") == NONE
    assert changed(world, edit("rows", "\n\n1", "\n1"), "rows") == ALL
    assert changed(world, edit("rows", "", "two,2\n"), "rows") == ALL


def test_the_header_of_a_data_folders_readme_counts_its_prose_does_not(world: World) -> None:
    rows, world.rows = world.rows, world.root / "data"
    world.rows.mkdir()
    rows.rename(world.rows / "train.jsonl")
    readme = world.rows / "README.md"
    head = "---\nconfigs:\n- config_name: default\n  data_files: train.jsonl\n---\n"
    readme.write_text(head + "# Data\n")
    prose: Callable[[World], object] = lambda _: readme.write_text(head + "# Rows\n---\n")  # noqa: E731
    assert changed(world, prose, "rows") == NONE
    other: Callable[[World], object] = lambda _: readme.write_text(head.replace("train", "t*"))  # noqa: E731
    assert changed(world, other, "rows") == ALL
    assert changed(world, lambda w: (w.rows / ".notes").write_text("x"), "rows") == NONE


@pytest.mark.parametrize(
    "reader",
    ["open('bank.txt')", "from pathlib import Path", "import csv", "exec('')", "x = __file__"],
)
def test_a_generator_that_can_open_files_is_keyed_by_what_lies_beside_it(
    reader: str, world: World
) -> None:
    beside("generator.py", GENERATOR.format(extra=reader), "task")(world)
    assert changed(world, beside("bank.txt", folder="task")) == ALL
    assert changed(world, beside("README.md", folder="task")) == NONE
    assert changed(world, beside(".bank.txt.swp", folder="task")) == NONE


def test_blank_lines_of_a_script_do_not_count(world: World) -> None:
    says = world.root / "says.jsonl"
    says.write_text('{"arm": "base", "text": "a"}\n')
    world.options.update(models=("scripted",), weights={"scripted": str(says)})
    assert changed(world, lambda _: says.write_text(says.read_text() + "\n\n")) == NONE
    assert changed(world, lambda _: says.write_text('{"arm": "base", "text": "b"}\n')) == MODEL


# --- libraries and code ----------------------------------------------------------------------

UNDER = {
    "datasets": ALL,
    "pyarrow": ALL,
    "torch": MODEL,
    "transformers": MODEL,
    "tokenizers": MODEL,
    "safetensors": MODEL,
    "accelerate": MODEL,
    "peft": MODEL,
    "bitsandbytes": MODEL,
    "soupsieve": SCORED,
    "beautifulsoup4": SCORED,
    "html5lib": SCORED,
    "rapidfuzz": SCORED,
    "numpy": ALL,
    "rouge-score": NONE,  # only tests and benchmarks have it
    "gguf": NONE,
    "sentencepiece": NONE,  # there is a tokenizer.json
    "pytest": NONE,
}


@pytest.mark.parametrize("package", UNDER)
def test_each_package_is_in_the_keys_of_what_uses_it(
    package: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = machine.version_of

    def newer(_: World) -> None:
        for module in (plan, stage_module):
            monkeypatch.setattr(module, "version_of", lambda n: "9" if n == package else version(n))

    assert changed(world, newer) == UNDER[package]


def test_pythons_minor_version_is_in_every_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def python(version: str) -> Callable[[World], object]:
        parts = tuple(version.split("."))
        return lambda _: monkeypatch.setattr(platform, "python_version_tuple", lambda: parts)

    python("3.11.7")(world)
    assert changed(world, python("3.11.8")) == NONE
    assert changed(world, python("3.12.0")) == ALL


def test_samples_add_what_writes_and_scores_them_to_train(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert changed(world, edit("task", "max_new_tokens = 8", "max_new_tokens = 7")) == GENERATED
    recipe("eval_samples = 2")(world)
    shorter = edit("task", "max_new_tokens = 7", "max_new_tokens = 6")
    assert changed(world, shorter) == TRAINED | GENERATED


def test_a_tokenizer_that_is_converted_at_loading_is_keyed_by_what_converts_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.weights / "tokenizer.json").rename(world.weights / "tokenizer.model")
    names = world.run().weights["libraries"]
    assert {"torch", "sentencepiece", "tiktoken", "protobuf"} <= names.keys()
    assert "gguf" not in names
    newer = lambda _: monkeypatch.setattr(plan, "version_of", lambda name: f"9 {name}")  # noqa: E731
    assert changed(world, newer) == MODEL


def test_what_changes_no_file_is_a_setting_that_there_is() -> None:
    assert UNKEYED["recipe"] < set(RecipeConfig.model_fields)
    assert UNKEYED["task"] < set(TaskConfig.model_fields)


# --- seals -----------------------------------------------------------------------------------


def settle(*files: Path) -> None:
    """Give files an age: what was changed a moment ago is not taken as known."""
    for file in files:
        os.utime(file, (1_000_000, 1_000_000))
    time.sleep(0.06)  # the time of that change itself cannot be set


def test_local_weights_are_hashed_once_and_again_with_verify(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    read = checksums.file_digest
    monkeypatch.setattr(
        checksums, "file_digest", lambda path, **how: hashed.append(path.name) or read(path)
    )
    settle(*world.weights.iterdir())
    first = world.keys()
    assert sorted(hashed) == sorted(f.name for f in world.weights.iterdir())
    hashed.clear()
    assert world.keys() == first
    assert hashed == []
    world.options["verify"] = True
    assert world.keys() == first
    assert len(hashed) == 5
    del world.options["verify"]
    hashed.clear()
    (world.weights / "model.safetensors").write_text("tensorS")  # as long as before
    os.utime(world.weights / "model.safetensors", (1_000_000, 1_000_000))
    assert world.keys() != first
    assert hashed == ["model.safetensors"]


def test_a_flipped_bit_that_no_time_tells_of_is_found_with_verify(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(*world.weights.iterdir())
    first = world.keys()
    stamp, file = checksums._stamp, world.weights / "model.safetensors"
    before = stamp(file)
    file.write_text("tensorS")
    monkeypatch.setattr(checksums, "_stamp", lambda f: before if f == file else stamp(f))
    assert world.keys() == first
    world.options["verify"] = True
    second = world.keys()
    assert {name for name in first if first[name] != second[name]} == {*MODEL, "folder"}
    del world.options["verify"]
    assert world.keys() == second


def test_a_cache_that_cannot_be_written_costs_time_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(*world.weights.iterdir())
    first = world.keys()
    (world.root / "file").write_text("")
    monkeypatch.setenv("HARNESS_CACHE", str(world.root / "file" / "cache"))
    assert world.keys() == first
    monkeypatch.setenv("HARNESS_CACHE", str(world.root / "cache"))
    for content in ("", "[]", '{"files": 1}', '{"files": {"config.json": 1}}', "[" * 100_000):
        for seal in (world.root / "cache" / "seals").iterdir():
            seal.write_text(content)
        assert world.keys() == first


def test_seals_of_folders_that_are_gone_go(world: World) -> None:
    settle(*world.weights.iterdir())
    world.keys()
    (seal,) = (world.root / "cache" / "seals").iterdir()
    assert json.loads(seal.read_text())["folder"] == str(world.weights)
    world.weights = world.weights.rename(world.root / "moved")
    settle(*world.weights.iterdir())
    world.keys()
    (other,) = (world.root / "cache" / "seals").iterdir()
    assert other != seal
