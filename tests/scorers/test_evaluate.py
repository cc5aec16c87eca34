"""evaluate:PATH_OR_NAME: metrics of the `evaluate` library, loaded as it loads them, offline."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import harness
from harness import hub
from harness.config.scripts import resolve
from harness.errors import MissingError, UsageError
from harness.records import Sample
from harness.reports import parse_comparison_csv
from harness.scorers import get, merged, score_all
from harness.scorers.workers import pool
from tests.support.commands import make_registry, write_script

if find_spec("evaluate") is None:
    pytest.skip("the package evaluate is not installed", allow_module_level=True)
pytestmark = pytest.mark.xdist_group("evaluate")  # importing it takes seconds

ROOT = Path(__file__).parents[2]
SCRIPT = """
import math
import os
import sys
import time

import datasets
import evaluate
import numpy as np
{imports}

class {name}(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="",
            features=datasets.Features({{
                "predictions": datasets.Value({kind!r}),
                "references": {reference},
            }}),
        )

    def _compute(self, predictions, references):
        (answer,), (reference,) = predictions, references
        {body}
"""
TEXT, TEXTS = 'datasets.Value("string")', 'datasets.Sequence(datasets.Value("string"))'


@pytest.fixture(scope="module")
def library() -> ModuleType:
    return import_module("evaluate")


@pytest.fixture(scope="module", autouse=True)
def _own_cache(library: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is written to the user's cache, nothing asked of the network."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(home))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(library.config, "HF_MODULES_CACHE", str(home / "modules"))
        patch.setattr(library.config, "HF_METRICS_CACHE", str(home / "metrics"))
        patch.setattr(sys, "path", [*sys.path])
        yield


def script(folder: Path, body: str, name: str = "own", **more: str) -> str:
    """A metric's script in `folder`; the scorer's name for it."""
    given = {"imports": "", "kind": "string", "reference": TEXT, **more}
    text = SCRIPT.format(name=name.capitalize(), body=body, **given)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return f"evaluate:{folder / name}.py"


def sample(prediction: str, reference: str = "a b c") -> Sample:
    return Sample("s", "", reference, prediction)


def score(asked: str, *rows: Sample) -> Any:
    (one,) = get([asked])
    return [one.score(row) for row in rows]


@pytest.mark.slow
def test_a_local_script_scores_through_workers_as_the_library_does(
    library: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    body = """print("a metric talks"); sys.stderr.write("and warns")
        common = len(set(answer.split()) & set(reference.split()))
        return {"own": common / 3, "length": np.int64(len(answer)), "one": [0.5],
                "many": [1, 2], "text": "no", "none": None}"""
    script(tmp_path / "own", body)
    texts = ["a b c", "a x", "", "é ", "\0"]
    rows = [sample(text) for text in texts] * 10
    chosen = get(["rouge1", "evaluate:./own/own.py", "empty"])
    names = ["evaluate:own", "evaluate:own/length", "evaluate:own/one"]
    assert [m.name for m in chosen[1].metrics] == names
    found = score_all(rows, chosen)
    assert capfd.readouterr() == ("", "")
    reference = library.load(str(tmp_path / "own"), keep_in_memory=True)
    for row, one in zip(rows, found, strict=True):
        wanted = reference.compute(predictions=[row.prediction], references=[row.reference])
        expected = [wanted["own"], float(wanted["length"]), 0.5]
        assert list(one.scores) == ["rouge1", *names, "empty"]
        assert [one.scores[name] for name in names] == expected
    assert found[0].scores["evaluate:own"] == 1.0
    capfd.readouterr()
    assert found == [merged(one.score(row) for one in chosen) for row in rows]
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_names_directions_and_signatures(library: Any, tmp_path: Path) -> None:
    (one,) = get([script(tmp_path, 'return {"score": 0.5}')], "extracted")
    (metric,) = one.metrics
    code = one.scorer._code[2]  # type: ignore[attr-defined]
    assert (metric.name, metric.direction, metric.binary) == ("evaluate:own", "higher", False)
    lib = f"evaluate-{library.__version__}"
    assert str(metric.signature) == f"evaluate:own|lib:{lib}|module:{code[:12]}|text:extracted-2|v1"
    (other,) = get([script(tmp_path, 'return {"score": 0.25}')])
    assert other.metrics[0].signature != metric.signature  # other code, other number
    (rates,) = get([script(tmp_path, 'return {"wer": 0.5, "accuracy": 1}', "rates")])
    assert [(m.name, m.direction) for m in rates.metrics] == [
        ("evaluate:rates/wer", "lower"),
        ("evaluate:rates/accuracy", "higher"),
    ]
    (rate,) = get([script(tmp_path, "return {'score': 0.5}", "cer")])
    assert [(m.name, m.direction) for m in rate.metrics] == [("evaluate:cer", "lower")]


def test_references_in_lists_helpers_beside_it_and_the_folder_as_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    body = 'return {"lists": float(len(reference)), "twice": twice(answer == reference[0])}'
    imports = "from .helper import twice"
    script(folder, body, "lists", reference=TEXTS, imports=imports)
    (folder / "helper.py").write_text("def twice(x):\n    return 2.0 * x\n")
    (found,) = score(f"evaluate:{folder}", sample("x", "x"))
    assert found.scores == {"evaluate:lists": 1.0, "evaluate:lists/twice": 2.0}


def test_what_a_metric_does_to_one_sample_stays_there(tmp_path: Path) -> None:
    body = """if answer == "raise": raise KeyError("x")
        if answer == "odd": return {}
        return {"own": {"nan": math.nan, "inf": math.inf}.get(answer, 1.0)}"""
    asked = script(tmp_path, body)
    texts = ["x", "raise", "x", "odd", "nan", "inf", "\ud800", "x", "raise", "x"]
    rows = score_all([sample(text) for text in texts], get([asked]))
    assert [row.scores["evaluate:own"] for row in rows] == [
        1.0 if text == "x" else None for text in texts
    ]
    assert [row.notes.get("evaluate:own") for row in rows][1:7] == [
        "the metric failed: KeyError",
        None,
        "the metric gave no number",
        "the metric gave no finite number",
        "the metric gave no finite number",
        "the metric failed: UnicodeEncodeError",
    ]


@pytest.mark.slow
def test_a_metric_that_hangs_or_dies_is_named_without_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SECONDS", 1.0)
    body = """if answer == "die": os._exit(3)
        if answer == "hang": time.sleep(60)
        return {"own": 1.0}"""
    chosen = get([script(tmp_path, body), "empty"])
    rows = score_all([sample(text) for text in ("x", "hang", "y", "die")], chosen)
    assert [row.scores["evaluate:own"] for row in rows] == [1.0, None, 1.0, None]
    assert rows[1].notes["empty"] == "not reached: stopped after 1 s in own.py"
    assert rows[3].notes["evaluate:own"] == "its process died in own.py"


def test_random_numbers_are_the_same_in_every_process(tmp_path: Path) -> None:
    chosen = get([script(tmp_path, 'return {"own": np.random.random()}')])
    here = chosen[0].score(sample("x"))
    assert [here, here] == score_all([sample("x"), sample("y")], chosen)


@pytest.mark.parametrize(
    ("body", "more", "kind", "words"),
    [
        ("return {}", {"imports": "import no_such_x"}, MissingError, "pip install no_such_x."),
        ("import no_such_y", {}, MissingError, "pip install no_such_y."),
        ("return {'own': 'text'}", {}, UsageError, "gives no single number"),
        ("return {'own': 1}", {"kind": "int32"}, UsageError, "cannot score texts"),
        ("raise ValueError('told\\nso')", {}, UsageError, "cannot score texts (ValueError: told)"),
        ("return (", {}, UsageError, "cannot be loaded (SyntaxError"),
    ],
)
def test_a_script_that_cannot_be_used_is_one_sentence_before_any_work(
    tmp_path: Path, body: str, more: dict[str, str], kind: type[UsageError], words: str
) -> None:
    asked = script(tmp_path, body, **more)
    with pytest.raises(kind) as error:
        get([asked])
    assert type(error.value) is kind
    assert words in str(error.value)
    assert asked in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", ["./nowhere.py", "/nowhere/at_all", "nowhere.py", "."])
def test_a_path_that_is_not_there(given: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"there is no script at .*correct the path") as error:
        get([f"evaluate:{given}"])
    assert not isinstance(error.value, MissingError)


@pytest.mark.parametrize("given", ["bleu", "someone/metric"])
def test_a_name_without_the_network_says_so(given: str) -> None:
    with pytest.raises(MissingError, match="hub is not within reach; name a local script"):
        get([f"evaluate:{given}"])


def test_a_name_in_the_library_s_cache_needs_no_network(library: Any, tmp_path: Path) -> None:
    """The library keeps a hub's script as modules/evaluate_modules/metrics/KIND--NAME/HASH/."""
    cache = Path(library.config.HF_MODULES_CACHE, "evaluate_modules", "metrics")
    script(cache / "evaluate-metric--kept" / ("0" * 64), 'return {"kept": 0.5}', "kept")
    for folder in (cache, cache / "evaluate-metric--kept"):
        (folder / "__init__.py").touch()
    rows = score_all([sample("x")], get(["evaluate:kept"]))
    assert rows[0].scores == {"evaluate:kept": 0.5}


def test_a_name_that_the_hub_does_not_have(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError("Couldn't find a module script")

    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr(library, "load", load)
    with pytest.raises(UsageError, match="the hub has no metric of this name"):
        get(["evaluate:nosuch"])


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "evaluate", None)
    with pytest.raises(MissingError, match=r"pip install 'harness\[evaluate\]'"):
        get(["evaluate:bleu"])


def test_names_in_a_task_s_file_are_beside_it(tmp_path: Path) -> None:
    at = f"evaluate:{tmp_path}{os.sep}"
    assert resolve("evaluate:./own.py", tmp_path) == at + "own.py"
    assert resolve("evaluate:own.py", tmp_path) == at + "own.py"
    assert resolve("evaluate:../x/own", tmp_path / "y") == at + os.path.join("x", "own")
    for kept in ("evaluate:bleu", "evaluate:someone/metric", "rouge", at + "own.py"):
        assert resolve(kept, Path("elsewhere")) == kept


def test_neither_torch_nor_the_library_is_imported_without_need(tmp_path: Path) -> None:
    code = f"""
import sys
from importlib.util import find_spec
from harness.scorers import get, score_all
from harness.records import Sample
import harness.scorers.external.evaluate
assert "evaluate" not in sys.modules
assert "datasets" not in sys.modules
(own,) = get([{script(tmp_path, 'return {"own": 1.0}')!r}])
assert own.score(Sample("", "", "a", "a")).scores == {{"evaluate:own": 1.0}}
assert "torch" not in sys.modules
assert find_spec("transformers") is not None  # it can be imported afterwards
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_task_names_a_script_beside_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    registry = make_registry(tmp_path / "registry")
    folder = registry / "tasks" / "words"
    script(folder, 'return {"own": float(answer == reference)}')
    file = folder / "task.toml"
    text = file.read_text().replace('"exact_match"', '"exact_match", "evaluate:./own.py"')
    file.write_text(text)
    weights = {"scripted": write_script(tmp_path / "says.jsonl")}
    given = {"models": "scripted", "weights": weights, "tasks": "words", "recipe": "tiny"}
    harness.run(**given, registry=registry)
    rows = parse_comparison_csv((tmp_path / "results/comparison.csv").read_text("utf-8"))
    (row,) = [row for row in rows if row.metric == "evaluate:own"]
    assert (row.n, row.base, row.tuned, row.reference) == (6, 0.0, 1.0, 1.0)
    file.write_text(text.replace("own.py", "gone.py"))
    with pytest.raises(UsageError, match=r"gone\.py"):
        harness.run(**given, registry=registry)
