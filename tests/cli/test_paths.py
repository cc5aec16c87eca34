"""Paths that a user gives: whatever they are, one sentence and exit 2, and nothing hangs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.backends.scripted import ScriptedBackend
from harness.errors import DataError
from harness.host.paths import expanded, no_file, no_folder
from harness.models import sanity
from tests.support.commands import ROOT, Commands, make_registry, write_script

TABLE = ROOT / "results" / "default" / "comparison.csv"
LONG = "a" * 300
DEEP = "/".join(["d" * 199] * 18)  # 3,600 characters


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder with one of everything that is no plain file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    return tmp_path


def test_what_a_path_is(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert no_file(odd / "file") is None
    assert no_folder(odd / "folder") is None
    assert no_file(odd / "folder") == "is a folder"
    assert no_file(odd / "pipe") == "is a named pipe"
    assert no_folder(odd / "file") == "is not a folder"
    for look in (no_file, no_folder):
        assert look(odd / "nowhere") == "does not exist"
        assert look(odd / "file" / "below") == "does not exist"
        assert look(odd / LONG) == "cannot be read (File name too long)"
        assert look(odd / "loop") == "cannot be read (Too many levels of symbolic links)"
        assert look(Path("a\0b")) == "cannot be read (embedded null byte)"
    monkeypatch.setenv("HOME", "/home/someone")
    assert expanded("~/x") == Path("/home/someone/x")


@pytest.mark.parametrize("path", [LONG, DEEP, "pipe", "loop", "nowhere", "file", "folder"])
def test_every_option_that_takes_a_path(path: str, commands: Commands, odd: Path) -> None:
    scripted = ["run", "--models", "scripted", "--tasks", "html_blocks", "--recipe", "quick"]
    says = write_script(odd / "says.jsonl")
    answered = [*scripted, "--weights", f"scripted={says}", "--dry-run"]
    taken = {  # options that take such a thing
        "folder": ("--runs", "--results", "--registry", "--out", "list"),
        "nowhere": ("--runs", "--results", "--out", "list"),
        DEEP: (
            "--runs",
            "--results",
            "--out",
            "list",
        ),  # long, and yet within what the system takes
    }.get(path, ())
    answers = odd / "answers.jsonl"
    answers.write_text('{"prediction": "a", "reference": "a"}\n')
    for name, argv in {
        "score": ["score", path],
        "--predictions": ["score", "--predictions", path],
        "compare a": ["compare", path, answers],
        "compare b": ["compare", answers, f"{path}:base"],
        "check": ["check", "--results", path, "--baseline", TABLE],
        "--baseline": ["check", "--results", TABLE, "--baseline", path],
        "--weights": [*scripted, "--weights", f"scripted={path}"],
        "weights": ["run", "--models", "falcon7b", "--weights", f"falcon7b={path}"],
        "--registry": [*answered, "--registry", path],
        "--runs": [*answered, "--runs", path],
        "--results": [*answered, "--results", path],
        "list": ["list", "runs", "--runs", path],
        "--out": ["score", "--predictions", answers, "--scorers", "answers", "--out", path],
    }.items():
        if name in taken:
            continue
        outcome = commands.run(odd, *argv)
        assert outcome.status == 2, (name, outcome)
        assert outcome.stdout == "", (name, outcome)
        said = outcome.stderr.splitlines()
        assert all(line.startswith("harness: ") and len(line) < 700 for line in said), outcome
    assert not (odd / "runs").exists()
    assert not (odd / "results").exists()


def test_a_home_folder_in_every_path(commands: Commands, tmp_path: Path) -> None:
    home, registry = tmp_path / "home", make_registry(tmp_path / "home" / "registry")
    write_script(home / "says.jsonl")
    (registry / "models").mkdir()
    (registry / "models" / "mine.toml").write_text(
        'name = "mine"\nparameters = 0\n[source]\nkind = "scripted"\npath = "~/says.jsonl"\n'
    )
    words = ["run", "--models", "mine", "scripted", "--tasks", "words", "--recipe", "tiny"]
    places = ["--registry=~/registry", "--runs=~/runs", "--results=~/results"]
    weights = ["--weights", "scripted=~/says.jsonl"]
    outcome = commands.run(tmp_path, *words, *places, *weights, HOME=str(home))
    assert outcome.status == 0, outcome.output
    assert (home / "results" / "comparison.csv").is_file()
    assert not (tmp_path / "~").exists()
    run = next((home / "runs").glob("mine/*/*")).relative_to(home)
    scored = commands.run(tmp_path, "score", f"~/{run}", "--out=~/out", HOME=str(home))
    assert scored.status == 0, scored.output
    assert (home / "out" / "tuned" / "summary.json").is_file()


def test_a_name_that_is_no_utf_8(commands: Commands, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jsonl")
    (tmp_path / name).write_text('{"prediction": "a", "reference": "a"}\n')
    for argv in (["score", "--predictions", name], ["compare", name, name]):
        outcome = commands.run(tmp_path, *argv, "--scorers", "exact_match", "--out", "out")
        assert outcome.status == 0, outcome.output
    assert (tmp_path / "out" / "comparison.md").is_file()


# --- the scripted model's answers ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"arm": "base", "text": "a", "id": [1]}', "line 1 is no answer"),
        ('\n{"arm": "base", "text": "a", "id": true}', "line 2 is no answer"),
        ('{"arm": "base", "text": "a", "finish_reason": "eos"}', "line 1 is no answer"),
        ('{"arm": ["base"], "text": "a"}', "line 1 is no answer"),
        ("7", "line 1 is no answer"),
        ('{"arm": "base", "text": "a", "id": 1' + "0" * 5000 + "}", "line 1 is no answer"),
        ('{"arm": "base", "text": "a"}\n{"arm": "base", "text": "b"}', "as line 1"),
        ('{"arm": "base", "text": "", "id": 1}\n{"arm": "base", "text": "", "id": "1"}', "as line"),
        ("\n", "holds no answer"),
    ],
)
def test_answers_that_are_none(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "says.jsonl").write_text(text)
    with pytest.raises(DataError, match=told):
        ScriptedBackend(tmp_path / "says.jsonl")


def test_answers_with_a_mark_and_other_ends_of_lines(tmp_path: Path) -> None:
    rows = [{"arm": "base", "text": "a\u2028b\x85c", "id": 7}, {"arm": "tuned", "text": "d"}]
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "says.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    answers = ScriptedBackend(tmp_path / "says.jsonl")._answers
    assert answers["base", "7"]["text"] == "a\u2028b\x85c"
    assert answers["tuned", None]["text"] == "d"


# --- a model's folder ------------------------------------------------------------------------


def folder_of(path: Path, config: dict[str, object], **shapes: list[int]) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    with (path / "model.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)
    return path


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"num_hidden_layers": 1_000_000}, "num_hidden_layers is 1000000"),
        ({"n_layer": 0}, "n_layer is 0"),
        ({"max_position_embeddings": -5}, "max_position_embeddings is -5"),
        ({"hidden_size": "64"}, 'hidden_size is "64", not a whole number'),
        ({"vocab_size": 10**9}, "vocab_size is 1000000000"),
        ({"vocab_size": True}, "vocab_size is true"),
        ({"text_config": {"num_hidden_layers": 5000}}, "text_config.num_hidden_layers is 5000"),
    ],
)
def test_a_configuration_that_no_model_has(
    config: dict[str, object], told: str, tmp_path: Path
) -> None:
    fault = sanity.fault(folder_of(tmp_path, config, w=[4, 4]), None)
    assert fault is not None
    assert told in fault


def test_registered_parameters_are_held_to_the_files(tmp_path: Path) -> None:
    sizes = {"embed.weight": [30_000, 1_000], "lm_head.weight": [30_000, 1_000]}
    folder = folder_of(tmp_path, {"intermediate_size": [8, 16], "head_dim": None}, **sizes)
    for fine in (None, 60_000_000, 65_000_000, 30_000_000, 28_000_000):  # tied or not
        assert sanity.fault(folder, fine) is None
    for wrong in (7_000_000_000, 1):
        fault = sanity.fault(folder, wrong)
        assert fault is not None
        assert "write parameters = 60000000" in fault
    folder_of(tmp_path, {"tie_word_embeddings": False}, **sizes)
    assert sanity.fault(folder, 30_000_000) is not None
    folder_of(tmp_path, {"quantization_config": {"bits": 4}}, **sizes)
    assert sanity.fault(folder, 7_000_000_000) is None
    small = folder_of(tmp_path, {}, w=[100])
    assert sanity.fault(small, 1) is None  # no plan depends on it


def test_files_of_weights_that_are_not_whole(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {}, w=[100])
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for raw, told in (
        (b"x" * 100, "its beginning is damaged"),
        (b"", "its beginning is damaged"),
        (whole[:-1], "is cut off"),
        (whole + b"\0", "longer than its header says"),
        (whole.replace(b"BF16", b"BF1\xff"), "its header is damaged"),
        (whole.replace(b'"shape": [100]', b'"shape": [-10]'), "its header is damaged"),
    ):
        weights.write_bytes(raw)
        fault = sanity.fault(folder, None)
        assert fault is not None
        assert told in fault
    weights.unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"w": "model-1.safetensors"}}')
    named = "lacks model-1.safetensors, which model.safetensors.index.json names (1 of 1 files"
    assert named in (sanity.fault(folder, None) or "")
    index.write_text("[]")
    named = "has a model.safetensors.index.json that is an empty list and not an object"
    assert named in (sanity.fault(folder, None) or "")
