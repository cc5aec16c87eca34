"""Command lines carried out by children of one process that has imported what they need.

Importing the model libraries takes seconds; forking a process that has done so takes none. Each
child is as good as a fresh `python -m harness`: its own streams, folder and environment, and a
fault can be arranged in it, such as SIGKILL at a given write.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import import_module, reload
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.runs.context import Context
    from harness.runs.stage import Stage

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "peft", "numpy", "pydantic", "datasets", "bitsandbytes", "bs4")

LIGHT_IMPORTS = (
    "harness.pipeline.run",
    "harness.pipeline.dry_run",
    "harness.pipeline.inventory",
    "harness.scorers.html.guarded",
    "harness.statistics.paired",
    "harness.cli.main",
    "harness.cli.run",
    "harness.data.nearest",
    "harness.scorers.workers",
    "harness.stages.collect",
    "harness.stages.generate",
    "harness.stages.likelihood",
    "harness.stages.prepare",
    "harness.stages.score",
    "harness.stages.train",
    "numpy.ma",
    "numpy.random",
)
MODEL_IMPORTS = (
    *LIGHT_IMPORTS,
    "bitsandbytes",
    "peft",
    "harness.inference.engine",
    "harness.training.loop",
    "transformers.models.falcon.modeling_falcon",
    "transformers.models.llama.modeling_llama",
    "transformers.models.gemma3.modeling_gemma3",
)


@dataclass(frozen=True)
class Fault:
    """What happens to a command, and when.

    event:  "append" (a journal's record), "replace" (a file is about to get its name),
            "publish" (a stage's files are there, its manifest entry not yet),
            "call" (the function `match`, as "module:name", is entered) or "enter" (any function of
            Python is).
    match:  part of the path, or the stage's name; only events that have it count.
    count:  which of these events, from 1.
    action: "KILL", "TERM" or "INT" (that signal), "TWICE" (two of these), "TEAR" (half a record,
            then SIGKILL), "ENOSPC" (the write fails), "HOLD" (the process stops there until it
            is killed), "SKIP" (the function is not carried out), "COUNT" (nothing; the report
            counts the events).
    """

    event: str
    match: str = ""
    count: int = 1
    action: str = "KILL"


@dataclass(frozen=True)
class Outcome:
    """How a command ended. status: negative for a signal. stages: those carried out, not taken
    over. imported: which of HEAVY were imported; both empty for a killed command."""

    status: int
    stdout: str
    stderr: str
    stages: tuple[str, ...] = ()
    imported: frozenset[str] = frozenset()
    events: int = 0

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


class Commands:
    """Runs command lines in forked children. imports: modules to import before the first."""

    def __init__(self, imports: tuple[str, ...], environment: dict[str, str]) -> None:
        self._files = tempfile.TemporaryDirectory()
        self._numbers = itertools.count()
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.commands", *imports],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(10)
        self._files.cleanup()

    def run(self, cwd: Path, *argv: object, fault: Fault | None = None, **env: str) -> Outcome:
        """Carry out `harness *argv` in the folder `cwd`."""
        return self.wait(self.start(cwd, *argv, fault=fault, **env))

    def start(
        self, cwd: Path, *argv: object, fault: Fault | None = None, **env: str
    ) -> tuple[int, Path]:
        """Begin a command; its process id, and what `wait` takes."""
        words = [str(word) for word in argv]
        return self._begin({"argv": words, "fault": fault and asdict(fault)}, cwd, env)

    def save_tiny(
        self, folder: Path, family: str, *, head_scale: float = 1.0, **settings: Any
    ) -> Path:
        """A tiny model in `folder`, made in a child, which has torch already. head_scale: a
        random head gives nearly equal logits; a larger one lets a trained model be certain."""
        call = {"save_tiny": [str(folder), family, head_scale], "settings": settings}
        outcome = self.wait(self._begin(call, folder.parent, {}))
        assert outcome.status == 0, outcome.output
        return folder

    def wait(self, started: tuple[int, Path]) -> Outcome:
        """How a command that was begun ended; it is killed after a minute."""
        pid, files = started
        status = self._ask({"wait": pid})
        report: dict[str, Any] = {}
        with contextlib.suppress(OSError):
            report = json.loads((files / "report").read_text())
        stdout, stderr = (
            (files / name).read_text("utf-8", "replace") for name in ("stdout", "stderr")
        )
        return Outcome(
            status,
            stdout,
            stderr,
            tuple(report.get("stages", ())),
            frozenset(report.get("imported", ())),
            report.get("events", 0),
        )

    def _begin(self, request: dict[str, Any], cwd: Path, env: dict[str, str]) -> tuple[int, Path]:
        files = Path(self._files.name) / str(next(self._numbers))
        files.mkdir()
        for name in ("stdout", "stderr"):
            (files / name).touch()  # a child may be killed before it opens them
        place = {"cwd": str(cwd), "env": env, "files": str(files)}
        return self._ask({**request, **place}), files

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


# --- in the serving process ------------------------------------------------------------------


def _serve(imports: list[str]) -> None:
    with contextlib.suppress(ValueError):
        sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    with contextlib.ExitStack() as stack:
        if "peft" in imports:
            from harness.models.quiet import quiet

            stack.enter_context(quiet())
        for name in imports:
            import_module(name)
    if "torch" in sys.modules:
        import torch

        # Set before any work: a pool of threads does not outlive a fork.
        torch.set_num_threads(1)
        if "harness.training.loop" in sys.modules:
            from harness.training.mfu import matmul_rate

            matmul_rate(torch.device("cpu"), torch.float32)  # measured once, not in each child
    if imports:
        from harness.runs.code import code_digest, modules_of
        from harness.runs.environment import commit

        commit()  # one answer for all children, whatever happens to the checkout meanwhile
        files = [f.relative_to(ROOT).with_suffix("") for f in (ROOT / "harness").rglob("*.py")]
        names = [".".join(f.parts).removesuffix(".__init__") for f in files]
        code_digest(names)
        modules_of(names)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(_status(request["wait"]), flush=True)
        elif (pid := os.fork()) == 0:
            _child(request)
        else:
            print(pid, flush=True)
    os._exit(0)  # what the libraries do at their end takes seconds


def _status(pid: int) -> int:
    deadline = time.monotonic() + 60
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def _child(request: dict[str, Any]) -> None:
    status = 70
    try:
        files = Path(request["files"])
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(files / name, os.O_WRONLY | os.O_CREAT), number)
        os.chdir(request["cwd"])
        os.environ.update(request["env"])
        if constants := sys.modules.get("huggingface_hub.constants"):
            reload(constants)  # it reads the environment once
        if "save_tiny" in request:
            _save_tiny(*request["save_tiny"], **request["settings"])
            status = 0
        else:
            status = _command(request, files)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _save_tiny(folder: str, family: str, head_scale: float, **settings: Any) -> None:
    from tests.support.tiny import byte_tokenizer, tiny_model

    model = tiny_model(family, **settings)
    model.get_output_embeddings().weight.data.mul_(head_scale)
    model.save_pretrained(folder)
    byte_tokenizer(adds_bos=family != "falcon").save_pretrained(folder)


def _command(request: dict[str, Any], files: Path) -> int:
    from harness.__main__ import main

    report: dict[str, Any] = {"stages": [], "events": 0}
    if "harness.pipeline.run" in sys.modules:
        _note_stages(report["stages"])
    if request["fault"]:
        _arrange(Fault(**request["fault"]), report)
    sys.argv = ["harness", *request["argv"]]
    try:
        return main()
    finally:
        sys.setprofile(None)
        report["imported"] = [name for name in HEAVY if name in sys.modules]
        (files / "report").write_text(json.dumps(report))


def _note_stages(seen: list[str]) -> None:
    from harness.executors import job

    job.stages = lambda adapters: noting_stages(seen, adapters)


def noting_stages(seen: list[str], adapters: tuple[str, ...] = ()) -> tuple[Stage, ...]:
    """The stages of a run, each of which adds its name to `seen` when it is made."""
    from harness.stages import stages

    def noting(stage: Stage) -> Stage:
        def make(context: Context) -> None:
            seen.append(stage.name)
            stage.make(context)

        return replace(stage, make=make)

    return tuple(noting(stage) for stage in stages(adapters))


def _arrange(fault: Fault, report: dict[str, Any]) -> None:
    """Have `fault` happen in this process."""
    from harness.host import files
    from harness.runs import journal, store

    def happens(where: object) -> bool:
        if fault.match not in str(where):
            return False
        report["events"] += 1
        return bool(report["events"] == fault.count)

    if fault.event == "append":
        append = journal.Journal.append

        def appended(self: journal.Journal, record: Any) -> None:
            if happens(self.path):
                if fault.action == "TEAR":
                    files.write_all(self._open(), json.dumps(record).encode()[:9])
                if fault.action == "ENOSPC":  # the write inside fails, not the whole method
                    for module in (files, journal):
                        module.write_all = lambda descriptor, payload: _strike("ENOSPC")
                else:
                    _strike(fault.action)
            append(self, record)

        journal.Journal.append = appended  # type: ignore[method-assign]
    elif fault.event == "replace":
        replace = os.replace

        def replaced(source: Any, target: Any) -> None:
            if happens(target):
                _strike(fault.action)
            replace(source, target)

        os.replace = replaced  # type: ignore[assignment]
    elif fault.event == "publish":
        publish = store.RunFolder.publish

        def published(self: store.RunFolder, name: str, *rest: Any) -> None:
            if happens(f"{name} "):
                _strike(fault.action)
            publish(self, name, *rest)

        store.RunFolder.publish = published  # type: ignore[method-assign,assignment]
    elif fault.event == "enter":

        def entering(frame: Any, event: str, _: object) -> None:
            if event == "call" and happens(""):
                _strike(fault.action)

        sys.setprofile(entering)
    else:
        module, _, name = fault.match.partition(":")
        called = getattr(import_module(module), name)

        def entered(*args: Any, **kwargs: Any) -> Any:
            if happens(fault.match):
                _strike(fault.action)
            return None if fault.action == "SKIP" else called(*args, **kwargs)

        setattr(import_module(module), name, entered)


def _strike(action: str) -> None:
    if action in ("KILL", "TEAR"):
        os.kill(os.getpid(), signal.SIGKILL)
    elif action in ("TERM", "INT", "TWICE"):
        os.kill(os.getpid(), signal.SIGINT if action == "INT" else signal.SIGTERM)
        time.sleep(0)  # a bytecode boundary, at which the handler runs
        if action == "TWICE":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)
    elif action == "ENOSPC":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif action == "HOLD":
        Path("held").touch()
        time.sleep(60)


# --- what tests make and read ----------------------------------------------------------------

TEMPLATE = "{}\\n"

TASK = """
name = "{name}"
template = "{template}"
scorers = ["exact_match", "rouge", "validity", "answers"]

[data]
generator = "generator:generate"
seed = 0
train = {train}
test = {test}

[split]
method = "provided"
validation = {validation}

[decoding]
max_new_tokens = {tokens}
"""

GENERATOR = '''
from harness.records import Example

WORDS = ("sun", "sea", "oak", "fox", "ink", "jam", "rye", "elm", "zip", "cup")
{extra}

def generate(*, seed, train, test):
    """Rows that say a word in a tag; held-out row i is training row i."""
    for side, count in (("train", train), ("test", test)):
        for i in range(count):
            word, tag = WORDS[i % 10] * (1 + i // 10), "pbius"[i % 5]
            yield side, Example("", f"say {{word}}", f"<{{tag}}>{{word}}</{{tag}}>")
'''


def make_registry(
    folder: Path,
    *,
    task: str = "words",
    template: str = TEMPLATE,
    train: int = 12,
    test: int = 6,
    validation: float = 0.0,
    tokens: int = 8,
    extra: str = "",
    **recipe: Any,
) -> Path:
    """A registry with one task, whose held-out rows are its first training rows, and the recipe
    "tiny": two epochs of fp32 in six steps, a checkpoint at every other, changed by `recipe`."""
    place = folder / "tasks" / task
    place.mkdir(parents=True, exist_ok=True)
    values = {"name": task, "template": template, "train": train, "test": test}
    text = TASK.format(**values, validation=validation, tokens=tokens)
    (place / "task.toml").write_text(text)
    (place / "generator.py").write_text(GENERATOR.format(extra=extra))
    settings: dict[str, Any] = {
        "name": "tiny",
        "precision": "fp32",
        "num_train_epochs": 2.0,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-2,
        "save_steps": 2,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in {**settings, **recipe}.items()]
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "recipes" / f"{settings['name']}.toml").write_text("\n".join(lines) + "\n")
    return folder


def run_of(registry: Path, weights: dict[str, Path], *more: object) -> list[str]:
    """`run` of the models that `weights` names, on the task and recipe of `make_registry`."""
    pairs = [f"{name}={path}" for name, path in weights.items()]
    words = ["run", "--models", *weights, "--weights", *pairs, "--registry", str(registry)]
    return [*words, "--tasks", "words", "--recipe", "tiny", *map(str, more)]


def write_script(path: Path, **answers: str) -> Path:
    """A scripted model's answers; by default the tuned system is right and the base wrong."""
    answers = {"base": "<p>no</p>", "tuned": "{reference}"} | answers
    rows = [json.dumps({"arm": system, "text": text}) for system, text in answers.items()]
    path.write_text("\n".join(rows) + "\n")
    return path


def refused(outcome: Outcome, *texts: str, lines: int = 1) -> None:
    """Exit 2, `lines` sentences on standard error and nothing else, in which these texts stand."""
    assert outcome.status == 2, outcome
    assert outcome.stdout == ""
    said = outcome.stderr.splitlines()
    assert len(said) == lines, outcome.stderr
    for line in said:
        assert line.startswith("harness: ")
        assert line.endswith((".", "?"))
        assert line.isprintable()
        assert len(line) < 500
    for text in texts:
        assert text in outcome.stderr, outcome.stderr
    assert "torch" not in outcome.imported


def tables(cwd: Path) -> dict[str, str]:
    """The tables that a command wrote, but for the lines of what was measured."""
    names = ("comparison.csv", "comparison.md", "predictions.csv")
    found = {name: (cwd / "results" / name).read_bytes().decode() for name in names}
    lines = found["comparison.md"].split("\n")
    found["comparison.md"] = "\n".join(li for li in lines if not li.startswith("Measured:"))
    return found


def run_folders(cwd: Path) -> list[Path]:
    """The folders of the runs under runs/."""
    return sorted(path.parent for path in (cwd / "runs").glob("*/*/*/manifest.json"))


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def files_under(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    _serve(sys.argv[1:])
