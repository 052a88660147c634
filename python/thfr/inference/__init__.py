"""Scoring new images with a trained detector."""

from __future__ import annotations

from thfr.inference.calibration import calibrate
from thfr.inference.graph import GraphedScorer
from thfr.inference.predict import predict
from thfr.predictions.tables import ImageResult, Results
from thfr.training.scale import good_scale

__all__ = [
    "GraphedScorer",
    "ImageResult",
    "Results",
    "calibrate",
    "good_scale",
    "predict",
]
