"""The bins of bounded metrics (csrc/include/thfr/metrics.h): joined and added up by the native module.

On the CPU, wherever the metric is: what waits to be joined is an eighth of the metric's memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thfr_ext import _C
from thfr_ext.core.tensors import view


def to_order(scores: Tensor) -> Tensor:  # [n] -> [n] int64
    """Scores as integers of the same order; -0 is 0."""
    bits = scores.double().view(torch.int64)
    return torch.where(bits < 0, -(bits & torch.iinfo(torch.int64).max), bits)


def merge_bins(
    sketches: Sequence[Tensor],  # [3,n] int64 each
    scores: Tensor,  # [n] fp32 or fp64
    most: int,
    share: float,
    relative: bool,
) -> tuple[Tensor, float]:  # [3,m] int64
    """At most ``most`` bins of all that the sketches and scores hold, and the share that this took.

    Raises:
        ValueError: a score is NaN, or something else than such bins was given.
    """
    held, values = [sketch.cpu().contiguous() for sketch in sketches], scores.cpu()
    views = [view(sketch) for sketch in held]
    *rows, raised = _C.merge_bins(views, view(values), most, share, relative, torch.get_num_threads())
    return torch.stack([torch.from_numpy(row) for row in rows]).to(scores.device), raised


def bins_area(
    negatives: Tensor,  # [3,n] int64
    positives: Tensor,  # [3,p] int64
    total: float,
    limits: Sequence[float],
) -> Tensor:  # [2,L] fp64
    """The lowest and highest area up to each limit that the bins allow; ValueError as :func:`merge_bins`."""
    fpr = torch.tensor(limits, dtype=torch.float64)
    bounds = torch.empty((2, len(limits)), dtype=torch.float64)
    below, above = negatives.cpu().contiguous(), positives.cpu().contiguous()
    _C.bins_area(view(below), view(above), total, view(fpr), view(bounds.view(-1)))
    return bounds.to(negatives.device)
