"""The operators in plain PyTorch operations, gathered: the specification in code."""

from thfr_ext.retrieval.reference import first_coreset_index, greedy_coreset, nearest_templates
from thfr_ext.scoring.torch_path import anomaly_map, cosine_distance, cosine_distance_backward, upsample_blur
from thfr_ext.sweep.torch_path import au_pro, au_spro, auroc, label_regions, pro_curve, spro_area, spro_curve
from thfr_ext.sweep.torch_path import region_samples as sample_regions

__all__ = [
    "anomaly_map",
    "au_pro",
    "au_spro",
    "auroc",
    "cosine_distance",
    "cosine_distance_backward",
    "first_coreset_index",
    "greedy_coreset",
    "label_regions",
    "nearest_templates",
    "pro_curve",
    "sample_regions",
    "spro_area",
    "spro_curve",
    "upsample_blur",
]
