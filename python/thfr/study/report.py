"""What a study leaves in its folder: rows as CSV and JSON, and the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thfr.io import atomic_write_json, atomic_write_text
from thfr.study.plots import write_figures
from thfr.study.runner import Outcome
from thfr.study.summary import as_csv, summarise


def write_report(study: str, outcome: Outcome, out: Path) -> dict[str, Any]:
    """Write ``out/<study>.csv``, ``.json`` and the figures; gives what the JSON holds.

    Nothing is written where no trial is finished: an older report stays as it is.
    """
    rows = summarise(outcome.finished)
    report = {
        "study": study,
        "rows": rows,
        **origin(outcome),
        "files": [],
    }
    if rows:
        atomic_write_text(out / f"{study}.csv", as_csv(rows))
        figures = write_figures(study, rows, out)
        report["files"] = [str(path) for path in (out / f"{study}.csv", *figures)]
        atomic_write_json(out / f"{study}.json", report)
    return report


def origin(outcome: Outcome) -> dict[str, Any]:
    """What the rows of a report rest on: reasons of failed trials, configurations, data, weights,
    versions.
    """
    trials = outcome.finished
    return {
        "failed": outcome.failed,
        "configurations": [
            {"category": trial["category"], "setting": trial["setting"], **trial["trained"]}
            for trial in trials
        ],
        "data": {trial["category"]: trial["data"] for trial in trials},
        "weights_sha256": sorted({str(trial["run"]["weights_digest"]) for trial in trials}),
        "versions": _distinct([trial["versions"] for trial in trials]),
    }


def _distinct(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The different ones, in order."""
    return [value for index, value in enumerate(values) if value not in values[:index]]
