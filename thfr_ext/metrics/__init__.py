"""Metrics that are fed batch by batch, with the interface of torchmetrics: update, compute, reset, forward,
merge_state.

torchmetrics is not needed. Where the program has imported it, the metrics here count as
``torchmetrics.Metric``, so that ``MetricCollection`` takes them (without a prefix for :class:`AUsPRO`, whose
result has numbers as keys).

Nobody has to give bounds of the scores. Each metric has two modes:

exact (the default)
    The value is that of all batches at once, to the bit, whatever their order and however they were merged.
    Scores are kept as they are: 4 bytes a pixel, 8 for fp64; of a region's pixels, only as many as count.

bounded (``exact=False``)
    The state is at most ``memory`` bytes, 32 MB unless told otherwise, however many scores come. ``compute``
    gives a value and sets ``error_bound``; the exact value is never further away, and ``bounds`` tells
    between which two numbers it lies. Scores are kept in the bins of a histogram: an interval and how many
    lie in it, finest (relative to the rank) at the highest scores, where low FPR limits look; while all
    distinct scores fit, or for those that many share, an interval is a single score. The bounds are the
    areas of all samples at either end of their bins. Scores that drift, or many merges of metrics, widen the
    bounds, and never make them wrong. For 100 maps of 512 x 512 the bound is about 2e-5, 5e-5 if merged
    from four parts.

All tensors are kept on the metric's device, to which batches are moved: the CPU, unless ``.to(device)`` says
otherwise. Bins are joined on the CPU. A bounded metric takes up to eight million regions.
"""

from thfr_ext.metrics.api import AUPRO, AUROC, AUsPRO

__all__ = ["AUPRO", "AUROC", "AUsPRO"]
