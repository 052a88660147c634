"""Anomaly scoring: cosine distances of features, and maps from them."""

from thfr_ext.scoring.api import anomaly_map, cosine_distance, upsample_blur

__all__ = ["anomaly_map", "cosine_distance", "upsample_blur"]
