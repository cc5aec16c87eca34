"""Fine-tune adapters for open language models on HTML generation and compare base with tuned.

run        fine-tune, answer, score and compare, as `harness run` does
score      every metric of given answers, without a model and without files
compare    two results of `score` on the same samples, paired
load_run   what the folder of a run holds: answers, scores, tables, and its model to ask
inference  one answer of a transformers or PEFT model, or of a loaded run

Errors are `harness.errors`, all of them a HarnessError. Importing this package imports nothing
heavy: each function imports what it needs when it is first asked for.
"""

from harness import errors
from harness.errors import HarnessError

TYPE_CHECKING = False  # true for type checkers; importing typing would cost more than all else


if TYPE_CHECKING:
    from harness.api.compare import compare
    from harness.api.load import LoadedRun, load_run
    from harness.api.run import RunResult, run
    from harness.api.score import Scores, score
    from harness.inference.one_prompt import inference

__version__ = "0.1.0"
__all__ = [
    "HarnessError",
    "LoadedRun",
    "RunResult",
    "Scores",
    "__version__",
    "compare",
    "errors",
    "inference",
    "load_run",
    "run",
    "score",
]

_MODULES = {
    "compare": "harness.api.compare",
    "LoadedRun": "harness.api.load",
    "load_run": "harness.api.load",
    "RunResult": "harness.api.run",
    "run": "harness.api.run",
    "Scores": "harness.api.score",
    "score": "harness.api.score",
}


if not TYPE_CHECKING:  # to them a name that is not there stays an error

    def __getattr__(name):
        from importlib import import_module

        if name == "inference":  # the package, which can be called: its name is the function's
            return import_module("harness.inference")
        if name not in _MODULES:
            raise AttributeError(f"module 'harness' has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
