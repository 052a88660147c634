"""The names of the files in a folder of predictions."""

from __future__ import annotations

from thfr.io.names import result_name

SCORES_CSV = "scores.csv"
SCORES_PARQUET = "scores.parquet"
"""In place of the CSV, with ``thfr predict --stream --table parquet``."""
SCORES_JSON = "scores.json"
"""Written last: a folder with it is complete."""
FINDINGS_CSV = "findings.csv"
REPORT = "report.html"
REPORTS = "reports"
"""Of a run on several categories: the folder with a report of each."""


def report_of(category: str) -> str:
    """The report on images found to be of one of several categories."""
    return f"{REPORTS}/{result_name(category, '.html')}"
