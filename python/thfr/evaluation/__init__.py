"""The published protocols of MVTec AD and MVTec LOCO AD, for this method's maps and any other's."""

from __future__ import annotations

from thfr.evaluation.maps import open_maps
from thfr.evaluation.protocols import evaluate_maps
from thfr.evaluation.run import evaluate_detector, evaluate_run
from thfr.evaluation.synthetic import evaluate_synthetic
from thfr.evaluation.table import metrics_table

__all__ = [
    "evaluate_detector",
    "evaluate_maps",
    "evaluate_run",
    "evaluate_synthetic",
    "metrics_table",
    "open_maps",
]
