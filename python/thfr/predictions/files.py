"""The names of the files in a folder of predictions."""

from __future__ import annotations

SCORES_CSV = "scores.csv"
SCORES_JSON = "scores.json"
SOURCE = "source.json"
"""What the predictions were made from: digests of the run's files and of the images."""
REPORT = "report.html"
