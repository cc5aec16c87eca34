"""The registry of scorers. Importing it imports none of them."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from harness.errors import UsageError
from harness.records import Metric, Sample, Scored, TextChoice
from harness.scorers.base import Scorer, Unscored, Value

__all__ = ["Chosen", "Unscored", "describe", "get", "metric_names", "names", "score_all"]

EVALUATE = "evaluate:"


class _Entry(NamedTuple):
    """Where a scorer's class is, its metrics, and one line for `harness list scorers`."""

    place: str
    metrics: tuple[str, ...]
    line: str


_SCORERS: dict[str, _Entry] = {
    "exact_match": _Entry(
        "text.exact:ExactMatch",
        ("exact_match", "exact_match_normalized"),
        "answer and reference are equal after strip(), or as normalised pages",
    ),
    "rouge": _Entry(
        "text.rouge:Rouge",
        ("rouge1", "rouge2", "rougeL", "rougeLsum"),
        "ROUGE-1, -2, -L and -Lsum F1, equal to rouge-score 0.1.2; blind to markup",
    ),
    "rougeL_markup": _Entry(
        "text.rouge_markup:RougeMarkup",
        ("rougeL_markup",),
        "ROUGE-L F1 over tags, attributes, values and words of any script",
    ),
    "chrf": _Entry("text.chrf:Chrf", ("chrf",), "chrF2 of character 6-grams, equal to sacrebleu's"),
    "bleu": _Entry("text.bleu:Bleu", ("bleu",), "sentence BLEU-4, equal to sacrebleu's"),
    "tree_bleu": _Entry(
        "html.tree_bleu:TreeBleu",
        ("tree_bleu",),
        "share of the reference's one-level subtrees that the answer's tree has",
    ),
    "tree_edit_similarity": _Entry(
        "html.tree_edit:TreeEdit",
        ("tree_edit_similarity",),
        "1 - edit distance of the two trees / size of the larger",
    ),
    "validity": _Entry(
        "html.validity:Validity",
        (
            "html_valid_strict",
            "html_valid",
            "parse_errors",
            "parse_errors_per_kb",
            "tags_balanced",
        ),
        "HTML validity with and without the doctype, parse errors, balance of tags",
    ),
    "conformance": _Entry(
        "html.conformance:Conformance",
        ("conformance_errors",),
        "errors of the Nu HTML checker, where vnu.jar and Java are there",
    ),
    "lint": _Entry(
        "html.lint:Lint",
        (
            "lint_duplicate_ids",
            "lint_unknown_elements",
            "lint_obsolete_elements",
            "lint_missing_alt",
            "lint_missing_title",
            "lint_missing_lang",
        ),
        "faults that no parser reports: duplicate ids, unknown or obsolete elements, no alt …",
    ),
    "assertions": _Entry(
        "html.assertions:Assertions",
        ("assertions_passed", "assertions_all"),
        "share of the task's DOM assertions that the answer passes, and whether all do",
    ),
    "answers": _Entry(
        "text.answers:Answers",
        ("empty", "truncated", "fenced", "repetition", "length_ratio"),
        "the answer's form: empty, cut off, fenced, repeating itself, how long",
    ),
    "content": _Entry(
        "html.content:Content",
        ("scripts", "inline_handlers", "external_requests"),
        "what the page would run and fetch: scripts, inline handlers, external requests",
    ),
}
_OWNER = {metric: name for name, entry in _SCORERS.items() for metric in entry.metrics}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A scorer as a task or a command asks for it.

    asked:   the name it was asked for by: a scorer's, one metric's, or evaluate:PATH_OR_NAME.
    metrics: those that are wanted of it, their signatures complete.
    text:    whether answers are scored raw or extracted, where the scorer leaves the choice.
    """

    asked: str
    scorer: Scorer
    metrics: tuple[Metric, ...]
    text: TextChoice

    def score(self, sample: Sample) -> Scored:
        """The sample's numbers and notes, of the wanted metrics."""
        return self.score_many([sample])[0]

    def score_many(self, samples: Sequence[Sample]) -> list[Scored]:
        """`score` of each, by the scorer's own way for many."""
        raw = [metric.name for metric in self.metrics if "|text:raw|" in metric.signature]
        if self.text == "raw" or len(raw) == len(self.metrics):
            return list(map(self._scored, samples, self.scorer.score_many(samples)))
        from harness.scorers.text.extract import extract

        seen = [replace(sample, prediction=extract(sample.prediction)) for sample in samples]
        values = self.scorer.score_many(seen)
        if raw:  # a scorer of both: those of its metrics that are of the raw answer
            for some, whole in zip(values, self.scorer.score_many(samples), strict=True):
                some.update({name: whole[name] for name in raw})
        return list(map(self._scored, seen, values))

    def _scored(self, sample: Sample, values: dict[str, Value]) -> Scored:
        wanted = {metric.name: values[metric.name] for metric in self.metrics}
        return Scored(
            {name: None if isinstance(v, Unscored) else float(v) for name, v in wanted.items()},
            {name: v.reason for name, v in wanted.items() if isinstance(v, Unscored)},
            self.scorer.details(sample),
        )


def names() -> list[str]:
    """The names of the scorers that are ours (evaluate:PATH_OR_NAME names one that is not)."""
    return list(_SCORERS)


def metric_names(name: str) -> tuple[str, ...]:
    """The metrics of one of our scorers. Raises UsageError on an unknown name."""
    return _SCORERS[_known(name)].metrics


def describe(name: str) -> str:
    """One line on what `name` measures. Raises UsageError on an unknown name."""
    return _SCORERS[_known(name)].line


def get(asked: Sequence[str], text: TextChoice = "raw") -> list[Chosen]:
    """The scorers of these names, in order, each metric once.

    asked: names of scorers, of single metrics, or evaluate:PATH_OR_NAME.
    Raises UsageError on an unknown name, MissingError where a scorer lacks what it needs.
    """
    chosen: list[Chosen] = []
    taken: set[str] = set()
    for name in asked:
        scorer = _load(name)
        wanted = [m for m in scorer.metrics if name in (scorer.name, m.name)]
        metrics = tuple(
            replace(m, signature=m.signature.replace("{text}", text))
            for m in wanted
            if m.name not in taken
        )
        taken |= {metric.name for metric in metrics}
        if metrics:
            chosen.append(Chosen(name, scorer, metrics, text))
    return chosen


def score_all(
    samples: Sequence[Sample],
    scorers: Sequence[Chosen],
    progress: Callable[[int], None] | None = None,
) -> list[Scored]:
    """All metrics of all scorers for each sample, in the order of `samples`.

    It is done in worker processes, which are ended where a sample takes more than two seconds
    or takes them down: its missing metrics get a note that says so, and the others go on. Put
    answers to the same reference next to one another: what is parsed for one is there for the
    next. progress: called after each sample with the number that are done.
    Raises UsageError where the task is at fault, HarnessError where no process can be started.
    """
    from harness.scorers.workers.pool import score_in_workers

    return score_in_workers(samples, scorers, progress)


def merged(parts: Iterable[Scored]) -> Scored:
    """The parts of one sample as one record."""
    scores: dict[str, float | None] = {}
    notes: dict[str, str] = {}
    details: dict[str, Any] = {}
    for part in parts:
        scores.update(part.scores)
        notes.update(part.notes)
        details.update(part.details)
    return Scored(scores, notes, details)


def _load(name: str) -> Scorer:
    if name.startswith(EVALUATE):
        from harness.scorers.external.evaluate import Evaluate

        scorer: Scorer = Evaluate(name.removeprefix(EVALUATE))
    else:
        module, cls = _SCORERS[_known(name)].place.split(":")
        scorer = getattr(importlib.import_module(f"harness.scorers.{module}"), cls)()
    scorer.prepare()
    return scorer


def _known(name: str) -> str:
    """The scorer that `name`, a scorer's or a metric's, means."""
    if name in _SCORERS:
        return name
    if name in _OWNER:
        return _OWNER[name]
    known = [*_SCORERS, *_OWNER]
    near = difflib.get_close_matches(name, known, n=1)
    mend = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_SCORERS)}."
    raise UsageError(f"there is no scorer {name!r}: {mend}")
