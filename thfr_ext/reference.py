"""Plain PyTorch twins of the operators, gathered: the specification in code, and, so far, for CUDA."""

from thfr_ext.retrieval.reference import first_coreset_index, greedy_coreset, nearest_templates
from thfr_ext.scoring.reference import anomaly_map, cosine_distance, cosine_distance_backward
from thfr_ext.sweep.reference import (
    area_to_limit,
    auroc,
    curve_by_thresholds,
    label_regions,
    sample_regions,
    spro_area,
    spro_curve,
)

__all__ = [
    "anomaly_map",
    "area_to_limit",
    "auroc",
    "cosine_distance",
    "cosine_distance_backward",
    "curve_by_thresholds",
    "first_coreset_index",
    "greedy_coreset",
    "label_regions",
    "nearest_templates",
    "sample_regions",
    "spro_area",
    "spro_curve",
]
