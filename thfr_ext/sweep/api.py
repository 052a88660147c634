"""Exact threshold sweeps: PRO and sPRO curves, the areas under them, AUROC.

The method is told in csrc/include/thfr/sweep.h. Results are bit-identical across runs and thread counts;
areas do not depend on the order of images and regions either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from thfr_ext.core.tensors import as_tensor, restorer
from thfr_ext.sweep import ops
from thfr_ext.sweep.checks import raise_nan
from thfr_ext.sweep.inputs import limit_of, limits_of, maps_and_masks, maps_and_regions, scores_and_labels

#: FPR limits of the MVTec LOCO AD protocol
LOCO_LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)


def _like(maps: Any, points: tuple[Tensor, Tensor, Tensor]) -> tuple[Any, Any, Any]:
    restore = restorer(maps[0] if isinstance(maps, (list, tuple)) else maps)
    fpr, overlap, thresholds = (restore(p) for p in points)
    return fpr, overlap, thresholds


def _numbers(name: str, argument: str, inputs: list[Tensor], areas: Tensor) -> list[float]:
    """Areas as numbers. On CUDA they are NaN where a kernel has met a NaN, for which no operator waits."""
    values: list[float] = areas.reshape(-1).tolist()
    if any(map(math.isnan, values)):
        raise_nan(name, argument, inputs)
    return values


def label_regions(masks: Any) -> tuple[Any, Any]:  # [N,H,W] bool -> [N,H,W] int64, [N] int64
    """8-connected regions of each mask.

    Args:
        masks: True in the regions, any strides.

    Returns:
        ``labels``: 0 outside, 1, 2, ... in each image in the order of the regions' first pixels, row by row
        (as ``skimage.measure.label(mask, connectivity=2)``), and the number of regions of each image.

    Raises:
        ValueError: not [N,H,W].
        TypeError: not bool.
    """
    labels, counts = ops.label_regions(as_tensor("label_regions", "masks", masks))
    restore = restorer(masks)
    return restore(labels), restore(counts)


def pro_curve(maps: Any, masks: Any) -> tuple[Any, Any, Any]:
    """The exact PRO curve (protocol of MVTec AD): one point for each distinct score.

    Args:
        maps: anomaly maps [N,H,W] (or a sequence of [H,W] of any sizes), fp32, fp64, fp16 or bf16; higher is
            worse.
        masks: anomalous pixels, bool, of the shapes of the maps. Regions are 8-connected, image by image.

    Returns:
        ``(fpr [K+1] fp64, overlap [K+1] fp64, thresholds [K+1] fp32 (fp64 for fp64 maps))`` for K distinct
        scores, of the same kind of array as ``maps``. Thresholds descend; a pixel is called anomalous if its
        score is ``>`` the threshold. The first is the highest score: the point is (0, 0). The last is -inf
        and stands for every pixel, even of score -inf: the point is (1, 1). ``fpr`` is over all pixels
        outside of regions, ``overlap`` the mean of the regions' covered fractions. The curve between points
        is straight: a score's pixels enter together.

    Raises:
        ValueError: shapes, devices or lengths do not fit, no image, NaN, no anomalous pixel, no other pixel.
        TypeError: maps are not of a float dtype, masks not bool.
    """
    scores, marks = maps_and_masks("pro_curve", maps, masks)
    return _like(maps, ops.pro_curve(scores, marks))


def spro_curve(maps: Any, regions: Any, saturations: Any) -> tuple[Any, Any, Any]:
    """The exact sPRO curve (protocol of MVTec LOCO AD); arguments as for :func:`au_spro`, points as of
    :func:`pro_curve`.

    ``overlap`` ends below 1 if a saturation exceeds its region's area.

    Raises:
        ValueError, TypeError: as :func:`au_spro`.
    """
    scores, masks, counts = maps_and_regions("spro_curve", maps, regions, saturations)
    return _like(maps, ops.spro_curve(scores, masks, counts))


def au_pro(maps: Any, masks: Any, limit: float = 0.3) -> float:
    """Area under the PRO curve up to an FPR of ``limit``, divided by ``limit`` (protocol of MVTec AD). Exact.

    Args:
        maps: anomaly maps [N,H,W] (or a sequence of [H,W] of any sizes), fp32, fp64, fp16 or bf16, any
            strides.
        masks: anomalous pixels, bool, of the shapes of the maps. Each 8-connected region of an image counts
            the same, whatever its size.
        limit: in (0, 1]. The curve is cut there, between two points on their straight line.

    Returns:
        0 to 1. The false positive rate is that over all defect-free pixels of the set. A score that regions
        and defect-free pixels share (a constant map) counts half.

    Raises:
        ValueError: shapes, devices or lengths do not fit, no image, NaN, no anomalous pixel, no other pixel,
            wrong limit.
        TypeError: maps are not of a float dtype, masks not bool, limit not a number.
    """
    scores, marks = maps_and_masks("au_pro", maps, masks)
    bound = limit_of("au_pro", "limit", limit)
    return _numbers("au_pro", "maps", scores, ops.au_pro(scores, marks, bound))[0]


def au_spro(
    maps: Any,  # sequence of [H,W]
    regions: Any,  # sequence of bool [R_i,H,W]
    saturations: Any,  # sequence of int [R_i]
    limits: Sequence[float] = LOCO_LIMITS,
) -> dict[float, float]:
    """Areas under the sPRO curve up to each FPR limit, divided by the limit (protocol of MVTec LOCO AD).
    Exact.

    Args:
        maps: anomaly maps of any sizes (or one [N,H,W]), fp32, fp64, fp16 or bf16, any strides; higher is
            worse.
        regions: masks of each image's regions, ``R_i = 0`` for a good one. Regions may overlap: a shared
            pixel counts in each. Negatives are the pixels in no region.
        saturations: the number of pixels, at least 1, at which a region counts as found: sPRO is
            ``min(covered / saturation, 1)``. One above the region's area is taken as it is, so that the
            region never reaches 1: the official code lowers it to the area beforehand.
        limits: FPRs in (0, 1].

    Returns:
        limit -> area, 0 to 1: the mean over all regions of the set.

    Raises:
        ValueError: shapes, devices or lengths do not fit, no image, NaN, no region, a region without a pixel,
            no pixel outside of regions, a saturation below 1, a wrong limit.
        TypeError: maps are not of a float dtype, regions not bool, saturations not whole numbers, limits not
            numbers.
    """
    scores, masks, counts = maps_and_regions("au_spro", maps, regions, saturations)
    bounds = limits_of("au_spro", limits)
    areas = ops.au_spro(scores, masks, counts, bounds)
    return dict(zip(bounds, _numbers("au_spro", "maps", scores, areas), strict=True))


def auroc(scores: Any, labels: Any) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.
    Exact.

    Args:
        scores: fp32, fp64, fp16 or bf16 of any shape: of images or of pixels.
        labels: of the same shape; bool, or numbers that are 0 or 1.

    Raises:
        ValueError: shapes or devices differ, NaN, labels other than 0 and 1, or all labels the same (or
            none).
        TypeError: scores are not of a float dtype.
    """
    values, marks = scores_and_labels("auroc", scores, labels)
    return _numbers("auroc", "scores", [values], ops.auroc(values, marks))[0]
