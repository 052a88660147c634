"""Template retrieval: exact k nearest rows of a bank, and k-centre greedy sub-sampling of one."""

from thfr_ext.retrieval.api import greedy_coreset, merge_nearest, nearest_templates
from thfr_ext.retrieval.checks import METRICS

__all__ = ["METRICS", "greedy_coreset", "merge_nearest", "nearest_templates"]
