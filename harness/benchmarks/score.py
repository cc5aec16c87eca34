"""`harness bench score`: our scorers, statistics and tables on 1,000 pages, beside rouge-score,
sacrebleu and evaluate doing the part of it that they can.

The peers are slow, so they get fewer of the same pages; rates are pages a second. Every figure is
the median of several runs, and the file has their spread.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from harness.benchmarks.pages import answers_of_both
from harness.host.files import write_json
from harness.records import Sample
from harness.reports import RunReport, comparison_csv, comparison_markdown
from harness.reports.rows import Origin, comparison_rows, score_columns
from harness.scorers import get, metrics_of, names, score_all

PEER_PAGES = 40
_LONG = 2_000  # words
NOT_TIMED = "conformance"  # another program's work: the Nu checker's


@dataclass(frozen=True, slots=True)
class Timing:
    """One system's time for one part of the work.

    pages: how many answers it scored. seconds: the median of several runs, _min and _max their
    spread. ratio: how many times as fast ours is at the same part.
    """

    part: str
    system: str
    pages: int
    seconds: float
    seconds_min: float
    seconds_max: float
    pages_per_second: float
    ratio: float | None = None


def timing_of(
    part: str, system: str, pages: int, runs: Sequence[float], ours: Sequence[float] = ()
) -> Timing:
    """The timing of runs that took so many seconds each; `ours`: those of our runs at its work."""
    seconds = median(runs)
    ratio = seconds / median(ours) if ours else None
    return Timing(part, system, pages, seconds, min(runs), max(runs), pages / seconds, ratio)


def bench_score(pages: int, out: Path, say: Callable[[str], None], repeats: int = 3) -> str:
    """Time everything, write `out`/score.json, and return the table. Raises StorageError.

    pages: answers to score, half of them by each of two systems. repeats: runs of each figure.
    """
    base, tuned = answers_of_both(-(-pages // 2))
    size = sum(len(s.prediction) for s in (*base, *tuned)) / (2 * len(base))
    say(
        f"{2 * len(base):,} pages of {size:,.0f} characters on average: "
        f"two arms' answers to {len(base):,} prompts"
    )
    rows, metrics = _ours(base, tuned, repeats)
    rows += _peers(base[:PEER_PAGES], say, repeats)
    machine = {
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("rouge-score", "sacrebleu", "evaluate")},
    }
    result = {
        "command": f"python -m harness bench score --pages {pages}",
        "machine": machine,
        "metrics": metrics,
        "characters": round(size),
        "repeats": repeats,
        "rows": [asdict(row) for row in rows],
    }
    write_json(out / "score.json", result)
    return table(result)


def _ours(
    base: Sequence[Sample], tuned: Sequence[Sample], repeats: int
) -> tuple[list[Timing], int]:
    chosen = get([name for name in names() if name != NOT_TIMED])
    metrics = metrics_of(chosen)
    both = [sample for pair in zip(base, tuned, strict=True) for sample in pair]
    parts = (
        f"{len(metrics)} metrics",
        "statistics, 10,000 resamples",
        "both tables",
        "all of it",
    )
    runs: list[tuple[float, ...]] = []
    for _ in range(repeats):
        began = time.perf_counter()
        scored = score_all(both, chosen)
        scores_done = time.perf_counter()
        scores = {
            "base": [s.scores for s in scored[::2]],
            "tuned": [s.scores for s in scored[1::2]],
        }
        origin = Origin("bench", "pages", "none", 0, "bench")
        compared = comparison_rows(score_columns(metrics, scores), origin, None)
        statistics_done = time.perf_counter()
        report = RunReport(*("bench", "pages", "none", 0, "bench", "done"), rows=compared)
        comparison_csv(compared)
        comparison_markdown([report], "python -m harness bench score")
        ended = time.perf_counter()
        runs.append(
            (scores_done - began, statistics_done - scores_done, ended - statistics_done,
             ended - began)
        )  # fmt: skip
    return [
        timing_of(part, "harness", len(both), seconds)
        for part, seconds in zip(parts, zip(*runs, strict=True), strict=True)
    ], len(metrics)


def _peers(samples: Sequence[Sample], say: Callable[[str], None], repeats: int) -> list[Timing]:
    rows: list[Timing] = []
    long = [*_long(samples[:15]), *_long(samples[15:30])]
    for part, ours, peers, given in (
        ("rouge1, 2, L, Lsum", "rouge", (_rouge_score, _evaluate), samples),
        ("the same, 2,000 words", "rouge", (_rouge_score,), long),
        ("chrf", "chrf", (_sacrebleu_chrf,), samples),
        ("bleu", "bleu", (_sacrebleu_bleu,), samples),
    ):
        if not given:
            say(f"{part}: left out, so few pages do not have as many")
            continue
        systems: dict[str, Callable[[Sample], Any]] = {"harness": get([ours])[0].score}
        for peer in peers:
            try:
                name, score = peer()
            except ImportError as error:
                say(f"{part}: {error.name} is not installed; pip install 'harness[test]'")
            else:
                systems[name] = score
        if len(systems) == 1:
            continue
        for score in systems.values():
            score(samples[0])
        runs: dict[str, list[float]] = {name: [] for name in systems}
        for _ in range(repeats):
            for name, score in systems.items():
                runs[name].append(_timed(score, given))
        for name, seconds in runs.items():
            against = runs["harness"] if name != "harness" else ()
            rows.append(timing_of(part, name, len(given), seconds, against))
    return rows


def _long(samples: Sequence[Sample]) -> list[Sample]:
    """The samples as one, its texts cut after so many words as rouge-score sees; none where the
    samples have fewer."""
    texts: list[str] = []
    for parts in ([s.prediction for s in samples], [s.reference for s in samples]):
        whole = "\n".join(parts)
        words = [*re.finditer("[a-z0-9]+", whole.lower())]
        if len(words) < _LONG:
            return []
        texts.append(whole[: words[_LONG - 1].end()])
    return [Sample("long", "", texts[1], texts[0])]


def _timed(score: Callable[[Sample], Any], samples: Sequence[Sample]) -> float:
    began = time.perf_counter()
    for sample in samples:
        score(sample)
    return time.perf_counter() - began


def _rouge_score() -> tuple[str, Callable[[Sample], Any]]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"])
    return "rouge-score", lambda s: scorer.score(s.reference, s.prediction)


def _evaluate() -> tuple[str, Callable[[Sample], Any]]:
    """evaluate's own way for its metric "rouge", whose script is on the hub: rouge-score inside."""
    import datasets
    import evaluate
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"])

    class Rouge(evaluate.Metric):  # type: ignore[misc]
        def _info(self) -> Any:
            text = datasets.Value("string")
            return evaluate.MetricInfo(
                description="ROUGE",
                citation="",
                features=datasets.Features({"predictions": text, "references": text}),
            )

        def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
            found = [scorer.score(r, p) for r, p in zip(references, predictions, strict=True)]
            return {name: score.fmeasure for name, score in found[0].items()}

    metric = Rouge(keep_in_memory=True)
    return "evaluate", lambda s: metric.compute(
        predictions=[s.prediction], references=[s.reference]
    )


def _sacrebleu_chrf() -> tuple[str, Callable[[Sample], Any]]:
    from sacrebleu.metrics import CHRF

    metric = CHRF()
    return "sacrebleu", lambda s: metric.sentence_score(s.prediction, [s.reference])


def _sacrebleu_bleu() -> tuple[str, Callable[[Sample], Any]]:
    from sacrebleu.metrics import BLEU

    metric = BLEU(effective_order=True)
    return "sacrebleu", lambda s: metric.sentence_score(s.prediction, [s.reference])


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def table(result: Mapping[str, Any]) -> str:
    """The file's rows as a table for a terminal."""
    lines = [f"{'part':<30}{'system':<13}{'pages':>8}{'seconds':>10}{'per second':>12}{'ours':>8}"]
    lines.append("─" * len(lines[0]))
    for row in result["rows"]:
        ratio = f"{row['ratio']:.0f} ×" if row["ratio"] else ""
        lines.append(
            f"{row['part']:<30}{row['system']:<13}{row['pages']:>8,}{row['seconds']:>10.3f}"
            f"{row['pages_per_second']:>12,.0f}{ratio:>8}"
        )
    return "\n".join(lines)
