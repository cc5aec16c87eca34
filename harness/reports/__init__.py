"""Plain rows in, tables out: CSV, Markdown and the terminal. Standard library only, no files."""

from harness.reports.comparison import COLUMNS, ComparisonRow, KindRow, RunReport
from harness.reports.csv_file import comparison_csv, parse_comparison_csv
from harness.reports.curves import Curves, curves_svg
from harness.reports.markdown import comparison_markdown
from harness.reports.predictions import (
    PredictionRow,
    joined_predictions,
    prediction_lines,
    predictions_csv,
)
from harness.reports.terminal import comparison_terminal

__all__ = [
    "COLUMNS",
    "ComparisonRow",
    "Curves",
    "KindRow",
    "PredictionRow",
    "RunReport",
    "comparison_csv",
    "comparison_markdown",
    "comparison_terminal",
    "curves_svg",
    "joined_predictions",
    "parse_comparison_csv",
    "prediction_lines",
    "predictions_csv",
]
