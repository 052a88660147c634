"""The sweeps as others compute them: by sorting all pixels, by a loop over thresholds, by packages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import peers
import torch
from scipy import ndimage

LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)


def make_images(count: int, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth float32 maps and blobs for masks; a third of the images are good; scores rise in blobs."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, max(height // 16, 2), max(width // 16, 2), generator=generator)
    maps = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[:, 0]
    blobs = torch.nn.functional.interpolate(
        torch.rand(count, 1, max(height // 64, 2), max(width // 64, 2), generator=generator),
        (height, width),
        mode="bilinear",
    )[:, 0]
    masks = blobs > 0.87
    masks[::3] = False
    noise = 0.05 * torch.rand(maps.shape, generator=generator)
    return ((maps + noise + 0.4 * masks) ** 3).numpy(), masks.numpy()


def make_regions(masks: np.ndarray, most: int = 3) -> tuple[list[np.ndarray], list[list[int]]]:
    """Each image's first regions as a stack [R,H,W], and saturations at parts of their areas."""
    regions, saturations = [], []
    for mask in masks:
        labels, found = ndimage.label(mask, np.ones((3, 3)))
        stack = np.zeros((min(found, most), *mask.shape), bool)
        for i, region in enumerate(stack):
            region[:] = labels == i + 1
        regions.append(stack)
        saturations.append([max(int(region.sum()) // (i + 1), 1) for i, region in enumerate(stack)])
    return regions, saturations


def area_under(fpr: np.ndarray, overlap: np.ndarray, limit: float) -> float:
    x = np.append(fpr[fpr < limit], limit)
    return float(np.trapezoid(np.append(overlap[fpr < limit], np.interp(limit, fpr, overlap)), x) / limit)


def argsort_areas(
    scores: np.ndarray, negatives: np.ndarray, weights: np.ndarray, limits: Sequence[float]
) -> list[float]:
    """Sort all pixels, add up both axes, keep the last point of each tie, integrate to the limits."""
    order = np.argsort(scores)[::-1]
    fpr = np.cumsum(negatives[order], dtype=np.float64) / negatives.sum()
    overlap = np.cumsum(weights[order], dtype=np.float64)
    last = np.append(np.diff(scores[order]) != 0, True)
    fpr, overlap = np.append(0, fpr[last]), np.append(0, np.minimum(overlap[last], 1))
    return [area_under(fpr, overlap, limit) for limit in limits]


def argsort_au_pro(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    weights = np.zeros(maps.shape)
    regions = 0
    for image, mask in zip(weights, masks, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        areas = np.bincount(labels.ravel())
        image[mask] = 1 / areas[labels[mask]]
        regions += count
    return argsort_areas(maps.ravel(), ~masks.ravel(), weights.ravel() / regions, [limit])[0]


def argsort_au_spro(maps: Any, regions: Any, saturations: Any, limits: Sequence[float]) -> list[float]:
    weights = [np.zeros(m.shape) for m in maps]
    for scores, weight, masks, counts in zip(maps, weights, regions, saturations, strict=True):
        for mask, saturation in zip(masks, counts, strict=True):
            inside = np.flatnonzero(mask)
            top = inside[np.argsort(scores.ravel()[inside])[::-1][:saturation]]
            weight.ravel()[top] += 1 / saturation
    negatives = np.concatenate([~masks.any(0).ravel() for masks in regions])
    total = sum(len(counts) for counts in saturations)
    scores = np.concatenate([m.ravel() for m in maps])
    return argsort_areas(scores, negatives, np.concatenate([w.ravel() for w in weights]) / total, limits)


def argsort_auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    values, labels = scores.ravel(), labels.ravel()
    return argsort_areas(values, ~labels, labels / labels.sum(), [1.0])[0]


def threshold_au_spro(
    maps: Any, regions: Any, saturations: Any, limits: Sequence[float], first: int = 50, rounds: int = 10
) -> list[float]:
    """The usual loop: some thresholds, then ``rounds`` times 100 more where the curve's steps are widest.

    Every threshold costs a pass over all negatives and all regions. Not exact: the areas depend on the grid.
    """
    negatives = np.concatenate([m[~r.any(0)] for m, r in zip(maps, regions, strict=True)])
    inside = [m[mask] for m, masks in zip(maps, regions, strict=True) for mask in masks]
    full = np.array([s for counts in saturations for s in counts])

    def point(threshold: float) -> tuple[float, float, float]:
        covered = np.array([np.count_nonzero(scores > threshold) for scores in inside])
        fpr = np.count_nonzero(negatives > threshold) / negatives.size
        return fpr, float(np.minimum(covered / full, 1).mean()), threshold

    low, high = min(m.min() for m in maps), max(m.max() for m in maps)
    points = sorted(point(t) for t in np.linspace(low, high, first))
    for _ in range(rounds):
        steps = np.diff([fpr for fpr, _, _ in points])
        widest = np.argsort(steps)[::-1][:100]
        share = max(100 // max(len(widest), 1), 1)
        new = [t for i in widest for t in np.linspace(points[i][2], points[i + 1][2], share + 2)[1:-1]]
        points = sorted({*points, *(point(t) for t in new)})
    fpr, overlap = (np.array([p[axis] for p in points]) for axis in (0, 1))
    return [area_under(np.append(0, fpr), np.append(0, overlap), limit) for limit in limits]


def installed_au_pro(maps: np.ndarray, masks: np.ndarray, limit: float) -> dict[str, Any]:
    """AU-PRO of packages that are here: name -> call."""
    scores, marks = torch.from_numpy(maps), torch.from_numpy(masks)
    calls: dict[str, Any] = {}
    if peers.load("pyaupro") is not None:
        calls["pyaupro, exact"] = lambda: pyaupro_area(scores, marks, limit, None)
        calls["pyaupro, 200 thresholds"] = lambda: pyaupro_area(scores, marks, limit, 200)
    if peers.load("anomalib") is not None:
        calls["anomalib AUPRO"] = lambda: anomalib_area(scores, marks, limit)
    return calls


def pyaupro_area(scores: torch.Tensor, marks: torch.Tensor, limit: float, thresholds: int | None) -> float:
    import pyaupro

    metric = pyaupro.PerRegionOverlap(thresholds=thresholds)
    # It takes scores of [0, 1] only: thresholds lie there.
    metric.update((scores - scores.min()) / (scores.max() - scores.min()), marks)
    return float(pyaupro.auc_compute(*metric.compute(), limit=limit, descending=False, reorder=True))


def anomalib_area(scores: torch.Tensor, marks: torch.Tensor, limit: float) -> float:
    from anomalib.metrics.aupro import _AUPRO

    metric = _AUPRO(fpr_limit=limit)
    metric.update(scores, marks.int())
    return float(metric.compute())
