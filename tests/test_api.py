"""`import harness`: what it costs, what it offers, and that it says what the command line says."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
from harness.backends.scripted import ScriptedBackend
from harness.config.registry import Registry
from harness.config.schema import GgufPackageSource
from harness.errors import DataError, MissingError, RunError, UsageError
from harness.host.checksums import write_seal
from harness.inference.one_prompt import greedy
from harness.models.locate import CONVERTED_SEAL, converted_folder
from harness.reports import parse_comparison_csv
from tests.support.commands import HEAVY, ROOT, Commands, files_under, make_registry, write_script
from tests.support.tiny import FAMILIES, byte_tokenizer, save_tiny, tiny_model

BLOCK = """\
import harness

result = harness.run(limit=8, set={"max_steps": 4})  # what `python -m harness run` does
run = result.runs[0]  # or harness.load_run("runs/MODEL/TASK/RECIPE-seed0-KEY")
print(run.comparison[["metric", "base", "tuned", "delta", "p_value"]])
print(run.predictions[["prompt", "reference", "base", "tuned"]])
print(harness.inference("A heading that says hello.", run))

a = harness.score(["<p>Hi", "<b>no</b>"], ["<p>Hi</p>", "<b>yes</b>"])
b = harness.score(["<p>Hi</p>", "<b>yes</b>"], ["<p>Hi</p>", "<b>yes</b>"])
print(harness.compare(a, b)[["metric", "a", "b", "delta", "p_value"]])
"""
"""The README's block on Python."""

REFERENCES = ["<p>sun</p>", "<p>sea</p>", "<b>oak</b>", "<i>fox</i>"]
A = ["<p>sun</p>", "<p>\ud800 sea</p>", "", "<i>fox"]
B = ["<p>sun</p>", "<p>sea</p>", "<b>oak", "no"]
ASSERTIONS: list[list[dict[str, Any]]] = [[{"selector": "p", "count": 1}], [], [], []]


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of a run that needs no model; the working folder is a fresh one."""
    registry = make_registry(tmp_path / "registry")
    weights = {"scripted": write_script(tmp_path / "says.jsonl")}
    monkeypatch.chdir(tmp_path)
    named: dict[str, Any] = {"models": "scripted", "tasks": ["words"], "recipe": "tiny"}
    return {**named, "weights": weights, "registry": registry}


# --- the package -----------------------------------------------------------------------------


def test_importing_it_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys, harness; harness.errors.DataError, harness.HarnessError, dir(harness)\n"
        "harness.inference\n"
        "print(*(n.split('.')[0] for n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {*HEAVY, "pandas", "tqdm", "filelock"} & {*done.stdout.split()}


def test_it_offers_what_it_names_and_its_types() -> None:
    for name in harness.__all__:
        assert getattr(harness, name) is not None
        assert name in dir(harness)
    assert (ROOT / "harness" / "py.typed").is_file()
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = harness.nothing_such  # type: ignore[attr-defined]
    import_module("harness.inference.kv_cache")  # it puts the package into the name's place
    assert callable(harness.inference)


# --- score and compare -----------------------------------------------------------------------


def _file(path: Path, answers: list[str], **columns: Any) -> Path:
    rows = [
        {"prediction": p, "reference": r, **{key: each[at] for key, each in columns.items()}}
        for at, (p, r) in enumerate(zip(answers, REFERENCES, strict=True))
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_score_says_what_the_command_says(commands: Commands, tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "prompt": ["a", "b", "c", "d"],
        "id": [1, 2, "x", "y"],
        "group": ["g", "g", "", None],
        "finish_reason": ["stop", "length", None, None],
        "assertions": ASSERTIONS,
    }
    path = _file(tmp_path / "a.jsonl", A, **columns)
    outcome = commands.run(tmp_path, "score", "--predictions", path, "--out", "out")
    assert outcome.status == 0, outcome.output
    before = {*files_under(tmp_path)}
    scores = harness.score(
        A,
        REFERENCES,
        columns["prompt"],
        ids=columns["id"],
        groups=columns["group"],
        finish_reasons=columns["finish_reason"],
        assertions=ASSERTIONS,
    )
    assert {*files_under(tmp_path)} == before
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {row.metric: row.to_json() for row in scores.rows} == summary["metrics"]
    lines = [json.loads(li) for li in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()]
    assert [one.scores for one in scores.scored] == [line["scores"] for line in lines]
    assert scores.values["exact_match"] == [1.0, 0.0, 0.0, 0.0]
    assert scores["exact_match"].mean == 0.25
    assert list(scores.samples["prediction"]) == A
    assert list(scores.samples["rouge1"]) == scores.values["rouge1"]
    assert dict(zip(scores.summary["metric"], scores.summary["mean"], strict=True))[
        "exact_match"
    ] == pytest.approx(0.25)
    assert "exact_match" in str(scores)
    with pytest.raises(KeyError, match="rouge9"):
        scores["rouge9"]


@pytest.mark.parametrize("by_id", [True, False])
def test_compare_says_what_the_command_says(
    by_id: bool, commands: Commands, tmp_path: Path
) -> None:
    ids = ["1", "2", "3", "4"] if by_id else None
    groups = ["g", "g", "", "h"]
    given: dict[str, Any] = {"group": groups} | ({"id": ids} if ids else {})
    first = _file(tmp_path / "a.jsonl", A, **given)
    second = _file(tmp_path / "b.jsonl", B, **given)
    outcome = commands.run(tmp_path, "compare", first, second, "--out", "out")
    assert outcome.status == 0, outcome.output
    wanted = parse_comparison_csv((tmp_path / "out" / "comparison.csv").read_text("utf-8"))

    a = harness.score(A, REFERENCES, ids=ids, groups=groups)
    turn = slice(None, None, -1 if by_id else 1)  # what has ids may come in any order
    b = harness.score(B[turn], REFERENCES[turn], ids=ids and ids[turn], groups=groups[turn])
    rows = harness.compare(a, b).to_dict("records")
    assert len(rows) == len(wanted)
    for row, line in zip(rows, wanted, strict=True):
        assert (row["metric"], row["a"], row["b"]) == pytest.approx(
            (line.metric, line.base, line.tuned), nan_ok=True
        ) or line.base is None
        for name in ("n", "wins", "ties", "losses", "signature", "direction"):
            assert row[name] == getattr(line, name), (row["metric"], name)
        for name in ("delta", "ci_low", "ci_high", "p_value", "p_adjusted"):
            value = getattr(line, name)
            assert (row[name] != row[name]) if value is None else row[name] == value


def test_without_pandas_rows_are_dicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    a, b = (harness.score(x, REFERENCES, scorers="exact_match") for x in (A, B))
    assert a.samples[0]["exact_match"] == 1.0
    row = next(row for row in harness.compare(a, b) if row["metric"] == "exact_match")
    assert (row["a"], row["b"], row["delta"]) == (0.25, 0.5, 0.25)
    assert (row["wins"], row["ties"], row["losses"]) == (1, 3, 0)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (("<p>", ["a"]), DataError, "'prediction' is a string: give a list"),
        ((["a"], ["a", "b"]), DataError, "1 of 'prediction', 2 of 'reference'"),
        ((["a", 2], ["a", "b"]), DataError, "sample 2: 'prediction' is a number"),
        ((["a", None], ["a", "b"]), DataError, "sample 2 has no 'prediction'"),
        (([], []), DataError, "there is no sample"),
        ((["a"], ["a"], None, ["rogue"]), UsageError, "did you mean 'rouge'?"),
        ((["a"], ["a"], None, None, "cooked"), UsageError, "give 'raw' or 'extracted'"),
    ],
)
def test_score_refuses(given: tuple[Any, ...], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said.replace("?", r"\?")):
        harness.score(*given)


def test_compare_refuses_what_does_not_pair() -> None:
    def scores(answers: list[str], scorers: str = "exact_match", **more: Any) -> harness.Scores:
        return harness.score(answers, REFERENCES[: len(answers)], scorers=scorers, **more)

    whole = scores(A)
    with pytest.raises(DataError, match="A has 4 samples and B 3: "):
        harness.compare(whole, scores(A[:3]))
    with pytest.raises(UsageError, match="no metric in common"):
        harness.compare(whole, scores(A, "rouge"))
    with pytest.raises(UsageError, match="on one side and exact_match"):
        harness.compare(whole, scores(A, text="extracted"))
    with pytest.raises(UsageError, match="score the predictions first"):
        harness.compare(whole, A)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="only one side has assertions for sample '1'"):
        harness.compare(whole, scores(A, assertions=ASSERTIONS))


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "import harness\n"
        "print(harness.score(['<p>a</p>'] * 70, ['<p>a</p>'] * 70)['exact_match'].mean)\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout) == (0, "1.0\n"), done.stderr


# --- run and load_run ------------------------------------------------------------------------


def test_run_does_what_the_command_does(
    scripted: dict[str, Any],
    commands: Commands,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    result = harness.run(**scripted, seeds=[0, 1], limit=5, set={"lora.r": 4})
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert capfd.readouterr().out == ""
    assert result.status == "done"
    assert [run.manifest["seed"] for run in result.runs] == [0, 1]
    rows = parse_comparison_csv((result.folder / "comparison.csv").read_text("utf-8"))
    assert [row.to_json() for row in result.rows] == [row.to_json() for row in rows]
    assert {*result.comparison["seed"]} == {0, 1, "all"}
    made_by = json.loads((result.folder / "command.json").read_text())["command"]
    assert made_by.startswith("harness.run(models='scripted', tasks=['words'], recipe='tiny', ")
    assert "seeds=[0, 1], limit=5, set={'lora.r': 4}" in made_by

    words = ["run", "--models", "scripted", "--tasks", "words", "--recipe", "tiny", "--seeds", 0, 1]
    words += ["--registry", scripted["registry"], "--limit", 5, "--set", "lora.r=4"]
    words += ["--weights", f"scripted={scripted['weights']['scripted']}"]
    outcome = commands.run(tmp_path, *words)
    assert outcome.status == 0, outcome.output
    assert outcome.stderr.count("done before") == 2
    assert f"written: results/{result.folder.name}" in outcome.stdout


def test_a_run_is_read_as_tables(scripted: dict[str, Any]) -> None:
    (made,) = harness.run(**scripted).runs
    run = harness.load_run(made.path)
    assert (run.status, run.error) == ("done", None)
    assert run.manifest["model"] == "scripted"
    predictions = run.predictions
    assert list(predictions["tuned"]) == list(predictions["reference"])
    assert {*predictions["base"]} == {"<p>no</p>"}
    assert predictions["prompt"][0].startswith("say ")
    assert {*predictions["base_finish_reason"]} == {"stop"}
    scores = run.scores
    assert {*scores["system"]} == {"base", "tuned", "reference", "nearest"}
    tuned = scores[scores["system"] == "tuned"]
    assert list(tuned["id"]) == list(predictions["id"])
    assert {*tuned["exact_match"]} == {1.0}
    assert tuned["cross_entropy"].notna().all()
    assert scores[scores["system"] == "nearest"]["cross_entropy"].isna().all()
    (row,) = run.comparison.query("metric == 'exact_match'").to_dict("records")
    assert (row["base"], row["tuned"], row["wins"]) == (0.0, 1.0, 6)
    assert {*run.systems["system"]} == {"base", "tuned", "reference", "nearest"}
    with pytest.raises(UsageError, match="trained no adapter"):
        harness.inference("say sun", run)


def test_a_failed_run_is_a_result_and_a_wrong_call_an_error(
    scripted: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"models": "nope", "weights": {}}, "there is no model named nope"),
        ({"models": []}, "`models` is"),
        ({"set": {"learning_rte": 1}}, "did you mean learning_rate"),
        ({"set": {"lora.r": object()}}, "is no plain data"),
        ({"set": {"lora.r": "eight"}}, "lora.r"),
        ({"seeds": -1}, "`seeds` is -1"),
        ({"limit": 0}, "`limit` is 0"),
        ({"max_memory": 16}, "`max_memory` is 16"),
        ({"report_to": "paper"}, "known are 'wandb'"),
        ({"data": {"other": "x"}}, "--data is for 'other'"),
    ]
    for changed, said in wrong:
        with pytest.raises(UsageError, match=said):
            harness.run(**{**scripted, **changed})
    assert not (tmp_path / "runs").exists()
    with pytest.raises(UsageError, match="does not exist"):
        harness.load_run(tmp_path / "runs")

    def broken(*_: Any) -> Iterator[Any]:
        raise RunError("the script broke.")

    monkeypatch.setattr(ScriptedBackend, "generate", broken)
    result = harness.run(**scripted)
    (run,) = result.runs
    assert (result.status, run.status, run.error) == ("failed", "failed", "the script broke.")
    assert result.folder.name.endswith(".incomplete")
    assert len(result.comparison) == 0
    with pytest.raises(UsageError, match="lacks its stage compare"):
        _ = run.comparison


def test_ctrl_c_is_pythons_own_and_the_same_call_continues(
    scripted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Iterator[Any]:
        signal.raise_signal(signal.SIGINT)
        yield

    with monkeypatch.context() as patch:
        patch.setattr(ScriptedBackend, "log_likelihoods", interrupted)
        with pytest.raises(KeyboardInterrupt):
            harness.run(**scripted)
    assert harness.run(**scripted).status == "done"


# --- inference -------------------------------------------------------------------------------


def _tokens(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


@pytest.mark.parametrize("family", FAMILIES)
def test_a_foreign_model_answers_without_its_prompt(family: str) -> None:
    model, tokenizer = tiny_model(family), byte_tokenizer(adds_bos=family != "falcon")
    prompt = "### a list\n"
    ids = _tokens(tokenizer, prompt)
    answer = harness.inference(prompt, model, tokenizer, max_output_tokens=12)
    expected: list[int] = []
    while len(expected) < 12:  # greedy by its definition, each token from a fresh pass
        with torch.no_grad():
            logits = model(torch.tensor([ids + expected])).logits[0, -1]
        if int(logits.argmax()) == tokenizer.eos_token_id:
            break
        expected.append(int(logits.argmax()))
    assert answer == tokenizer.decode(expected, skip_special_tokens=True)


def test_an_answer_ends_at_every_declared_end_and_no_setting_of_sampling_counts() -> None:
    model, tokenizer = tiny_model("llama"), byte_tokenizer(adds_bos=True)
    tokens = greedy(model, _tokens(tokenizer, "a"), {0}, 12)
    assert len(tokens) == 12
    model.generation_config.eos_token_id = [200, tokens[2]]
    model.generation_config.repetition_penalty = 9.0
    model.generation_config.do_sample = True
    ended = harness.inference("a", model, tokenizer, max_output_tokens=12)
    assert ended == tokenizer.decode(tokens[: tokens.index(tokens[2])])
    assert model.generation_config.eos_token_id == [200, tokens[2]]


def test_a_long_prompt_keeps_its_bos_and_its_end() -> None:
    model, tokenizer = tiny_model("llama"), byte_tokenizer(adds_bos=True)
    seen: list[list[int]] = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"][0].tolist()), with_kwargs=True
    )
    harness.inference("begin " * 40 + "end", model, tokenizer, 8, 1)
    assert seen[0] == [1, *_tokens(tokenizer, " begin end")[1:][-7:]]
    seen.clear()
    harness.inference("x" * 3000, model, tokenizer, 2000, 100)  # the context has 1,024
    assert len(seen[0]) == 1024 - 100
    seen.clear()
    harness.inference("<bos>a<eos>", model, tokenizer, 8, 1)
    assert seen[0] == _tokens(tokenizer, "a")  # one BOS, and nothing that ends the prompt


def test_a_peft_model_in_training_is_left_in_training() -> None:
    from peft import LoraConfig, get_peft_model

    tokenizer = byte_tokenizer(adds_bos=True)
    settings = LoraConfig(task_type="CAUSAL_LM", r=4, lora_dropout=0.5, init_lora_weights=False)
    model = get_peft_model(tiny_model("llama"), settings)
    model.train()
    model.base_model.model.lm_head.eval()
    modes = [module.training for module in model.modules()]
    first = harness.inference("a", model, tokenizer, max_output_tokens=8)
    assert [module.training for module in model.modules()] == modes
    assert harness.inference("a", model, tokenizer, max_output_tokens=8) == first  # no dropout
    assert first != harness.inference("a", tiny_model("llama"), tokenizer, max_output_tokens=8)
    loss = model(torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss
    loss.backward()  # nothing of inference mode is left behind


def test_inference_refuses() -> None:
    model, tokenizer = tiny_model("falcon"), byte_tokenizer(adds_bos=False)
    for given, said in (
        ((["a"], model, tokenizer), "`text` is a list"),
        (("a", model), "`tokenizer` is missing"),
        (("a", model, tokenizer, 0), "`max_input_tokens` is 0"),
        (("a", model, tokenizer, 8, True), "`max_output_tokens` is True"),
        (("", model, tokenizer), "the prompt has no token"),
    ):
        with pytest.raises(UsageError, match=said):
            harness.inference(*given)  # type: ignore[arg-type]


def test_a_loaded_run_answers_as_it_did_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = save_tiny(tmp_path / "llama", "llama")
    registry = make_registry(tmp_path / "registry")
    (made,) = harness.run(
        "llama2-7b", "words", "tiny", weights={"llama2-7b": weights}, registry=registry
    ).runs
    run = harness.load_run(made.path)
    predictions = run.predictions
    for prompt, base, tuned in zip(
        predictions["prompt"], predictions["base"], predictions["tuned"], strict=True
    ):
        assert harness.inference(prompt, run, max_output_tokens=8) == tuned
        assert run.answer(prompt, max_output_tokens=8, system="base") == base
    with pytest.raises(UsageError, match="known are 'base', 'tuned'"):
        run.answer("say sun", system="nearest")
    with pytest.raises(UsageError, match="a tokenizer of its own"):
        harness.inference("say sun", run, byte_tokenizer(adds_bos=True))

    save_tiny(weights, "llama", seed=1)
    with pytest.raises(MissingError, match="not those that the run began with"):
        harness.load_run(made.path).answer("say sun")
    shutil.rmtree(weights)
    with pytest.raises(MissingError, match="does not exist"):
        harness.load_run(made.path).answer("say sun")


@pytest.mark.slow
def test_the_readme_shows_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The block as it stands, with a tiny model in the place of the embedded one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    source = Registry().model("gemma3-270m").source
    assert isinstance(source, GgufPackageSource)
    folder = converted_folder(source)
    folder.mkdir(parents=True)
    save_tiny(folder, "gemma3")
    write_seal(folder / CONVERTED_SEAL, folder, folder, [file.name for file in folder.iterdir()])
    exec(compile(BLOCK, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert said.count("exact_match ") == 2
    assert "[8 rows x 4 columns]" in said
    readme = (ROOT / "README.md").read_text("utf-8")
    if "import harness\n" in readme:
        assert f"```python\n{BLOCK}```" in readme
