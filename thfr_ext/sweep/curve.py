"""Curves on CUDA: every distinct score is a point, so that all scores are sorted, by torch."""

from __future__ import annotations

import torch
from torch import Tensor

from thfr_ext.sweep import cuda
from thfr_ext.sweep.checks import (
    Points,
    Tensors,
    require_negatives,
    require_regions,
    require_saturations,
)


def region_steps(scores: Tensor, offsets: Tensor, saturations: Tensor) -> tuple[Tensor, int]:
    """What each pixel adds to the overlap, as integers of which regions times the second result are 1.

    A region's highest k pixels add up to k of saturation, rounded, so that rounding does not add up; and sums
    of integers do not depend on their order.
    """
    regions, pixels = len(saturations), len(scores)
    unit = 2 ** min(52, 62 - (regions - 1).bit_length())
    number = torch.arange(pixels, device=scores.device)
    region = torch.searchsorted(offsets[1:].contiguous(), number, right=True)
    order = scores.sort(stable=True, descending=True).indices
    order = order.index_select(0, region.index_select(0, order).sort(stable=True).indices)
    # `region` is that of the sorted pixels too: each region's stay where they were, the highest first.
    bound = saturations[region]
    rank = number - offsets[region]
    until, before = (
        (torch.minimum(k, bound).double() * (unit / bound.double())).round().long() for k in (rank + 1, rank)
    )
    return torch.empty_like(until).scatter_(0, order, until - before), unit


def curve(negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor) -> Points:
    thresholds, place = (torch.cat([negatives, scores]) + 0.0).unique(return_inverse=True)
    steps, unit = region_steps(scores, offsets, saturations)
    false, true = (torch.zeros(len(thresholds), dtype=torch.int64, device=scores.device) for _ in range(2))
    false.index_add_(0, place[: len(negatives)], torch.ones_like(place[: len(negatives)]))
    true.index_add_(0, place[len(negatives) :], steps)
    ends = [torch.nn.functional.pad(x.flip(0).cumsum(0), (1, 0)).double() for x in (false, true)]
    lowest = thresholds.new_full((1,), -torch.inf)
    overlap = ends[1] / (unit * len(saturations))
    return ends[0] / len(negatives), overlap, torch.cat([thresholds.flip(0), lowest])


def pro_curve(maps: Tensors, masks: Tensors) -> Points:
    negatives, scores, offsets = cuda.component_samples(maps, masks, "pro_curve")
    require_regions("pro_curve", "masks", len(offsets) - 1, len(maps))
    require_negatives("pro_curve", "masks", len(negatives))
    return curve(negatives, scores, offsets, offsets.diff())


def spro_curve(maps: Tensors, regions: Tensors, saturations: Tensor) -> Points:
    require_regions("spro_curve", "regions", len(saturations), len(maps))
    require_saturations("spro_curve", saturations)
    negatives, scores, offsets = cuda.region_samples(maps, regions, "spro_curve")
    require_negatives("spro_curve", "regions", len(negatives))
    return curve(negatives, scores, offsets, saturations)
