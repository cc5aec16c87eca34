"""Which code makes which stage: followed by its imports, held to what a run really loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.pipeline.options import Options
from harness.pipeline.plan import plan_runs
from harness.pipeline.selection import select
from harness.runs import code
from harness.runs.code import NO_PART, code_digest, file_of, modules_of, source_of
from harness.runs.run import Run
from harness.runs.stage import keys_of
from harness.stages import stages
from tests.support.commands import ROOT, make_registry, run_of, write_script

STAGES = {stage.name: stage for stage in stages()}
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in (ROOT / "harness").rglob("*.py")
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a model with weights, whose training shows samples."""
    root = tmp_path_factory.mktemp("run")
    registry = make_registry(root / "registry")
    model = registry / "models" / "mine.toml"
    model.parent.mkdir(exist_ok=True)
    model.write_text('name = "mine"\nparameters = 1000\n[source]\nkind = "local"\npath = "."\n')
    weights = root / "weights"
    weights.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (weights / name).write_text('{"model_type": "llama"}')
    (weights / "model.safetensors").write_text("tensors")
    options = Options(
        models=("mine",),
        tasks=("words",),
        recipe="tiny",
        registry=registry,
        weights={"mine": str(weights)},
        overrides={"recipe.eval_samples": 1},
    )
    (planned,) = plan_runs(select(options))
    return planned


def test_an_edit_changes_the_keys_of_what_it_makes_and_of_what_follows(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every module, one by one: an edited one is told by a meaning of its own."""
    meaning = code._meaning
    declared = {name: stage.modules(run)[0] for name, stage in STAGES.items()}
    following = {name: {name} for name in STAGES}
    for name, stage in STAGES.items():
        for needed in stage.needs:
            for before, after in following.items():
                if needed in after:
                    following[before].add(name)
    before = keys_of(run, stages())
    for module in MODULES:
        monkeypatch.setattr(
            code,
            "_meaning",
            lambda m, e=module: meaning(m)._replace(code="edited") if m == e else meaning(m),
        )
        after = keys_of(run, stages())
        moved = {name for name in before if before[name] != after[name]}
        made = {name for name, modules in declared.items() if module in modules}
        assert moved == {each for name in made for each in following[name]}, module


def test_a_comment_is_no_edit_and_a_statement_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    text = source_of("harness.training.loss").decode()
    first, _, rest = text.partition("def ")
    other = {
        "comment": text + "\n# A remark.\n",
        "docstring": text.replace('"""', '"""Well: ', 1),
        "a note below a name": text + '\n"""A note."""\n',
        "blank lines": f"{first}\n\n\ndef {rest}",
    }

    def digest_of(source: str) -> str:
        monkeypatch.setattr(code, "source_of", lambda module: source.encode())
        code._meaning.cache_clear()
        return code_digest(["harness.training.loss"])

    try:
        same = digest_of(text)
        for what, source in other.items():
            assert digest_of(source) == same, what
        for source in (text + "\nx = 1\n", text.replace("def ", "def other_", 1)):
            assert digest_of(source) != same
    finally:
        code._meaning.cache_clear()


def test_what_is_declared_is_there_and_used(run: Run) -> None:
    for name, stage in STAGES.items():
        _, packages = stage.modules(run)
        roots = set(stage.code(run))
        assert all(file_of(root) for root in roots), name
        assert packages <= {*sys.stdlib_module_names, *THIRD}, (name, packages)
        everything, _ = modules_of(roots)
        for module in stage.apart:
            assert module in everything, (name, module)
    for part in NO_PART:
        assert part in MODULES, part
    assert not any(module.startswith("harness.inference") for module in train_modules(run))


@pytest.mark.parametrize(
    ("stage", "module"),
    [
        ("score", "harness.runs.view"),  # what a stage reads of another's files
        ("compare", "harness.host.text"),  # what a cell of predictions.csv becomes
        ("train", "harness.training.schedule"),
        ("prepare", "harness.data.words"),
    ],
)
def test_what_shapes_the_bytes_of_a_file_is_a_part(stage: str, module: str, run: Run) -> None:
    assert module in STAGES[stage].modules(run)[0]


THIRD = frozenset(
    [
        *("accelerate", "bitsandbytes", "bs4", "datasets", "gguf", "html5lib", "numpy", "peft"),
        *("pyarrow", "rapidfuzz", "safetensors", "soupsieve", "torch", "tqdm", "transformers"),
        "triton",
    ]
)


def train_modules(run: Run) -> frozenset[str]:
    """What makes an adapter of a run that shows no samples."""
    recipe = run.recipe.model_copy(update={"eval_samples": 0})
    quiet = Run(
        **{
            **{name: getattr(run, name) for name in Run.__dataclass_fields__},
            "recipe": recipe,
        }
    )
    return STAGES["train"].modules(quiet)[0]


def test_what_a_run_loads_is_declared(run: Run, tmp_path: Path) -> None:
    """All modules of this project that a whole run has loaded, scorers' processes aside."""
    registry = make_registry(tmp_path / "registry")
    words = run_of(registry, {"scripted": write_script(tmp_path / "says.jsonl")})
    script = (
        "import json, sys; from harness.cli.main import run_cli; status = run_cli(sys.argv[1:])\n"
        "print(json.dumps([n for n in sys.modules if n.split('.')[0] == 'harness']))\n"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    declared = frozenset().union(*(stage.modules(run)[0] for stage in stages()))
    around = (*NO_PART, "harness.cli", "harness.executors", "harness.backends.scripted")
    after = ("harness.stages.report", "harness.stages.combine", "harness.reports")
    left = {
        name
        for name in loaded - declared
        if not any(name == part or name.startswith(f"{part}.") for part in (*around, *after))
    }
    empty = {
        n for n in left if not source_of(n).strip() or Path(str(file_of(n))).stem == "__init__"
    }
    assert left - empty == set()
