"""Any metric of the `evaluate` library as a scorer: evaluate:PATH_OR_NAME."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

from harness import hub
from harness.config.scripts import EVALUATE, is_path
from harness.errors import MissingError, UsageError
from harness.records import Direction, Sample
from harness.scorers.base import Scorer, Unscored, Value, metric

PROBE = ("<p>a b</p>", "<p>a c</p>")  # the answer and reference that show a metric's numbers
LOWER = frozenset(
    {"wer", "cer", "mer", "wil", "ter", "perplexity", "mean_perplexity", "perplexities", "mse"}
)  # error rates, by the metric's name or the number's; for all else higher is better


class Evaluate(Scorer):
    """What a metric of the `evaluate` library says of one answer and its reference.

    given: a script's path, its folder (if they have the same name), or a name on the hub.

    Metrics: every single number of compute(predictions=[answer], references=[reference]) for
    PROBE: `evaluate:NAME` where it is the only one or has the metric's own name, else
    `evaluate:NAME/KEY`; NAME is the hub's name or the stem of the path. A list of one number
    counts as that number; other lists, texts and tables are left out. Where the metric takes no
    text as a reference, it gets a list of one. Lower is better for LOWER.

    What it sees, and its range, is the metric's own matter. It cannot see more than one sample at
    a time: a corpus measure such as BLEU becomes its mean over samples. None where the metric
    raises, or gives no number or no finite one. The signature has the library's version and the
    hash of the metric's code; what draws random numbers draws them from seed 0.
    Source: the library's own `compute` (https://github.com/huggingface/evaluate), some 5 ms a
    sample on top of the metric. Scripts are run as they are: name only those that you trust.
    """

    version = 1
    limit_memory: ClassVar[bool] = False

    def __init__(self, given: str) -> None:
        self.name = EVALUATE + given
        self.metrics = ()
        self._given = given
        self._keys: tuple[str, ...] = ()  # of `metrics`, as the module names them
        self._in_list = False  # references are lists
        self._code = ("", "", "")  # the module's Python module, its class and the code's hash
        self._module: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """A worker makes its own module from the same code, without the network."""
        return {**self.__dict__, "_module": None}

    def prepare(self) -> None:
        if self._module is not None:
            return
        with _quiet():
            library = _library(self.name)
            if not self._keys:
                self._module = _loaded(library, self._given)
                self._probe(library.__version__)
            else:
                place, name, code = self._code
                made = getattr(importlib.import_module(place), name)
                self._module = made(keep_in_memory=True, seed=0, hash=code)
                self._module.download_and_prepare()

    def score(self, sample: Sample) -> dict[str, Value]:
        try:
            with _quiet():
                found = self._compute(sample.prediction, sample.reference)
        except Exception as error:
            failed = Unscored(f"the metric failed: {type(error).__name__}")
            return {metric.name: failed for metric in self.metrics}
        return {
            metric.name: _value(found.get(key))
            for metric, key in zip(self.metrics, self._keys, strict=True)
        }

    def _compute(self, prediction: str, reference: str) -> dict[str, Any]:
        references = [[reference]] if self._in_list else [reference]
        try:
            found = self._module.compute(predictions=[prediction], references=references)
        except BaseException:
            self._module.writer = None  # or what it has taken in would join the next sample
            raise
        return {str(key): _single(value) for key, value in (found or {}).items()}

    def _probe(self, version: str) -> None:
        """Find out which numbers there are. Raises UsageError where there are none for texts."""
        self._in_list = not _takes_text(self._module)
        try:
            found = self._compute(*PROBE)
        except ImportError as error:
            raise _lacking(self.name, error) from error
        except Exception as error:
            raise UsageError(f"{self.name} cannot score texts ({_words(error)}).") from error
        self._keys = tuple(key for key, value in found.items() if value is not None)
        if not self._keys:
            raise UsageError(f"{self.name} gives no single number for a text; choose another.")
        made = type(self._module)
        code = str(getattr(self._module, "_hash", "") or "")
        self._code = (made.__module__, made.__qualname__, code)
        name = _short(self._given)
        lib, module = f"evaluate-{version}", code[:12] or "unknown"
        metrics = []
        for key in self._keys:
            alone = len(self._keys) == 1 or key == name.rpartition("/")[2]
            full = EVALUATE + (name if alone else f"{name}/{key}")
            lower = not LOWER.isdisjoint({key.lower(), name.rpartition("/")[2].lower()})
            direction: Direction = "lower" if lower else "higher"
            metrics.append(metric(full, direction, self.version, lib=lib, module=module))
        self.metrics = tuple(metrics)


def _short(given: str) -> str:
    return Path(os.path.abspath(given)).stem if is_path(given) else given


def _library(name: str) -> Any:
    """The library. Raises MissingError where it is not installed."""
    # It imports transformers, and torch with it, for parts that are not used here: five seconds.
    hide = "evaluate" not in sys.modules and "transformers" not in sys.modules
    if hide:
        sys.modules["transformers"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("evaluate")
    except ImportError as error:
        raise MissingError(
            f"{name} needs the package {error.name or 'evaluate'}: pip install 'harness[evaluate]'."
        ) from error
    finally:
        if hide:
            del sys.modules["transformers"]


def _loaded(library: Any, given: str) -> Any:
    """The module of a path or name. Raises UsageError, MissingError: one sentence each."""
    name = EVALUATE + given
    path = os.path.abspath(Path(given).expanduser())
    local = is_path(given) or Path(path, f"{Path(path).name}.py").is_file()
    if local and not any(p.is_file() for p in (Path(path), Path(path, f"{Path(path).name}.py"))):
        raise UsageError(f"{name}: there is no script at {path}; correct the path.")
    within_reach = local or hub.reachable()
    before = library.config.HF_EVALUATE_OFFLINE
    # What the hub gave once is in the library's cache, which is asked when the hub cannot be.
    library.config.HF_EVALUATE_OFFLINE = before or not within_reach
    try:
        return library.load(path if local else given, keep_in_memory=True, seed=0)
    except ImportError as error:
        raise _lacking(name, error) from error
    except (FileNotFoundError, ConnectionError) as error:
        if local:
            raise UsageError(f"{name} cannot be loaded ({_words(error)}).") from error
        if within_reach:
            raise UsageError(f"{name}: the hub has no metric of this name.") from error
        raise MissingError(
            f"{name} is not in the cache, and the hub is not within reach; name a local script "
            f"(evaluate:./{given.rpartition('/')[2]}.py), or run once with a network."
        ) from error
    except Exception as error:
        raise UsageError(f"{name} cannot be loaded ({_words(error)}).") from error
    finally:
        library.config.HF_EVALUATE_OFFLINE = before


def _takes_text(module: Any) -> bool:
    """Whether one of the forms of input that the module declares has a text as the reference."""
    forms = module.features if isinstance(module.features, list) else [module.features]
    dtypes = [getattr(form.get("references"), "dtype", None) for form in forms]
    return any(dtype in ("string", "large_string") for dtype in dtypes)


def _lacking(name: str, error: ImportError) -> MissingError:
    """The packages that a metric's script wants; the library lists them in its own error."""
    listed = re.search(r"dependencies\s*\[(.*?)\]", str(error))
    wanted = re.findall(r"'([^']+)'", listed[1]) if listed else [error.name] if error.name else []
    packages = " ".join(wanted)
    if not packages:
        return MissingError(f"{name} cannot be loaded ({_words(error)}).")
    return MissingError(f"{name} needs what is not installed: pip install {packages}.")


def _words(error: Exception) -> str:
    """An error as the inside of a sentence: its class and the first line of its text."""
    line = str(error).strip().split("\n")[0].rstrip(".,")
    return f"{type(error).__name__}: {line[:160]}" if line else type(error).__name__


def _single(value: Any) -> float | None:
    """The number that `value` is, alone or in a list of one; None where it is none."""
    if hasattr(value, "tolist"):  # numpy's and torch's
        value = value.tolist()
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return float(value) if isinstance(value, Real) else None


def _value(number: float | None) -> Value:
    if number is None:
        return Unscored("the metric gave no number")
    return number if math.isfinite(number) else Unscored("the metric gave no finite number")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing that the library or a metric prints, logs or warns of reaches the user."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
