"""Plain PyTorch twins of the sweep operators: the specification in code.

Lists hold one tensor an image: maps [H,W], masks bool [H,W], regions bool [R,H,W]; saturations are those of
all images' regions in a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thfr_ext.sweep.checks import (
    Points,
    Samples,
    Tensors,
    raise_nan,
    require_classes,
    require_filled,
    require_saturations,
    wide_dtype,
)
from thfr_ext.sweep.from_samples import FromSamples


def label_regions(masks: Tensor) -> tuple[Tensor, Tensor]:  # [N,H,W] bool -> [N,H,W] int64, [N] int64
    """See :func:`thfr_ext.label_regions`. Pixels take their neighbourhood's lowest number to the end."""
    n, h, w = masks.shape
    numbers = torch.arange(1, h * w + 1, device=masks.device, dtype=torch.float64).reshape(1, h, w)
    outside = float(h * w + 1)
    lowest = torch.where(masks, numbers, outside)
    while n * h * w:
        grown = -torch.nn.functional.max_pool2d(-lowest.unsqueeze(1), 3, stride=1, padding=1).squeeze(1)
        grown = torch.where(masks, grown, outside)
        if torch.equal(grown, lowest):
            break
        lowest = grown
    labels, counts = masks.new_zeros((n, h, w), dtype=torch.int64), masks.new_zeros(n, dtype=torch.int64)
    for i in range(n):
        firsts, inverse = lowest[i][masks[i]].unique(return_inverse=True)
        labels[i][masks[i]] = inverse + 1
        counts[i] = len(firsts)
    return labels, counts


def sample_regions(maps: Sequence[Tensor], regions: Sequence[Tensor]) -> Samples:
    """Negative scores [n], scores of the regions' pixels [p], region after region, and their offsets [R+1].

    Args:
        maps: [H,W] each.
        regions: [R_i,H,W] bool each.
    """
    negatives = torch.cat([m[~r.any(0)] for m, r in zip(maps, regions, strict=True)])
    scores = [m[region] for m, r in zip(maps, regions, strict=True) for region in r]
    areas = torch.tensor([0, *(s.numel() for s in scores)], dtype=torch.int64, device=negatives.device)
    wide = wide_dtype(maps)
    return negatives.to(wide), torch.cat([negatives[:0], *scores]).to(wide), areas.cumsum(0)


def _tops(scores: Tensor, offsets: Tensor, saturations: Tensor) -> tuple[Tensor, Tensor]:
    """The ``saturations[r]`` highest scores of each region r, and the region of each."""
    tops = [
        scores[begin:end].topk(min(s, end - begin), sorted=False).values
        for begin, end, s in zip(
            offsets[:-1].tolist(), offsets[1:].tolist(), saturations.tolist(), strict=True
        )
    ]
    counts = torch.tensor([len(t) for t in tops], device=scores.device)
    return torch.cat(tops), torch.arange(len(tops), device=scores.device).repeat_interleave(counts)


def _areas_of_samples(
    negatives: Tensor,  # [n]
    scores: Tensor,  # [p]
    offsets: Tensor,  # [R+1] int64
    saturations: Tensor,  # [R] int64
    limits: Sequence[float],
) -> Tensor:  # [L] fp64
    """See ``thfr::spro_area`` in csrc/include/thfr/sweep.h: the formula, a tensor operation at a time."""
    tops, region = _tops(scores, offsets, saturations)
    order = negatives.sort().values
    above = len(order) - torch.searchsorted(order, tops, right=True)
    equal = len(order) - above - torch.searchsorted(order, tops)
    areas = []
    for limit in limits:
        # Per-region sums are of integers: their order does not matter, so they are repeatable on a GPU too.
        kept = limit * len(order)
        full = above + equal <= kept
        cut = ~full & (above < kept)
        counted = (full, full * (2 * above + equal), cut)
        sums = [torch.zeros_like(saturations).index_add(0, region, x.long()).double() for x in counted]
        pixels, twice, cuts = sums
        step = (kept - above.double()).square() / (2 * equal.clamp_min(1)).double()
        piece = torch.where(cut, step, 0).max()  # one value is cut, all its pixels alike
        area = pixels * kept - twice / 2 + cuts * piece
        areas.append((area / (saturations.double() * kept)).clamp(0, 1).sort().values.mean())
    return torch.stack(areas)


def _curve_of_samples(
    negatives: Tensor,  # [n]
    scores: Tensor,  # [p]
    offsets: Tensor,  # [R+1] int64
    saturations: Tensor,  # [R] int64
) -> Points:  # [K+1] fp64, [K+1] fp64, [K+1] of the scores' dtype
    """Counts at each distinct score, added up from the highest."""
    thresholds, place = (torch.cat([negatives, scores]) + 0.0).unique(return_inverse=True)
    false = torch.zeros(len(thresholds), dtype=torch.float64, device=scores.device)
    false = false.index_add(0, place[: len(negatives)], torch.ones_like(negatives, dtype=torch.float64))
    tops, region = _tops(scores, offsets, saturations)
    at = torch.searchsorted(thresholds, tops)
    true = torch.zeros_like(false).index_add(0, at, 1 / saturations[region].double())
    zero = false.new_zeros(1)
    fpr = torch.cat([zero, false.flip(0).cumsum(0)]) / len(negatives)
    overlap = torch.cat([zero, true.flip(0).cumsum(0)]) / len(saturations)
    return fpr, overlap.clamp_max(1), torch.cat([thresholds.flip(0), thresholds.new_full((1,), -torch.inf)])


def _of_regions(name: str, maps: Tensors, regions: Tensors, saturations: Tensor | None = None) -> Samples:
    if saturations is not None:
        require_saturations(name, saturations)
    negatives, scores, offsets = sample_regions(maps, regions)
    if bool(negatives.isnan().any()) or bool(scores.isnan().any()):
        raise_nan(name, "maps", maps)
    if bool((offsets.diff() == 0).any()):
        require_filled(name, regions)
    return negatives, scores, offsets


def _components(mask: Tensor) -> Tensor:  # [H,W] bool -> [R,H,W] bool
    labels, counts = label_regions(mask.unsqueeze(0))
    return labels == torch.arange(1, int(counts[0]) + 1, device=mask.device).reshape(-1, 1, 1)


def _of_components(name: str, maps: Tensors, masks: Tensors) -> Samples:
    return _of_regions(name, maps, [_components(m) for m in masks])


_from_samples = FromSamples(_of_components, _of_regions, _areas_of_samples, _curve_of_samples)
component_samples, region_samples = _from_samples.component_samples, _from_samples.region_samples
au_pro, pro_curve = _from_samples.au_pro, _from_samples.pro_curve
au_spro, spro_curve = _from_samples.au_spro, _from_samples.spro_curve
spro_area = _from_samples.spro_area


def auroc(scores: Tensor, labels: Tensor) -> Tensor:  # any shape -> [] fp64
    """See :func:`thfr_ext.auroc`: pairs in which the positive is higher, ties half."""
    scores, labels = scores.reshape(-1), labels.reshape(-1)
    require_classes(len(labels), int(labels.count_nonzero()))
    if bool(scores.isnan().any()):
        raise_nan("auroc", "scores", [scores])
    negatives = scores[~labels].sort().values
    positives = scores[labels]
    below = torch.searchsorted(negatives, positives)
    not_above = torch.searchsorted(negatives, positives, right=True)
    return (below + not_above).sum().double() / (2 * len(positives) * len(negatives))
