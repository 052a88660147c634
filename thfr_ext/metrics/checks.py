"""What the operators of bounded metrics check on every device. Messages begin with the operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thfr_ext.core.tensors import describe
from thfr_ext.sweep.checks import check_limits

#: of bins whose values do not fit
BINS = "bins as merge_bins makes them"


def _check_bins(name: str, argument: str, bins: Tensor) -> None:
    if bins.dim() != 2 or bins.shape[0] != 3 or bins.dtype != torch.int64:
        raise ValueError(f"{name}: {argument}: expected bins, int64 [3,n], got {describe(bins)}")


def check_merge_bins(
    sketches: Sequence[Tensor], scores: Tensor, most: int, share: float, relative: bool
) -> None:
    if scores.dim() != 1:
        raise ValueError(f"merge_bins: scores: expected shape [n], got {describe(scores)}")
    if scores.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"merge_bins: scores: expected float32 or float64, got {describe(scores)}")
    for sketch in sketches:
        _check_bins("merge_bins", "sketches", sketch)
    if most < 16 or not share >= 0:
        raise ValueError(f"merge_bins: expected most >= 16 and share >= 0, got {most} and {share}")


def check_bins_area(negatives: Tensor, positives: Tensor, total: float, limits: Sequence[float]) -> None:
    _check_bins("bins_area", "negatives", negatives)
    _check_bins("bins_area", "positives", positives)
    check_limits("bins_area", "limits", limits)


def require_numbers(name: str, scores: Tensor) -> None:
    if bool(scores.isnan().any()):
        raise ValueError(f"{name}: scores: expected numbers, got NaN")
