"""Calls of the native sweeps. Arguments have passed the checks that need no data; ``name`` begins
messages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thfr_ext import _C
from thfr_ext.core.tensors import view
from thfr_ext.sweep.checks import raise_empty, raise_nan, require_negatives

#: negatives [n], scores of the regions' pixels [p], offsets of the regions [R+1] int64
Samples = tuple[Tensor, Tensor, Tensor]
#: fpr, overlap, thresholds
Points = tuple[Tensor, Tensor, Tensor]


def wide_dtype(tensors: Sequence[Tensor]) -> torch.dtype:
    """The dtype that holds every score exactly."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def _views(tensors: Sequence[Tensor]) -> list[tuple]:
    return [view(t) for t in tensors]


def component_scores(name: str, maps: list[Tensor], masks: list[Tensor]) -> tuple[Tensor, Tensor]:
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


def _region_areas(name: str, regions: list[Tensor]) -> Tensor:
    areas = []
    for i, stack in enumerate(regions):
        area = torch.empty(stack.shape[0], dtype=torch.int64)
        _C.region_areas(view(stack), view(area), torch.get_num_threads())
        if bool((area == 0).any()):
            raise_empty(name, i, int(area.argmin()))
        areas.append(area)
    return torch.cat(areas)


def region_scores(
    name: str, maps: list[Tensor], regions: list[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
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


def area(
    name: str,
    argument: str,
    maps: list[Tensor],
    covered: list[Tensor],
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


def curve(
    name: str,
    argument: str,
    maps: list[Tensor],
    covered: list[Tensor],
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


def samples(name: str, maps: list[Tensor], masks: list[Tensor], regions: tuple[Tensor, Tensor]) -> Samples:
    """What the areas need of the input; ``masks`` are the pixels in regions, ``regions`` their scores."""
    counts = torch.tensor([mask.numel() - int(mask.count_nonzero()) for mask in masks])
    negatives = torch.empty(int(counts.sum()), dtype=wide_dtype(maps))
    nan_image = _C.negative_scores(
        _views(maps), _views(masks), view(counts), view(negatives), torch.get_num_threads()
    )
    if nan_image >= 0:
        raise_nan(name, "maps", maps)
    return negatives, *regions
