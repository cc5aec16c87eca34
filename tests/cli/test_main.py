"""The command line: what it says of bad input, of what is missing, of its plan and registry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.reports import parse_comparison_csv
from tests.support.commands import (
    ROOT,
    Commands,
    files_under,
    make_registry,
    refused,
)

VERBS = ("run", "report", "score", "compare", "check", "bench", "list", "doctor")


def nothing_written(folder: Path) -> None:
    assert not (folder / "runs").exists()
    assert not (folder / "results").exists()


# --- bad command lines -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], "VERB"),
        (["rnu"], "'rnu'"),
        (["run", "--modles", "x"], "--modles"),
        (["run", "--model", "falcon7b"], "--model"),  # no abbreviations
        (["run", "--models"], "--models"),
        (["list"], "kind"),
        (["list", "things"], "'things'"),
        (["run", "--quantization", "nf5"], "'nf5'"),
        (["run", "--precision", "fp8"], "'fp8'"),
        (["run", "--models", "falcon7"], "did you mean falcon7b?"),
        (["run", "--models", "LLAMA2-7B"], "did you mean llama2-7b?"),
        (["run", "--tasks", "html_block"], "did you mean html_blocks?"),
        (["run", "--recipe", "qick"], "did you mean quick?"),
        (["run", "--models", "scripted", "scripted"], "twice"),
        (["run", "--tasks", "html_blocks", "html_blocks"], "twice"),
        (["run", "--seeds", "1", "1"], "twice"),
        (["run", "--weights", "falcon7b=a", "falcon7b=b", "--models", "falcon7b"], "twice"),
        (["run", "--weights", "falcon7b=a"], "but this command runs"),
        (["run", "--data", "html_alpaca=a"], "but this command runs"),
        (["run", "--data", "html_alpaca"], "NAME=PATH"),
        (["run", "--data", "=x"], "NAME=PATH"),
        (["run", "--data", "html_alpaca="], "NAME=PATH"),
        (["run", "--weights", "falcon7b"], "NAME=PATH"),
        (["run", "--registry", "nowhere"], "nowhere"),
        (["doctor", "--registry", "nowhere"], "nowhere"),
        (["list", "models", "--registry", "nowhere"], "nowhere"),
        (["run", "--set", "lora.r"], "is not FIELD=VALUE"),
        (["run", "--set", "=8"], "is not FIELD=VALUE"),
        (["run", "--set", "lora.r="], "is not FIELD=VALUE"),
        (["run", "--set", "lora.rank=8"], "did you mean lora.r?"),
        (["run", "--set", "learning_rate=fast"], "--set for recipe small: learning_rate is"),
        (["run", "--dry-run", "--set", "split.test=2"], "--set for task html_blocks: split.test"),
        (["run", "--set", "scorers=['rogue']"], "--set scorers: there is no scorer 'rogue'"),
        (["run", "--max-steps", "3", "--set", "lora.r=8", "max_steps=3"], "set one field"),
        (["run", "--set", "lora.r=8", "--set", "recipe.lora.r=8"], "twice"),
        (["run", "--runs", ""], "empty path"),
        (["run", "--results", ""], "empty path"),
        (["run", "--results", "x" * 300], "too long"),
        (["run", "--runs", "x" * 300], "too long"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    argv: list[str], text: str, commands: Commands, tmp_path: Path
) -> None:
    outcome = commands.run(tmp_path, *argv)
    if "x" * 300 in argv:
        assert outcome.status == 2
        assert text in outcome.stderr
    else:
        refused(outcome, text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["..", "", "a/b", "a\\b", "CON", "con", "a\nb", "x" * 300, "-x", "a..b", "ä", "\x1b[31m"],
)
def test_a_name_that_is_none(name: str, commands: Commands, tmp_path: Path) -> None:
    for option in ("models", "tasks", "recipe"):
        outcome = commands.run(tmp_path, "run", f"--{option}={name}")
        refused(outcome, "cannot name a" if name != "-x" else "")
        assert "x" * 100 not in outcome.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--seeds", ["true", "-1", "1.5", "", "1e3", "1_0", "١", "99999999999"]),
        ("--limit", ["0", "-1", "1.5", "all"]),
        ("--max-steps", ["0", "-1", "nan"]),
        ("--epochs", ["-1", "0", "nan", "inf", "-inf", "1e400", "x"]),
    ],
)
def test_a_number_that_is_none(
    option: str, values: list[str], commands: Commands, tmp_path: Path
) -> None:
    for value in values:
        refused(commands.run(tmp_path, "run", f"{option}={value}"), option, "is not a")
    assert list(tmp_path.iterdir()) == []


def test_a_nul_in_a_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli.main import run_cli

    monkeypatch.chdir(tmp_path)
    for option in ("--models", "--tasks", "--recipe", "--registry", "--runs", "--results"):
        assert run_cli(["run", option, "a\0b"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("harness: ")
        assert len(said.splitlines()) == 1
        assert "\0" not in said
    assert list(tmp_path.iterdir()) == []


def test_data_that_is_not_there(commands: Commands, scripted: list[str], tmp_path: Path) -> None:
    missing = commands.run(
        tmp_path, *scripted, "--tasks", "html_alpaca", "--data", "html_alpaca=no/where"
    )
    refused(missing, "no/where", "--data")
    refused(commands.run(tmp_path, *scripted, "--data", "words=no/where"), "makes its own rows")
    uncached = commands.run(tmp_path, *scripted, "--tasks", "html_alpaca", "html_dataset")
    refused(uncached, "html_alpaca=PATH", "html_dataset=PATH", lines=2)
    nothing_written(tmp_path)


def test_weights_that_are_none(commands: Commands, tmp_path: Path) -> None:
    folder = tmp_path / "weights"

    def told(*texts: str) -> None:
        words = ["run", "--models", "falcon7b", "--weights", f"falcon7b={folder}"]
        words += ["--tasks", "html_blocks"]
        refused(commands.run(tmp_path, *words), "model falcon7b: ", *texts)

    told("does not exist", "falcon7b=DIR")
    folder.write_text("a file")
    told("is not a folder")
    folder.unlink()
    folder.mkdir()
    told("has no config.json")
    for garbage in ("[" * 100_000, "", "\0", '{"a": '):
        (folder / "config.json").write_text(garbage)
        told("has a config.json that is not JSON; save the model there anew")
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")
    told("has a config.json that is not JSON; save the model there anew")
    (folder / "config.json").write_text("[]")
    told("has a config.json that is an empty list and not an object; save the model there anew")
    (folder / "config.json").write_text(json.dumps({"model_type": "falcon"}))
    (folder / "pytorch_model.bin").write_bytes(b"x")
    told("has only pytorch_model.bin; other formats can hold code and are not loaded")
    (folder / "model.safetensors").write_bytes(b"x")
    told("has no tokenizer")
    script = commands.run(tmp_path, "run", "--models", "scripted")
    refused(script, "scripted=FILE.jsonl")
    nothing_written(tmp_path)


def test_weights_that_turn_out_damaged_stop_their_own_run_only(
    model_commands: Commands, scripted: list[str], tmp_path: Path
) -> None:
    folder = model_commands.save_tiny(tmp_path / "falcon", "falcon")
    (folder / "tokenizer.json").write_text("no tokenizer")
    words = [*scripted, "--weights", f"falcon7b={folder}", "--models", "falcon7b", "scripted"]
    outcome = model_commands.run(tmp_path, *words)
    assert outcome.status == 1
    assert "Traceback" not in outcome.output
    assert "failed: model falcon7b could not be loaded from" in outcome.stderr
    assert not any((tmp_path / "runs").rglob("error.txt"))  # foreseen: no trace is kept
    text = (tmp_path / "results" / "comparison.csv").read_text("utf-8")
    assert {row.model for row in parse_comparison_csv(text)} == {"scripted"}
    assert "could not be loaded" in (tmp_path / "results" / "comparison.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("learning_rat = 1e-3", ["learning_rat", "did you mean learning_rate?"]),
        ("zzz = 1", ["unknown key zzz"]),
        ('max_length = "512"', ["max_length", "512"]),
        ("max_length = true", ["max_length", "True"]),
        ("max_steps = 0", ["max_steps"]),
        ("warmup_ratio = nan", ["warmup_ratio"]),
        ("lora = { rank = 8 }", ["unknown key lora.rank; did you mean lora.r?"]),
        ("r = 8", ["unknown key r; did you mean lora.r?"]),
        ("lora = { learning_rate = 1.0 }", ["lora.learning_rate; did you mean learning_rate?"]),
        ("save_steps = " + "9" * 5000, ["an integer of thousands of digits"]),
        ("eval_steps = 0x" + "f" * 6000, ["eval_steps is an integer of more than 64 bits"]),
        ("zzz = " + "[" * 5000 + "]" * 5000, ["recipes/tiny.toml"]),
        ('optim = "sgd"', ["optim"]),
        ("num_train_epochs = ", ["TOML"]),
        ('name = "other"', ["TOML"]),  # the key is there twice
    ],
)
def test_a_recipe_with_a_fault_is_named(
    line: str, texts: list[str], commands: Commands, scripted: list[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "registry" / "recipes" / "tiny.toml"
    lines = [li for li in recipe.read_text().splitlines() if not li.startswith("num_train")]
    recipe.write_text("\n".join([*lines, line, ""]))
    refused(commands.run(tmp_path, *scripted), "recipes/tiny.toml", *texts)
    nothing_written(tmp_path)


def test_all_faults_of_a_file_are_told_at_once(
    commands: Commands, scripted: list[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "registry" / "recipes" / "tiny.toml"
    more = "learning_rates = 1\nmax_steps = 0\n[lora]\nrank = 8\ntarget_modules = 5\n"
    recipe.write_text(recipe.read_text() + more)
    outcome = commands.run(tmp_path, *scripted)
    refused(
        outcome,
        "tiny.toml: max_steps is 0, but: input should be greater than 0",
        "tiny.toml: lora.target_modules is 5, but: input should be a valid string, or input",
        "tiny.toml: unknown key lora.rank; did you mean lora.r?",
        "tiny.toml: unknown key learning_rates; did you mean learning_rate?",
        lines=4,
    )


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ('parameters = 1\nrepo = "x"\n[source]\nkind = "local"', ["key source.path is missing"]),
        ('parameters = 1\n[source]\nkind = "locl"\npath = "x"', ["source.kind is 'locl'"]),
        ('parameters = 1\n[source]\npath = "x"', ["the key source.kind is missing"]),
        (
            'parameters = "7"\npath = "x"\n[source]\nkind = "local"\npath = "x"',
            ["parameters is '7', but", "unknown key path; did you mean source.path?"],
        ),
    ],
)
def test_a_model_with_faults_is_named(
    text: str, texts: list[str], commands: Commands, tmp_path: Path
) -> None:
    models = tmp_path / "registry" / "models"
    models.mkdir(parents=True)
    (models / "mine.toml").write_text(f'name = "mine"\n{text}\n')
    outcome = commands.run(tmp_path, "list", "models", "--registry", tmp_path / "registry")
    assert outcome.status == 2
    for said in texts:
        assert f"mine.toml: {said}" in outcome.stderr or said in outcome.stderr, outcome.stderr


def test_a_task_with_a_fault_is_named(
    commands: Commands, scripted: list[str], tmp_path: Path
) -> None:
    task = tmp_path / "registry" / "tasks" / "words" / "task.toml"
    whole = task.read_text()
    for old, new, text in [
        ("{}", "no hole", "template"),
        ('"rouge"', '"rogue"', "did you mean 'rouge'?"),
        ("seed = 0", "seed = true", "data.seed"),
        ("max_new_tokens", "max_length", "decoding.max_length"),
        ('name = "words"', 'name = "word"', "make them alike"),
    ]:
        task.write_text(whole.replace(old, new))
        refused(commands.run(tmp_path, *scripted), text)
    task.write_text(whole)
    generator = task.parent / "generator.py"
    for fault in ("import nowhere", "def generate(**_): return [1]", "1 / 0", "def f("):
        generator.write_text(fault)
        outcome = commands.run(tmp_path, *scripted)
        assert outcome.status == 2
        assert "Traceback" not in outcome.output
        assert outcome.stderr.splitlines()[-1].startswith("harness: the generator")
        assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("option", ["--runs", "--results"])
def test_a_file_where_a_folder_should_be(
    option: str, commands: Commands, scripted: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/below", "file/deep/below"):
        refused(commands.run(tmp_path, *scripted, option, place), option, "'file' is not a folder")
    assert (tmp_path / "file").read_text() == "mine"
    nothing_written(tmp_path)


# --- what is missing -------------------------------------------------------------------------


def test_what_a_machine_without_gpu_and_hub_lacks(commands: Commands, tmp_path: Path) -> None:
    outcome = commands.run(tmp_path, "run", "--models", "falcon7b", "llama2-7b")
    refused(outcome, lines=4)
    models, tasks = outcome.stderr.splitlines()[:2], outcome.stderr.splitlines()[2:]
    for line, name in zip(tasks, ("html_alpaca", "html_dataset"), strict=True):  # their own
        assert line.startswith(f"harness: task '{name}' needs ")
        assert f"--data {name}=PATH" in line
    for line, name in zip(models, ("falcon7b", "llama2-7b"), strict=True):
        assert line.startswith(f"harness: model {name} needs ")
        assert "a CUDA GPU" in line
        assert f"--weights {name}=DIR" in line
    assert list(tmp_path.iterdir()) == []


# --- help, lists, doctor ---------------------------------------------------------------------


def test_help_is_light() -> None:
    """One fresh process for all verbs: what it imported, and that each says its usage."""
    program = f"""
import sys
import harness.host.machine  # of what `python -m harness` sets up before
from harness.cli.main import run_cli
for verb in ([], *([v] for v in {VERBS!r})):
    try:
        run_cli([*verb, "--help"])
    except SystemExit as end:
        assert not end.code
heavy = {{"torch", "transformers", "pydantic", "numpy", "datasets", "peft"}}
heavy = {{*heavy, "importlib.metadata", "huggingface_hub"}} & set(sys.modules)
assert not heavy, heavy
"""
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("usage: harness") == 1 + len(VERBS)
    for option in ("--models", "--seeds", "--dry-run", "--quantization", "--registry"):
        assert option in found.stdout
    assert max(map(len, found.stdout.splitlines())) <= 100


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("models", ["falcon7b", "gemma3-270m", "llama2-7b", "scripted"]),
        ("tasks", ["html_alpaca", "html_blocks", "html_dataset", "words"]),
        ("recipes", ["falcon-html", "html", "llama2-html", "quick", "small", "tiny"]),
        ("scorers", ["exact_match", "rouge", "validity", "assertions", "answers"]),
        ("runs", ["no runs in runs"]),
    ],
)
def test_list(kind: str, names: list[str], commands: Commands, tmp_path: Path) -> None:
    registry = make_registry(tmp_path / "registry")
    outcome = commands.run(tmp_path, "list", kind, "--registry", registry)
    assert outcome.status == 0, outcome.output
    lines = outcome.stdout.splitlines()
    for name in names:
        assert any(line.startswith(name) for line in lines)
    assert max(map(len, lines)) <= 100
    assert "torch" not in outcome.imported


def test_list_runs(commands: Commands, scripted: list[str], tmp_path: Path) -> None:
    assert commands.run(tmp_path, *scripted, "--seeds", 0, 1).status == 0
    title, *lines = commands.run(tmp_path, "list", "runs").stdout.splitlines()
    assert title.split()[:5] == ["run", "status", "limit", "age", "exact_match"]
    assert len(lines) == 2
    for seed, line in enumerate(sorted(lines)):
        path, status, limit, *_ = line.split()
        assert path.startswith(f"runs/scripted/words/tiny-seed{seed}-")
        assert (tmp_path / path / "manifest.json").is_file()
        assert status == "done"
        assert limit == "all"


def test_doctor_names_everything(commands: Commands, tmp_path: Path) -> None:
    registry = make_registry(tmp_path / "registry")
    outcome = commands.run(tmp_path, "doctor", "--registry", registry)
    assert outcome.status == 0, outcome.output
    for name in ("falcon7b", "gemma3-270m", "llama2-7b", "scripted"):
        assert f"model {name}" in outcome.stdout
    for name in ("html_alpaca", "html_blocks", "html_dataset", "words"):
        assert f"task {name}" in outcome.stdout
    text = " ".join(outcome.stdout.split())
    assert "hub not within reach" in text
    assert "a CUDA GPU" in text
    assert "task html_blocks ready" in text
    assert max(map(len, outcome.stdout.splitlines())) <= 100
    assert "torch" not in outcome.imported


def test_a_reader_that_has_gone() -> None:
    # Python's own flush at exit must not fail either, so output is buffered as it is by default.
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    for argv in (["list", "models"], ["run", "--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        found = subprocess.run(
            [sys.executable, "-m", "harness", *argv],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            env=buffered,
        )
        os.close(writer)
        assert (found.returncode, found.stderr) == (0, "")


# --- plans and runs --------------------------------------------------------------------------


def test_a_dry_run_only_reads(commands: Commands, scripted: list[str], tmp_path: Path) -> None:
    before = sorted(files_under(tmp_path))
    outcome = commands.run(tmp_path, *scripted, "--dry-run", "--seeds", 0, 1, "--limit", 4)
    assert outcome.status == 0, outcome.output
    assert outcome.stderr == ""
    for text in (
        "1 of 2: scripted on words, tiny, seed 0",
        "2 of 2: scripted on words, tiny, seed 1",
        "12 to train on, 0 to validate, 4 of 6 held out to answer",
        "steps    6 of 4 examples",
        "at most 32 to generate by each system",
        "disk     about",
        "cached   nothing",
    ):
        assert text in outcome.stdout
    assert sorted(files_under(tmp_path)) == before
    nothing_written(tmp_path)
    assert "torch" not in outcome.imported

    assert commands.run(tmp_path, *scripted, "--limit", 4).status == 0
    after = {path: path.stat().st_mtime_ns for path in files_under(tmp_path)}
    again = commands.run(tmp_path, *scripted, "--dry-run", "--seeds", 0, 1, "--limit", 4)
    assert again.stdout.count("cached   everything") == 1
    assert {path: path.stat().st_mtime_ns for path in files_under(tmp_path)} == after


def test_the_last_lines_name_the_report(
    commands: Commands, scripted: list[str], tmp_path: Path
) -> None:
    outcome = commands.run(tmp_path, *scripted, "--results", "mine", "--runs", "kept")
    assert outcome.status == 0, outcome.output
    assert "report: mine/comparison.md" in outcome.stdout.splitlines()[-2:]
    assert max(map(len, outcome.stdout.splitlines())) <= 100
    for name in ("comparison.csv", "comparison.md", "predictions.csv"):
        assert (tmp_path / "mine" / name).stat().st_size > 0
    assert (tmp_path / "kept" / "scripted" / "words").is_dir()
    nothing_written(tmp_path)


def test_several_tasks_and_seeds_make_one_table(
    commands: Commands, scripted: list[str], tmp_path: Path
) -> None:
    data = tmp_path / "rows.jsonl"
    rows = [
        {"instruction": f"write {w}", "input": "", "output": f"<p>{w}</p>", "response": ""}
        for w in ("owl", "elk", "bee", "hen", "cat", "dog", "yak", "ant", "eel", "gnu")
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words: list[object] = [*scripted, "--seeds", 0, 1]
    words += ["--tasks", "words", "html_alpaca", "--data", f"html_alpaca={data}"]
    outcome = commands.run(tmp_path, *words)
    assert outcome.status == 0, outcome.output
    text = (tmp_path / "results" / "comparison.csv").read_text("utf-8")
    found = {(r.task, r.seed, r.n) for r in parse_comparison_csv(text) if r.n}
    sizes = {"words": 6, "html_alpaca": 2}
    assert found == {(task, seed, n) for task, n in sizes.items() for seed in (0, 1, "all")}
    assert "- tiny, all seeds: Tuned is" in (tmp_path / "results/comparison.md").read_text("utf-8")
    # The answers do not depend on the training's seed: the base is not asked again.
    assert outcome.stages.count("prepare") == 2
    assert outcome.stages.count("generate-base") == 2
    assert outcome.stages.count("generate-tuned") == 4


def test_a_script_that_is_none(commands: Commands, scripted: list[str], tmp_path: Path) -> None:
    for text in ("nonsense", '{"arm": "both", "text": ""}', "[" * 100_000, "\x00"):
        (tmp_path / "says.jsonl").write_text(text)
        outcome = commands.run(tmp_path, *scripted)
        assert outcome.status == 2
        assert "Traceback" not in outcome.output
        assert "says.jsonl' line 1 is no answer" in outcome.stderr.splitlines()[-1]
        assert not (tmp_path / "results").exists()
