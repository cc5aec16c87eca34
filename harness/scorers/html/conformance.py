"""Errors that the Nu HTML checker finds: conformance to the standard, not syntax alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from harness.records import Sample
from harness.scorers.base import Scorer, Unscored, Value, metric
from harness.scorers.external.nu import Nu, count_errors, find
from harness.scorers.html.page import parse

MAX_KNOWN = 10_000


class Conformance(Scorer):
    """How many errors the Nu HTML checker (vnu.jar) reports of an answer as a whole document.

    conformance_errors: its messages of type error, warnings and notes apart; 0 is best, there
                        is no upper bound.

    It sees syntax, which elements and attributes there are and where they may stand, values of
    attributes, ARIA, CSS in style elements and attributes. It cannot see whether the page is
    what was asked for, or whether it shows anything; plain text has two errors (no doctype, no
    title). Errors below an element that may not stand where it does are suppressed by the
    checker. None where vnu.jar or Java is not there, where the page is not parsed within our
    own bounds (harness.scorers.html.page.parse: the checker takes minutes on such pages), and where
    the checker fails on the page. Source: the checker, whose version is in the signature; it
    runs in buffered mode, in which misnested tags do not end the checking.

    One process of Java checks many pages: `score_many` takes about a second and some
    milliseconds a page, `score` a second or two for a text that is not known already (the
    numbers of MAX_KNOWN texts are remembered).
    """

    name = "conformance"
    summary = "errors of the Nu HTML checker, where vnu.jar and Java are there"
    version = 1
    in_worker: ClassVar[bool] = False

    def __init__(self) -> None:
        self.nu = find()
        self._known: dict[str, Value] = {}
        found = self.nu.version if isinstance(self.nu, Nu) else "absent"
        self.metrics = (metric("conformance_errors", "lower", 1, nu=found, mode="buffered"),)

    def score(self, sample: Sample) -> dict[str, Value]:
        return self.score_many([sample])[0]

    def score_many(self, samples: Sequence[Sample]) -> list[dict[str, Value]]:
        if not isinstance(self.nu, Nu):
            return [{"conformance_errors": Unscored(self.nu.reason)} for _ in samples]
        values = self._values(dict.fromkeys(sample.prediction for sample in samples))
        if len(self._known) + len(values) > MAX_KNOWN:
            self._known.clear()
        self._known.update(values)
        return [{"conformance_errors": values[sample.prediction]} for sample in samples]

    def _values(self, texts: Iterable[str]) -> dict[str, Value]:
        """The number of each text, by one call of the checker for those that are not known."""
        assert isinstance(self.nu, Nu)
        values: dict[str, Value] = {}
        unknown = []
        for text in texts:
            if text in self._known:
                values[text] = self._known[text]
            elif isinstance(page := parse(text), Unscored):
                values[text] = page
            else:
                unknown.append(text)
        for text, found in zip(unknown, count_errors(self.nu, unknown), strict=True):
            values[text] = Unscored(found) if isinstance(found, str) else float(found)
        return values
