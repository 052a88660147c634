"""The definition of the curves, a threshold at a time: what the sweep tests compare with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from thfr_ext.reference import sample_regions


def curve_by_thresholds(
    maps: Sequence[Tensor],  # [H,W] each
    regions: Sequence[Tensor],  # [R_i,H,W] bool each
    saturations: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:  # [K+1] fp64 each
    """The definition itself: a loop over every distinct score, in float64."""
    negatives, scores, offsets = sample_regions([m.double() for m in maps], list(regions))
    region = torch.arange(len(saturations)).repeat_interleave(offsets.diff())
    thresholds = torch.cat([m.double().flatten() for m in maps]).unique().flip(0).tolist()
    rates: list[float] = []
    overlaps: list[float] = []
    for threshold in [*thresholds, None]:  # None takes in everything
        above = torch.ones_like(negatives) if threshold is None else negatives > threshold
        inside = region if threshold is None else region[scores > threshold]
        counts = torch.bincount(inside, minlength=len(saturations)).tolist()
        rates.append(int(above.sum()) / len(negatives))
        covered = math.fsum(min(k / s, 1) for k, s in zip(counts, saturations, strict=True))
        overlaps.append(covered / len(saturations))
    columns = (rates, overlaps, [*thresholds, -math.inf])
    fpr, overlap, descending = (torch.tensor(column, dtype=torch.float64) for column in columns)
    return fpr, overlap, descending


def area_to_limit(fpr: Tensor, overlap: Tensor, limit: float) -> float:  # [K], [K] fp64
    """Area under straight lines through the points from FPR 0 to ``limit``, divided by ``limit``."""
    area = 0.0
    points = list(zip(fpr.tolist(), overlap.tolist(), strict=True))
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area / limit
