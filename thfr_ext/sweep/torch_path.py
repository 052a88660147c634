"""The sweep operators in PyTorch operations: sorts and searches.

For CUDA tensors without a checked kernel, and the specification in code.

Lists hold one tensor an image: maps [H,W], masks bool [H,W], regions bool [R,H,W]; saturations are those of
all images' regions in a row.

Shapes depend on how many pixels lie in regions, so that an operator waits for these numbers; all that it has
to refuse comes with one wait. Labelling repeats a 3 x 3 minimum until nothing changes, with a wait every four
times; labels also take their label's own label, so that a region needs about the logarithm of its
diameter of them, each of which moves some 40 bytes a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from thfr_ext.sweep.checks import (
    Points,
    Samples,
    Tensors,
    raise_nan,
    require_classes,
    require_filled,
    require_negatives,
    require_regions,
    require_samples,
    require_saturations,
    wide_dtype,
)
from thfr_ext.sweep.curve import curve

#: minima between two waits
STEPS = 4
_Spro = tuple[Tensor, Tensor, Tensor, Tensor]  # negatives, scores, offsets, saturations


def _roots(masks: Tensor) -> Tensor:  # [N,H,W] bool -> [N,H*W] int64
    """For each marked pixel the lowest index of its region's pixels; for the others H * W."""
    n, h, w = masks.shape
    own = torch.arange(h * w, device=masks.device).expand(n, -1)
    outside = h * w
    flat = masks.reshape(n, -1)
    roots = torch.where(flat, own, outside)
    while n * h * w:
        before = roots
        for _ in range(STEPS):
            # fp64 holds all indices; -max(-x) is the minimum.
            lowest = -max_pool2d(-roots.view(n, 1, h, w).double(), 3, stride=1, padding=1)
            roots = torch.where(flat, lowest.long().view(n, -1), outside)
            roots = pad(roots, (0, 1), value=outside).gather(1, roots)
        if torch.equal(before, roots):  # waits
            break
    return roots


def label_regions(masks: Tensor) -> tuple[Tensor, Tensor]:  # [N,H,W] bool -> [N,H,W] int64, [N] int64
    """See :func:`thfr_ext.label_regions`."""
    n, h, w = masks.shape
    roots, flat = _roots(masks), masks.reshape(n, -1)
    own = torch.arange(h * w, device=masks.device)
    numbers = ((roots == own) & flat).cumsum(1)  # a region's first pixel is its root
    labels = pad(numbers, (0, 1)).gather(1, roots).masked_fill(~flat, 0)
    counts = numbers[:, -1].clone() if h * w else masks.new_zeros(n, dtype=torch.int64)
    return labels.view(n, h, w), counts


def _component_labels(masks: Tensors) -> tuple[Tensor, Tensor]:
    """Labels of all images' pixels in a row, [pixels], 0 outside and else numbered through; their number."""
    by_shape: dict[torch.Size, list[int]] = {}
    for i, mask in enumerate(masks):
        by_shape.setdefault(mask.shape, []).append(i)
    labels: list[Tensor] = [masks[0]] * len(masks)
    counts: list[Tensor] = [masks[0]] * len(masks)
    for numbers in by_shape.values():
        found, count = label_regions(torch.stack([masks[i] for i in numbers]))
        for i, image, regions in zip(numbers, found, count, strict=True):
            labels[i], counts[i] = image, regions
    ends = torch.stack(counts).cumsum(0)
    shifted = [
        torch.where(label > 0, label + end - count, 0).view(-1)
        for label, end, count in zip(labels, ends, counts, strict=True)
    ]
    return torch.cat(shifted), ends[-1]


def _flat(maps: Tensors) -> Tensor:
    wide = wide_dtype(maps)
    return torch.cat([m.reshape(-1).to(wide) for m in maps])


def _of_components(name: str, maps: Tensors, masks: Tensors) -> Samples:
    values, marks = _flat(maps), torch.cat([m.reshape(-1) for m in masks])
    labels, last = _component_labels(masks)
    nan, regions = torch.stack([values.isnan().any().long(), last]).tolist()  # waits
    if nan:
        raise_nan(name, "maps", maps)
    region, order = labels[marks].sort(stable=True)
    bounds = torch.arange(1, regions + 2, device=region.device)
    return values[~marks], values[marks].index_select(0, order), torch.searchsorted(region, bounds)


def _of_regions(name: str, maps: Tensors, regions: Tensors, saturations: Tensor | None = None) -> Samples:
    values = _flat(maps)
    wide = values.dtype
    marks = torch.cat([r.reshape(-1) for r in regions])
    covered = torch.cat([r.any(0).reshape(-1) for r in regions])
    areas = torch.cat([r.flatten(1).sum(1) for r in regions])
    low = (saturations < 1).any() if saturations is not None else torch.zeros_like(values.isnan().any())
    nan, empty, few = torch.stack([values.isnan().any(), (areas == 0).any(), low]).tolist()  # waits
    if few and saturations is not None:
        require_saturations(name, saturations)
    if nan:
        raise_nan(name, "maps", maps)
    if empty:
        require_filled(name, regions)
    spread = torch.cat([m.to(wide).expand(r.shape).reshape(-1) for m, r in zip(maps, regions, strict=True)])
    return values[~covered], spread[marks], pad(areas.cumsum(0), (1, 0))


def _areas(
    negatives: Tensor,  # [n]
    scores: Tensor,  # [p]
    offsets: Tensor,  # [R+1] int64
    saturations: Tensor,  # [R] int64
    limits: Sequence[float],
) -> Tensor:  # [L] fp64
    """See ``thfr::spro_area`` in csrc/include/thfr/sweep.h."""
    ordered, order = scores.sort(descending=True, stable=True)
    number = torch.arange(len(scores), device=scores.device)
    region = torch.searchsorted(offsets[1:].contiguous(), order, right=True)
    # The highest pixels of each region count, as many as saturate it: pixels in the order of their regions.
    by_region, place = region.sort(stable=True)
    kept = torch.empty_like(region, dtype=torch.bool)
    kept[place] = number - offsets[by_region] < saturations[by_region]
    values = negatives.sort().values
    above = len(values) - torch.searchsorted(values, ordered, right=True)
    equal = len(values) - above - torch.searchsorted(values, ordered)
    areas = []
    for limit in limits:
        # Per-region sums are of integers: their order does not matter, so they are repeatable.
        most = limit * len(values)
        full = kept & (above + equal <= most)
        cut = kept & ~full & (above < most)
        counted = torch.stack([full.long(), full * (2 * above + equal), cut.long()])
        sums = counted.new_zeros((3, len(saturations))).index_add_(1, region, counted).double()
        step = (most - above.double()).square() / (2 * equal.clamp_min(1)).double()
        piece = torch.where(cut, step, 0).max()  # one value is cut, all its pixels alike
        area = sums[0] * most - sums[1] / 2 + sums[2] * piece
        areas.append((area / (saturations.double() * most)).clamp(0, 1).sort().values.mean())
    return torch.stack(areas)


def _pro(name: str, maps: Tensors, masks: Tensors) -> _Spro:
    negatives, scores, offsets = _of_components(name, maps, masks)
    require_regions(name, "masks", len(offsets) - 1, len(maps))
    require_negatives(name, "masks", len(negatives))
    return negatives, scores, offsets, offsets.diff()


def _spro(name: str, maps: Tensors, regions: Tensors, saturations: Tensor) -> _Spro:
    require_regions(name, "regions", len(saturations), len(maps))
    negatives, scores, offsets = _of_regions(name, maps, regions, saturations)
    require_negatives(name, "regions", len(negatives))
    return negatives, scores, offsets, saturations


def component_samples(maps: Tensors, masks: Tensors) -> Samples:
    """See ``torch.ops.thfr_ext.component_samples``."""
    return _of_components("component_samples", maps, masks)


def region_samples(maps: Tensors, regions: Tensors) -> Samples:
    """See ``torch.ops.thfr_ext.region_samples``."""
    return _of_regions("region_samples", maps, regions)


def au_pro(maps: Tensors, masks: Tensors, limit: float) -> Tensor:  # [] fp64
    """See :func:`thfr_ext.au_pro`."""
    return _areas(*_pro("au_pro", maps, masks), [limit])[0]


def pro_curve(maps: Tensors, masks: Tensors) -> Points:
    """See :func:`thfr_ext.pro_curve`."""
    return curve(*_pro("pro_curve", maps, masks))


def au_spro(
    maps: Tensors, regions: Tensors, saturations: Tensor, limits: Sequence[float]
) -> Tensor:  # [L] fp64
    """See :func:`thfr_ext.au_spro`."""
    return _areas(*_spro("au_spro", maps, regions, saturations), limits)


def spro_curve(maps: Tensors, regions: Tensors, saturations: Tensor) -> Points:
    """See :func:`thfr_ext.spro_curve`."""
    return curve(*_spro("spro_curve", maps, regions, saturations))


def spro_area(
    negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: Sequence[float]
) -> Tensor:  # [L] fp64
    """See ``torch.ops.thfr_ext.spro_area``: the areas of :func:`au_spro` from samples taken before."""
    require_samples(negatives, scores, offsets, saturations)
    return _areas(negatives, scores, offsets, saturations, limits)


def auroc(scores: Tensor, labels: Tensor) -> Tensor:  # any shape -> [] fp64
    """See :func:`thfr_ext.auroc`."""
    flat, marks = scores.reshape(-1), labels.reshape(-1)
    if len(flat) == 0:
        require_classes(0, 0)
    nan, positives = torch.stack([flat.isnan().any().long(), marks.sum()]).tolist()  # waits
    require_classes(len(flat), positives)
    if nan:
        raise_nan("auroc", "scores", [scores])
    ordered, order = flat.to(wide_dtype([flat])).sort()
    above = marks[order]
    below = pad((~above).cumsum(0), (1, 0))  # negatives before each place
    # A positive's negatives: those below it, and those not above it; pairs that tie count half.
    first = torch.searchsorted(ordered, ordered)
    last = torch.searchsorted(ordered, ordered, right=True)
    twice = torch.where(above, below[first] + below[last], 0).sum()
    return twice.double() / (2 * positives * (len(flat) - positives))
