"""The registry of metrics. Importing it imports no scorer; asking for some imports those alone.

Each scorer's file says its name, its metrics and one line about it; SCORERS says where it is. A
package of someone else's adds one by the entry-point group GROUP, with nothing changed here:

    [project.entry-points."harness.scorers"]
    reading_ease = "acme.scorers:ReadingEase"
"""

from __future__ import annotations

import difflib
import importlib
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from harness.config.scripts import EVALUATE
from harness.errors import HarnessError, UsageError
from harness.host.plugins import package_of, plugins
from harness.host.text import one_line, quoted
from harness.records import Metric, Signature, TextChoice
from harness.scorers.base import Scorer
from harness.scorers.chosen import Chosen

GROUP = "harness.scorers"
LIKELIHOOD = ("cross_entropy", "perplexity", "bits_per_byte", "token_accuracy")
"""The metrics of harness.scorers.likelihood: of the model's log-likelihoods, not of its answers."""

# fmt: off
SCORERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "exact_match": ("text.exact:ExactMatch", ("exact_match", "exact_match_normalized")),
    "rouge": ("text.rouge:Rouge", ("rouge1", "rouge2", "rougeL", "rougeLsum")),
    "rougeL_markup": ("text.rouge_markup:RougeMarkup", ("rougeL_markup",)),
    "chrf": ("text.chrf:Chrf", ("chrf",)),
    "bleu": ("text.bleu:Bleu", ("bleu",)),
    "tree_bleu": ("html.tree_bleu:TreeBleu", ("tree_bleu",)),
    "tree_edit_similarity": ("html.tree_edit:TreeEdit", ("tree_edit_similarity",)),
    "validity": ("html.validity:Validity", (
        "html_valid_strict", "html_valid", "parse_errors", "parse_errors_per_kb", "tags_balanced",
    )),
    "conformance": ("html.conformance:Conformance", ("conformance_errors",)),
    "lint": ("html.lint:Lint", (
        "lint_duplicate_ids", "lint_unknown_elements", "lint_obsolete_elements",
        "lint_missing_alt", "lint_missing_title", "lint_missing_lang",
    )),
    "assertions": ("html.assertions:Assertions", ("assertions_passed", "assertions_all")),
    "answers": ("text.form:Form", ("empty", "truncated", "fenced", "repetition", "length_ratio")),
    "content": ("html.content:Content", ("scripts", "inline_handlers", "external_requests")),
}
"""Our scorers: where the class is, and its metrics (a test holds them to the class)."""
# fmt: on
_OWNER = {metric: name for name, (_, metrics) in SCORERS.items() for metric in metrics}
_OURS = frozenset([*SCORERS, *_OWNER, *LIKELIHOOD, "likelihood"])


class Entry(NamedTuple):
    """A line of `harness list scorers`; `summary` says what is wrong where it cannot be loaded."""

    name: str
    summary: str
    metrics: tuple[str, ...] = ()


def names() -> list[str]:
    """The names of our scorers: neither those of other packages nor evaluate:PATH_OR_NAME."""
    return list(SCORERS)


def metric_names(name: str) -> tuple[str, ...]:
    """The metrics of one of our scorers."""
    return SCORERS[name][1]


def modules_of(asked: Sequence[str]) -> set[str]:
    """The modules of this project in which the scorers of these names are; none is loaded.

    Another package's scorer has that package's version in its signatures instead.
    """
    found = {_OWNER.get(name, name) for name in asked}
    ours = {f"harness.scorers.{SCORERS[name][0].split(':')[0]}" for name in found & SCORERS.keys()}
    scripts = any(name.startswith(EVALUATE) for name in asked)
    return ours | ({"harness.scorers.external.evaluate"} if scripts else set())


def entries() -> list[Entry]:
    """Every metric that there is: our scorers', other packages', the likelihood's, evaluate's."""
    from harness.scorers import likelihood

    return [
        *(Entry(name, _ours(name).summary, metrics) for name, (_, metrics) in SCORERS.items()),
        *(_described(name) for name in plugins(GROUP)),
        Entry("likelihood", likelihood.SUMMARY, LIKELIHOOD),
        Entry(
            f"{EVALUATE}NAME",
            "any metric of the evaluate library, by its name or a script's path",
        ),
    ]


def get(asked: Sequence[str], text: TextChoice = "raw") -> list[Chosen]:
    """The scorers of these names, in order, each metric once.

    asked: names of scorers, of single metrics, or evaluate:PATH_OR_NAME.
    Raises UsageError on an unknown name and where another package's scorer is at fault,
    MissingError where a scorer lacks what it needs.
    """
    chosen: list[Chosen] = []
    taken: set[str] = set()
    for name in asked:
        scorer = _load(name)
        metrics = tuple(
            replace(m, signature=m.signature.of_text(text))
            for m in scorer.metrics
            if name in (scorer.name, m.name) and m.name not in taken
        )
        taken |= {metric.name for metric in metrics}
        if metrics:
            chosen.append(Chosen(name, scorer, metrics, text))
    return chosen


def _load(asked: str) -> Scorer:
    if asked.startswith(EVALUATE):
        from harness.scorers.external.evaluate import Evaluate

        scorer: Scorer = Evaluate(asked.removeprefix(EVALUATE))
    elif asked in LIKELIHOOD or asked == "likelihood":
        raise UsageError(
            f"{asked} is of a model's log-likelihoods, not of its answers: leave it out; every "
            "run measures it."
        )
    elif asked in _OURS:
        if asked in plugins(GROUP):
            _plugin(asked)  # refused, for the name is ours
        scorer = _ours(asked if asked in SCORERS else _OWNER[asked])
    else:
        return _plugin(asked) if asked in plugins(GROUP) else _plugin_of(asked)
    scorer.prepare()
    return scorer


def _ours(name: str) -> Scorer:
    module, cls = SCORERS[name][0].split(":")
    scorer: Scorer = getattr(importlib.import_module(f"harness.scorers.{module}"), cls)()
    return scorer


# --- other packages' scorers -----------------------------------------------------------------


@lru_cache(maxsize=64)
def _plugin(name: str) -> Scorer:
    """The scorer that another package has under this name, ready; its package and version are in
    its signatures. Raises UsageError, one sentence, where it cannot be used."""
    entry, *others = plugins(GROUP)[name]
    package = package_of(entry)
    where = f"the scorer {quoted(name, 60)} of the package {one_line(package, 60)}"
    if others:
        raise UsageError(f"{where} has the name of another package's: uninstall one of them.")
    if name in _OURS or name.startswith(EVALUATE):
        raise UsageError(f"{where} has a name of our own: rename it, or uninstall the package.")
    try:
        scorer: Scorer = entry.load()()
        fault = _fault(name, scorer)
        if fault is None:
            scorer.prepare()
            scorer.metrics = tuple(_signed(m, package.replace(" ", "-")) for m in scorer.metrics)
            pickle.dumps(scorer if scorer.in_worker else None)
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        fault = f"cannot be loaded ({type(error).__name__}: {one_line(error)})"
    if fault is not None:
        raise UsageError(f"{where} {fault}: mend it, or uninstall the package.")
    return scorer


def _fault(name: str, scorer: object) -> str | None:
    """What keeps another package's object from being a scorer, if anything does."""
    if not isinstance(scorer, Scorer):
        return "is no subclass of harness.scorers.Scorer"
    if getattr(scorer, "name", None) != name:
        return f"calls itself {quoted(getattr(scorer, 'name', None), 60)}"
    metrics = getattr(scorer, "metrics", None)
    if (
        not isinstance(metrics, tuple)
        or not metrics
        or not all(isinstance(m, Metric) and isinstance(m.signature, Signature) for m in metrics)
    ):
        return "has no tuple of harness.scorers.metric(...) as its metrics"
    for metric, count in Counter(m.name for m in metrics).items():
        if metric in _OURS or count > 1:
            return f"has a metric {quoted(metric, 60)}, which is {'ours' if count < 2 else 'twice'}"
    return None


def _signed(metric: Metric, package: str) -> Metric:
    settings = (*metric.signature.settings, ("by", package))
    return replace(metric, signature=replace(metric.signature, settings=settings))


def _plugin_of(asked: str) -> Scorer:
    """The scorer of another package that has the metric `asked`. Raises UsageError."""
    known = [*SCORERS, *_OWNER]
    for name in plugins(GROUP):
        known.append(name)
        try:
            scorer = _plugin(name)
        except HarnessError:
            continue  # a fault of what nobody asked for
        metrics = [metric.name for metric in scorer.metrics]
        if asked in metrics:
            return scorer
        known += metrics
    near = difflib.get_close_matches(asked, known, n=1)
    mend = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(SCORERS)}."
    raise UsageError(f"there is no scorer {asked!r}: {mend}")


def _described(name: str) -> Entry:
    try:
        scorer = _plugin(name)
    except HarnessError as error:
        return Entry(name, one_line(error, 400))
    return Entry(name, one_line(scorer.summary), tuple(metric.name for metric in scorer.metrics))
