"""Cosine-distance anomaly scoring."""

from thfr_ext.scoring.api import anomaly_map, cosine_distance

__all__ = ["anomaly_map", "cosine_distance"]
