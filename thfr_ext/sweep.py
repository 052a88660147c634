"""Exact threshold sweeps: PRO and sPRO curves, the areas under them, AUROC.

The method is told in csrc/include/thfr/sweep.h. Results are bit-identical across runs and thread counts, and do not
depend on the order of images and regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import thfr_ext._sweep_ops  # noqa: F401  (registers the operators)
from thfr_ext._tensor import as_tensor, describe, restorer

#: FPR limits of the MVTec LOCO AD protocol
LOCO_LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)


def _tensors(operator: str, argument: str, value: Any, expected: str, dims: int) -> list[Tensor]:
    """One tensor of ``dims`` dimensions for each image: of a sequence, or of one array with an axis more."""
    if isinstance(value, (list, tuple)):
        return [as_tensor(operator, f"{argument}: image {i}", v).detach() for i, v in enumerate(value)]
    whole = as_tensor(operator, argument, value).detach()
    if whole.dim() != dims + 1:
        raise ValueError(f"{operator}: {argument}: expected {expected}, got {describe(whole)}")
    return list(whole.unbind(0))


def _maps_and_masks(operator: str, maps: Any, masks: Any) -> tuple[list[Tensor], list[Tensor]]:
    expected = "[N,H,W], or a sequence of [H,W]"
    return _tensors(operator, "maps", maps, expected, 2), _tensors(operator, "masks", masks, expected, 2)


def _maps_and_regions(
    operator: str, maps: Any, regions: Any, saturations: Any
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    scores = _tensors(operator, "maps", maps, "a sequence of [H,W], or [N,H,W]", 2)
    if not isinstance(regions, (list, tuple)):
        raise TypeError(
            f"{operator}: regions: expected a sequence of bool [R_i,H,W], one for each image, got {type(regions).__name__}"
        )
    masks = _tensors(operator, "regions", regions, "", 3)
    if (
        isinstance(saturations, (str, bytes))
        or not hasattr(saturations, "__len__")
        or len(saturations) != len(masks)
    ):
        got = len(saturations) if hasattr(saturations, "__len__") else type(saturations).__name__
        raise ValueError(
            f"{operator}: saturations: expected a sequence of int [R_i] for each of the {len(masks)} images, got {got}"
        )
    counts = [
        _saturations(operator, i, s, m.shape[0] if m.dim() == 3 else None)
        for i, (s, m) in enumerate(zip(saturations, masks, strict=True))
    ]
    joined = torch.cat(counts) if counts else torch.empty(0, dtype=torch.int64)
    return scores, masks, joined.to(scores[0].device) if scores else joined


def _saturations(operator: str, image: int, value: Any, regions: int | None) -> Tensor:
    name = f"{operator}: saturations: image {image}"
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    expected = f"{name}: expected whole numbers [{'R' if regions is None else regions}], one for each region"
    if array.ndim != 1 or (regions is not None and len(array) != regions):
        raise ValueError(f"{expected}, got shape {list(array.shape)}")
    if array.size == 0:
        return torch.empty(0, dtype=torch.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{expected}, got {array.dtype}")
    if int(array.min()) < 1:
        region = int(array.argmin())
        raise ValueError(f"{name}: expected at least 1 pixel, got {array[region]} for region {region}")
    if int(array.max()) > torch.iinfo(torch.int64).max:
        raise ValueError(f"{name}: expected numbers below 2^63, got {array.max()}")
    return torch.from_numpy(array.astype(np.int64))


def _limit(operator: str, argument: str, value: Any) -> float:
    if isinstance(value, (bool, str, bytes)):
        raise TypeError(f"{operator}: {argument}: expected a number in (0, 1], got {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{operator}: {argument}: expected a number in (0, 1], got {value!r}") from error


def _limits(operator: str, value: Any) -> list[float]:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{operator}: limits: expected a sequence of numbers in (0, 1], got {value!r}")
    return [_limit(operator, "limits", v) for v in value]


def _like(maps: Any, points: tuple[Tensor, Tensor, Tensor]) -> tuple[Any, Any, Any]:
    restore = restorer(maps[0] if isinstance(maps, (list, tuple)) else maps)
    fpr, overlap, thresholds = (restore(p) for p in points)
    return fpr, overlap, thresholds


def label_regions(masks: Any) -> tuple[Any, Any]:  # [N,H,W] bool -> [N,H,W] int64, [N] int64
    """8-connected regions of each mask.

    Args:
        masks: True in the regions, any strides.

    Returns:
        ``labels``: 0 outside, 1, 2, ... in each image in the order of the regions' first pixels, row by row (as
        ``skimage.measure.label(mask, connectivity=2)``), and the number of regions of each image.

    Raises:
        ValueError: not [N,H,W].
        TypeError: not bool.
    """
    labels, counts = torch.ops.thfr_ext.label_regions(as_tensor("label_regions", "masks", masks))
    restore = restorer(masks)
    return restore(labels), restore(counts)


def pro_curve(maps: Any, masks: Any) -> tuple[Any, Any, Any]:
    """The exact PRO curve (protocol of MVTec AD): one point for each distinct score.

    Args:
        maps: anomaly maps [N,H,W] (or a sequence of [H,W] of any sizes), fp32, fp64, fp16 or bf16; higher is worse.
        masks: anomalous pixels, bool, of the shapes of the maps. Regions are 8-connected, image by image.

    Returns:
        ``(fpr [K+1] fp64, overlap [K+1] fp64, thresholds [K+1] fp32 (fp64 for fp64 maps))`` for K distinct scores, of the
        same kind of array as ``maps``. Thresholds descend; a pixel is called anomalous if its score is ``>`` the
        threshold. The first is the highest score: the point is (0, 0). The last is -inf and stands for every pixel, even
        of score -inf: the point is (1, 1). ``fpr`` is over all pixels outside of regions, ``overlap`` the mean of the
        regions' covered fractions. The curve between points is straight: a score's pixels enter together.

    Raises:
        ValueError: shapes, devices or lengths do not fit, no image, NaN, no anomalous pixel, no other pixel.
        TypeError: maps are not of a float dtype, masks not bool.
    """
    scores, marks = _maps_and_masks("pro_curve", maps, masks)
    if not scores:
        raise ValueError("pro_curve: maps: expected at least one image, got none")
    return _like(maps, torch.ops.thfr_ext.pro_curve(scores, marks))


def spro_curve(maps: Any, regions: Any, saturations: Any) -> tuple[Any, Any, Any]:
    """The exact sPRO curve (protocol of MVTec LOCO AD); arguments as for :func:`au_spro`, points as of :func:`pro_curve`.

    ``overlap`` ends below 1 if a saturation exceeds its region's area.

    Raises:
        ValueError, TypeError: as :func:`au_spro`.
    """
    scores, masks, counts = _maps_and_regions("spro_curve", maps, regions, saturations)
    if not scores:
        raise ValueError("spro_curve: maps: expected at least one image, got none")
    return _like(maps, torch.ops.thfr_ext.spro_curve(scores, masks, counts))


def au_pro(maps: Any, masks: Any, limit: float = 0.3) -> float:
    """Area under the PRO curve up to an FPR of ``limit``, divided by ``limit`` (protocol of MVTec AD). Exact.

    Args:
        maps: anomaly maps [N,H,W] (or a sequence of [H,W] of any sizes), fp32, fp64, fp16 or bf16, any strides.
        masks: anomalous pixels, bool, of the shapes of the maps. Each 8-connected region of an image counts the same,
            whatever its size.
        limit: in (0, 1]. The curve is cut there, between two points on their straight line.

    Returns:
        0 to 1. The false positive rate is that over all defect-free pixels of the set. A score that regions and
        defect-free pixels share (a constant map) counts half.

    Raises:
        ValueError: shapes, devices or lengths do not fit, no image, NaN, no anomalous pixel, no other pixel, wrong limit.
        TypeError: maps are not of a float dtype, masks not bool, limit not a number.
    """
    scores, marks = _maps_and_masks("au_pro", maps, masks)
    bound = _limit("au_pro", "limit", limit)
    if not scores:
        raise ValueError("au_pro: maps: expected at least one image, got none")
    return float(torch.ops.thfr_ext.au_pro(scores, marks, bound))


def au_spro(
    maps: Any,  # sequence of [H,W]
    regions: Any,  # sequence of bool [R_i,H,W]
    saturations: Any,  # sequence of int [R_i]
    limits: Sequence[float] = LOCO_LIMITS,
) -> dict[float, float]:
    """Areas under the sPRO curve up to each FPR limit, divided by the limit (protocol of MVTec LOCO AD). Exact.

    Args:
        maps: anomaly maps of any sizes (or one [N,H,W]), fp32, fp64, fp16 or bf16, any strides; higher is worse.
        regions: masks of each image's regions, ``R_i = 0`` for a good one. Regions may overlap: a shared pixel counts in
            each. Negatives are the pixels in no region.
        saturations: the number of pixels, at least 1, at which a region counts as found: sPRO is
            ``min(covered / saturation, 1)``. One above the region's area is taken as it is, so that the region never
            reaches 1: the official code lowers it to the area beforehand.
        limits: FPRs in (0, 1].

    Returns:
        limit -> area, 0 to 1: the mean over all regions of the set.

    Raises:
        ValueError: shapes, devices or lengths do not fit, no image, NaN, no region, a region without a pixel, no pixel
            outside of regions, a saturation below 1, a wrong limit.
        TypeError: maps are not of a float dtype, regions not bool, saturations not whole numbers, limits not numbers.
    """
    scores, masks, counts = _maps_and_regions("au_spro", maps, regions, saturations)
    bounds = _limits("au_spro", limits)
    if not scores:
        raise ValueError("au_spro: maps: expected at least one image, got none")
    areas = torch.ops.thfr_ext.au_spro(scores, masks, counts, bounds)
    return dict(zip(bounds, areas.tolist(), strict=True))


def auroc(scores: Any, labels: Any) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half. Exact.

    Args:
        scores: fp32, fp64, fp16 or bf16 of any shape: of images or of pixels.
        labels: of the same shape; bool, or numbers that are 0 or 1.

    Raises:
        ValueError: shapes or devices differ, NaN, labels other than 0 and 1, or all labels the same (or none).
        TypeError: scores are not of a float dtype.
    """
    values, marks = as_tensor("auroc", "scores", scores).detach(), as_tensor("auroc", "labels", labels)
    if marks.dtype != torch.bool:
        positive = marks == 1
        if not bool((positive | (marks == 0)).all()):
            raise ValueError(
                f"auroc: labels: expected bool, or 0 and 1, got other numbers in {describe(marks)}"
            )
        marks = positive
    return float(torch.ops.thfr_ext.auroc(values, marks))


__all__ = ["LOCO_LIMITS", "au_pro", "au_spro", "auroc", "label_regions", "pro_curve", "spro_curve"]
