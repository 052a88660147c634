"""The sweeps on the CPU: calls of the native module, and what they find in the data.

Lists hold one tensor an image: maps [H,W], masks bool [H,W], regions bool [R,H,W]; saturations are those of
all images' regions in a row. ``name`` begins messages.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thfr_ext import _C
from thfr_ext.core.tensors import view
from thfr_ext.sweep.checks import (
    Points,
    Samples,
    Tensors,
    raise_empty,
    raise_nan,
    require_classes,
    require_negatives,
    require_regions,
    require_samples,
    require_saturations,
    wide_dtype,
)


def _views(tensors: Sequence[Tensor]) -> list[tuple]:
    return [view(t) for t in tensors]


def _component_scores(name: str, maps: Tensors, masks: Tensors) -> tuple[Tensor, Tensor]:
    """Scores of the 8-connected regions' pixels, and the offsets of the regions."""
    pixels = sum(int(m.count_nonzero()) for m in masks)
    regions = min(pixels, sum(-(-m.shape[0] // 2) * -(-m.shape[1] // 2) for m in masks))
    scores, offsets = torch.empty(pixels, dtype=wide_dtype(maps)), torch.empty(regions + 1, dtype=torch.int64)
    found = _C.component_scores(
        _views(maps), _views(masks), view(scores), view(offsets), torch.get_num_threads()
    )
    if found < 0:
        raise RuntimeError(f"{name}: masks: changed while being read")
    if bool(scores.isnan().any()):
        raise_nan(name, "maps", maps)
    return scores, offsets[: found + 1].clone()


def _region_areas(name: str, regions: Tensors) -> Tensor:
    areas = []
    for i, stack in enumerate(regions):
        area = torch.empty(stack.shape[0], dtype=torch.int64)
        _C.region_areas(view(stack), view(area), torch.get_num_threads())
        if bool((area == 0).any()):
            raise_empty(name, i, int(area.argmin()))
        areas.append(area)
    return torch.cat(areas)


def _region_scores(name: str, maps: Tensors, regions: Tensors) -> tuple[Tensor, Tensor, Tensors]:
    """Scores of the regions' pixels, the offsets of the regions, and each image's pixels in any region."""
    areas = _region_areas(name, regions)
    offsets = torch.nn.functional.pad(areas.cumsum(0), (1, 0))
    scores = torch.empty(int(offsets[-1]), dtype=wide_dtype(maps))
    covered = [torch.empty(m.shape, dtype=torch.bool) for m in maps]
    _C.region_scores(
        _views(maps), _views(regions), view(offsets), view(scores), _views(covered), torch.get_num_threads()
    )
    if bool(scores.isnan().any()):
        raise_nan(name, "maps", maps)
    return scores, offsets, covered


def _area(
    name: str,
    argument: str,
    maps: Tensors,
    covered: Tensors,
    scores: Tensor,
    offsets: Tensor,
    saturations: Tensor,
    limits: Sequence[float],
) -> Tensor:
    bounds = torch.tensor(limits, dtype=torch.float64)
    areas = torch.empty_like(bounds)
    nan_image, negatives = _C.spro_area(
        _views(maps), _views(covered), view(scores), view(offsets), view(saturations), view(bounds),
        view(areas), torch.get_num_threads(),
    )  # fmt: skip
    if nan_image >= 0:
        raise_nan(name, "maps", maps)
    require_negatives(name, argument, negatives)
    return areas


def _curve(
    name: str,
    argument: str,
    maps: Tensors,
    covered: Tensors,
    scores: Tensor,
    offsets: Tensor,
    saturations: Tensor,
) -> Points:
    (nan_image, negatives), *points = _C.spro_curve(
        _views(maps), _views(covered), view(scores), view(offsets), view(saturations), torch.get_num_threads()
    )
    if nan_image >= 0:
        raise_nan(name, "maps", maps)
    require_negatives(name, argument, negatives)
    fpr, overlap, thresholds = (torch.from_numpy(p) for p in points)
    return fpr, overlap, thresholds.to(wide_dtype(maps))


def _samples(name: str, maps: Tensors, masks: Tensors, regions: tuple[Tensor, Tensor]) -> Samples:
    """What the areas need of the input; ``masks`` are the pixels in regions, ``regions`` their scores."""
    counts = torch.tensor([mask.numel() - int(mask.count_nonzero()) for mask in masks])
    negatives = torch.empty(int(counts.sum()), dtype=wide_dtype(maps))
    nan_image = _C.negative_scores(
        _views(maps), _views(masks), view(counts), view(negatives), torch.get_num_threads()
    )
    if nan_image >= 0:
        raise_nan(name, "maps", maps)
    return negatives, *regions


def label_regions(masks: Tensor) -> tuple[Tensor, Tensor]:
    labels = masks.new_empty(masks.shape, dtype=torch.int64)
    counts = masks.new_empty(masks.shape[:1], dtype=torch.int64)
    _C.label_regions(view(masks), view(labels), view(counts), torch.get_num_threads())
    return labels, counts


def component_samples(maps: Tensors, masks: Tensors) -> Samples:
    name = "component_samples"
    return _samples(name, maps, masks, _component_scores(name, maps, masks))


def region_samples(maps: Tensors, regions: Tensors) -> Samples:
    scores, offsets, covered = _region_scores("region_samples", maps, regions)
    return _samples("region_samples", maps, covered, (scores, offsets))


def _pro(name: str, maps: Tensors, masks: Tensors) -> tuple[Tensor, Tensor, Tensor]:
    scores, offsets = _component_scores(name, maps, masks)
    require_regions(name, "masks", len(offsets) - 1, len(maps))
    return scores, offsets, offsets.diff()


def au_pro(maps: Tensors, masks: Tensors, limit: float) -> Tensor:
    return _area("au_pro", "masks", maps, masks, *_pro("au_pro", maps, masks), [limit])[0]


def pro_curve(maps: Tensors, masks: Tensors) -> Points:
    return _curve("pro_curve", "masks", maps, masks, *_pro("pro_curve", maps, masks))


def _spro(
    name: str, maps: Tensors, regions: Tensors, saturations: Tensor
) -> tuple[Tensors, Tensor, Tensor, Tensor]:
    require_regions(name, "regions", len(saturations), len(maps))
    require_saturations(name, saturations)
    scores, offsets, covered = _region_scores(name, maps, regions)
    return covered, scores, offsets, saturations.contiguous()


def au_spro(maps: Tensors, regions: Tensors, saturations: Tensor, limits: Sequence[float]) -> Tensor:
    return _area("au_spro", "regions", maps, *_spro("au_spro", maps, regions, saturations), limits)


def spro_curve(maps: Tensors, regions: Tensors, saturations: Tensor) -> Points:
    return _curve("spro_curve", "regions", maps, *_spro("spro_curve", maps, regions, saturations))


def spro_area(
    negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: Sequence[float]
) -> Tensor:
    require_samples(negatives, scores, offsets, saturations)
    scores, offsets, saturations = (t.contiguous() for t in (scores, offsets, saturations))
    maps = [negatives.unsqueeze(0)]
    return _area("spro_area", "negatives", maps, [], scores, offsets, saturations, limits)


def auroc(scores: Tensor, labels: Tensor) -> Tensor:
    flat, marks = scores.reshape(-1), labels.reshape(-1)
    (nan, negatives), area = _C.auroc(view(flat), view(marks), torch.get_num_threads())
    require_classes(len(flat), len(flat) - negatives)
    if nan >= 0:
        raise_nan("auroc", "scores", [scores])
    return torch.tensor(area, dtype=torch.float64)
