"""Scoring new images with a trained detector."""

from __future__ import annotations

from thfr.inference.calibration import calibrate, good_scale
from thfr.inference.graph import GraphedScorer
from thfr.inference.predict import ImageResult, Results, predict

__all__ = [
    "GraphedScorer",
    "ImageResult",
    "Results",
    "calibrate",
    "good_scale",
    "predict",
]
