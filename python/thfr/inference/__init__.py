"""Scoring new images with a trained detector."""

from thfr.inference.calibration import calibrate as calibrate
from thfr.inference.graph import GraphedScorer as GraphedScorer
from thfr.inference.predict import predict as predict
from thfr.predictions.tables import ImageResult as ImageResult
from thfr.predictions.tables import Results as Results
from thfr.training.scale import good_scale as good_scale
