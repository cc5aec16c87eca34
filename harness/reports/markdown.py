"""comparison.md: GitHub-flavoured Markdown that reads well raw and rendered.

All but the lines that begin with "Measured:" depends on the scores alone, so that the same run
made again gives the same bytes elsewhere in the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.host.text import display_width, pad, single_line
from harness.reports.comparison import (
    Group,
    RunReport,
    exact_match_counts,
    failure,
    group_reports,
    run_name,
    verdict,
)
from harness.reports.formats import format_curve
from harness.reports.tables import Cell, Table, comparison_table, kind_table

_PAD_LIMIT = 48
_PUNCTUATION = re.compile(r"[\\`*~\[\]|$]|(?<![^ ])#")
_UNDERSCORE = re.compile(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
# What would begin a list, a quotation or a rule where the text stands first in its block.
_BLOCK = re.compile(r"^([0-9]{0,9})([-+.)](?=[ -]|$)|>)")
_ENTITY = re.compile(r"&(?=#?[0-9A-Za-z]+;)")

_LEGEND = """\
- **base**, **tuned**: the score of each system on the same n held-out prompts; ↑ higher is \
better, ↓ lower is better, the better one in bold.
- **delta**: tuned minus base; the 95 % interval is a paired bootstrap's, near-duplicates drawn \
together. In rows of all seeds it covers the seeds as well (Student's, prompts and seeds crossed).
- **p (Holm)**: a paired test (sign-flip permutation; McNemar's exact test for yes/no metrics), \
adjusted by Holm over the metrics of a run; * marks p below 0.05.
- **wins/ties/losses**: prompts on which tuned is better than base, equal, worse.
- **reference**: the score of the reference answers themselves, the ceiling: what a perfect \
imitator would get.
- **nearest**: the score of the training answer whose prompt is nearest, the floor: what copying \
gets."""


_RUNS = (
    "Each model answered the same held-out prompts as it is (base) and with the adapter that "
    "the run trained (tuned)."
)


def comparison_markdown(reports: Sequence[RunReport], command: str, about: str = _RUNS) -> str:
    """The text of comparison.md: one table a (model, task), then how to read it, then signatures.

    command: what made it, printed in a code block.
    about:   what base and tuned are, in a sentence.
    Text from data is escaped: it can neither leave its cell nor become markup.
    """
    groups = group_reports(reports)
    blocks = [
        "# Base against tuned",
        f"{about if about is _RUNS else escape(about)} Made by:",
        _fenced(command),
    ]
    if len(groups) > 1:
        blocks.append("\n".join(_overview(group) for group in groups))
    if not groups:
        blocks.append("There are no runs to compare.")
    for group in groups:
        blocks += _group(group)
    if any(report.rows for report in reports):
        blocks += ["## How to read the tables", _LEGEND, *_signatures(reports)]
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """`text` on one line, as plain text in any cell, heading or paragraph of GFM.

    Only what could be markup is escaped (GFM 0.29, sections 2.4, 4.10, 6), so that names such as
    exact_match read as they are.
    """
    line = single_line(text)
    line = _ENTITY.sub("&amp;", line)
    line = _PUNCTUATION.sub(lambda match: "\\" + match[0], line)
    line = _UNDERSCORE.sub(r"\\_", line)
    line = _BLOCK.sub(r"\1\\\2", line)
    return _TAG.sub("&lt;", line)


def _overview(group: Group) -> str:
    lines = []
    for report in group.reports:
        name = f"**{escape(report.model)} · {escape(report.task)}**"
        if len(group.reports) > 1:
            name += f", {escape(run_name(report))}"
        said = [_failed(report), verdict(report.rows), *map(escape, report.caveats)]
        lines.append(f"- {name}: {' '.join(filter(None, said)) or 'nothing was compared.'}")
    return "\n".join(lines)


def _group(group: Group) -> list[str]:
    several = len(group.reports) > 1
    blocks = [f"## {escape(group.model)} · {escape(group.task)}"]
    summary = []
    for report in group.reports:
        name = escape(run_name(report))
        counts = exact_match_counts(report.rows)
        said = [
            _failed(report),
            verdict(report.rows),
            counts and f"{counts[0].upper()}{counts[1:]}.",
            *(f"**{escape(sentence)}**" for sentence in report.caveats),
        ]
        text = " ".join(filter(None, said))
        if several:
            summary.append(f"- {name}: {text}".rstrip(": "))
        else:
            summary.append(f"Recipe {name}. {text}".rstrip())
    blocks.append("\n".join(summary))
    if group.rows:
        blocks.append(_table(comparison_table(group)))
    for report in group.reports:
        blocks += _run(report, several)
    return blocks


def _run(report: RunReport, several: bool) -> list[str]:
    blocks = []
    if several and (report.kinds or report.facts or report.training or report.measured):
        blocks.append(f"### {escape(run_name(report))}")
    if report.kinds:
        blocks += ["By kind of prompt (p not adjusted):", _table(kind_table(report.kinds))]
    facts = [(escape(name), escape(value)) for name, value in report.facts]
    facts += [
        (f"{escape(name)} loss", format_curve(points)) for name, points in report.training.items()
    ]
    if facts:
        blocks.append(_grid(["run", escape(report.run)], [list(pair) for pair in facts], "ll"))
    if report.curves is not None:
        blocks.append(f"![Loss curves of {escape(run_name(report))}]({report.picture})")
    if report.measured:
        pairs = (f"{escape(name)} {escape(value)}" for name, value in report.measured)
        blocks.append(f"Measured: {' · '.join(pairs)}")
    return blocks


def _failed(report: RunReport) -> str | None:
    sentence = failure(report)
    return sentence and f"**{report.status.capitalize()}**: {escape(sentence)}"


def _signatures(reports: Sequence[RunReport]) -> list[str]:
    tasks: dict[str, dict[str, list[str]]] = {}
    for report in reports:
        for row in report.rows:
            signatures = tasks.setdefault(row.metric, {})
            named = signatures.setdefault(row.signature, [])
            if row.task not in named:
                named.append(row.task)
    lines = []
    for metric, signatures in tasks.items():
        for signature, named in signatures.items():
            where = f" ({', '.join(map(escape, named))})" if len(signatures) > 1 else ""
            lines.append(f"- {escape(metric)}{where}: {_code(signature)}")
    return [
        "## Signatures",
        "<details>\n<summary>What exactly made each number</summary>",
        "\n".join(lines),
        "</details>",
    ]


def _table(table: Table) -> str:
    def render(cell: Cell, data: bool) -> str:
        text = escape(cell.text) if data else cell.text
        return f"**{text}**" if cell.bold else text

    return _grid(
        [column.title for column in table.columns],
        [
            [render(cell, column.data) for cell, column in zip(row, table.columns, strict=True)]
            for row in table.rows
        ],
        "".join("l" if column.data else "r" for column in table.columns),
    )


def _grid(header: list[str], rows: list[list[str]], sides: str) -> str:
    """A pipe table of escaped cells, filled with spaces so that it is a table raw, too.

    A cell over 48 columns does not widen its column.
    """
    widths = []
    for column in zip(header, *rows, strict=True):
        fitting = (display_width(cell) for cell in column)
        widths.append(max([3, *(width for width in fitting if width <= _PAD_LIMIT)]))
    rules = [
        "-" * width if side == "l" else "-" * (width - 1) + ":"
        for width, side in zip(widths, sides, strict=True)
    ]
    lines = (
        "| " + " | ".join(pad(c, w, s == "r") for c, w, s in zip(row, widths, sides, strict=True))
        for row in (header, rules, *rows)
    )
    return "\n".join(f"{line} |" for line in lines)


def _code(text: str) -> str:
    """An inline code span, its fence longer than any run of backticks within. Not for cells."""
    line = single_line(text)
    if not line:
        return "–"
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def _fenced(text: str) -> str:
    line = single_line(text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence}sh\n{line}\n{fence}"
