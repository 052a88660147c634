"""What the sweeps ask of their input. Messages begin with ``name``, the function called.

``check_*`` look at shapes, dtypes and devices only, so that fake kernels run them too; ``require_*`` look at
data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from thfr_ext.core.tensors import describe, require_float, require_shape

Tensors = list[Tensor]
#: negatives [n], scores of the regions' pixels [p], offsets of the regions [R+1] int64
Samples = tuple[Tensor, Tensor, Tensor]
#: fpr [K+1], overlap [K+1], thresholds [K+1]
Points = tuple[Tensor, Tensor, Tensor]


def wide_dtype(tensors: Sequence[Tensor]) -> torch.dtype:
    """The dtype that holds every score exactly."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def check_images(
    name: str, maps: Sequence[Tensor], others: Sequence[Tensor], argument: str, dims: int
) -> None:
    """maps [H,W] of floats; ``others`` bool, [H,W] (``dims`` 2) or [R,H,W] (3)."""
    if not maps:
        raise ValueError(f"{name}: maps: expected at least one image, got none")
    if len(others) != len(maps):
        raise ValueError(
            f"{name}: {argument}: expected one for each of the {len(maps)} images, got {len(others)}"
        )
    for i, (scores, other) in enumerate(zip(maps, others, strict=True)):
        require_shape(name, f"maps: image {i}", scores, "[H,W]", dims=2)
        require_float(name, f"maps: image {i}", scores)
        if scores.numel() == 0 or scores.device != maps[0].device:
            raise ValueError(
                f"{name}: maps: image {i}: expected pixels on {maps[0].device}, got {describe(scores)}"
            )
        if other.dim() != dims or other.shape[-2:] != scores.shape or other.device != scores.device:
            expected = ",".join([*(["R"] if dims == 3 else []), *map(str, scores.shape)])
            raise ValueError(
                f"{name}: {argument}: image {i}: expected [{expected}] bool on {scores.device}, "
                f"got {describe(other)}"
            )
        if other.dtype != torch.bool:
            raise TypeError(
                f"{name}: {argument}: image {i}: expected bool (as of `> 0`), got {describe(other)}"
            )


def check_saturations(name: str, saturations: Tensor, regions: int, device: torch.device) -> None:
    if saturations.dim() != 1 or saturations.shape[0] != regions or saturations.device != device:
        raise ValueError(
            f"{name}: saturations: expected [{regions}] on {device}, one for each region, "
            f"got {describe(saturations)}"
        )
    if saturations.dtype != torch.int64:
        raise TypeError(f"{name}: saturations: expected int64, got {describe(saturations)}")


def check_limits(name: str, argument: str, limits: Sequence[float]) -> None:
    if not limits:
        raise ValueError(f"{name}: {argument}: expected at least one number in (0, 1], got none")
    for limit in limits:
        if not 0 < limit <= 1:  # NaN too
            raise ValueError(f"{name}: {argument}: expected a number in (0, 1], got {limit}")


def check_samples(name: str, negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor) -> None:
    """negatives [n] and scores [p] of one float dtype; offsets [R+1] and saturations [R], R >= 1, int64."""
    for argument, tensor in {"negatives": negatives, "region_scores": scores}.items():
        require_shape(name, argument, tensor, "[n]", dims=1)
        if tensor.dtype not in (torch.float32, torch.float64) or tensor.dtype != negatives.dtype:
            raise TypeError(
                f"{name}: {argument}: expected one of float32 and float64, got {describe(tensor)}"
            )
    for argument, tensor in {"region_offsets": offsets, "saturations": saturations}.items():
        require_shape(name, argument, tensor, "[R+1]" if argument == "region_offsets" else "[R]", dims=1)
        if tensor.dtype != torch.int64:
            raise TypeError(f"{name}: {argument}: expected int64, got {describe(tensor)}")
    devices = {"region_scores": scores, "region_offsets": offsets, "saturations": saturations}
    for argument, tensor in devices.items():
        if tensor.device != negatives.device:
            raise ValueError(
                f"{name}: {argument}: expected device {negatives.device}, got {describe(tensor)}"
            )
    if saturations.shape[0] < 1 or offsets.shape[0] != saturations.shape[0] + 1:
        raise ValueError(
            f"{name}: saturations: expected [R] for region_offsets [R+1], R >= 1, "
            f"got {describe(saturations)} for {describe(offsets)}"
        )


def check_pro(name: str, maps: Sequence[Tensor], masks: Sequence[Tensor], limit: float = 1.0) -> None:
    check_images(name, maps, masks, "masks", 2)
    check_limits(name, "limit", [limit])


def check_spro(
    name: str,
    maps: Sequence[Tensor],
    regions: Sequence[Tensor],
    saturations: Tensor,
    limits: Sequence[float] = (1.0,),
) -> None:
    check_images(name, maps, regions, "regions", 3)
    check_saturations(name, saturations, sum(r.shape[0] for r in regions), maps[0].device)
    check_limits(name, "limits", limits)


def check_spro_area(
    negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor, limits: Sequence[float]
) -> None:
    check_samples("spro_area", negatives, scores, offsets, saturations)
    check_limits("spro_area", "limits", limits)


def check_label_regions(masks: Tensor) -> None:
    require_shape("label_regions", "masks", masks, "[N,H,W]", dims=3)
    if masks.dtype != torch.bool:
        raise TypeError(f"label_regions: masks: expected bool (as of `> 0`), got {describe(masks)}")


def check_auroc(name: str, scores: Tensor, labels: Tensor) -> None:
    require_float(name, "scores", scores)
    if labels.shape != scores.shape or labels.device != scores.device:
        raise ValueError(
            f"{name}: labels: expected shape and device of scores ({describe(scores)}), "
            f"got {describe(labels)}"
        )
    if labels.dtype != torch.bool:
        raise TypeError(f"{name}: labels: expected bool, got {describe(labels)}")


def require_offsets(name: str, scores: Tensor, offsets: Tensor) -> None:
    ends = torch.stack([offsets[0], offsets[-1]]).tolist()
    if ends != [0, scores.shape[0]] or bool((offsets.diff() < 1).any()):
        raise ValueError(
            f"{name}: region_offsets: expected to rise from 0 to the {scores.shape[0]} region_scores by at "
            f"least one pixel a region, got {ends[0]} to {ends[1]}"
        )


def require_saturations(name: str, saturations: Tensor) -> None:
    if saturations.numel() and int(saturations.min()) < 1:
        region = int(saturations.argmin())
        raise ValueError(
            f"{name}: saturations: expected at least 1 pixel, got {int(saturations[region])} "
            f"for region {region}"
        )


def require_regions(name: str, argument: str, count: int, images: int) -> None:
    if count == 0:
        raise ValueError(
            f"{name}: {argument}: expected at least one anomalous region, got none in {images} images"
        )


def require_negatives(name: str, argument: str, negatives: int) -> None:
    if negatives == 0:
        raise ValueError(f"{name}: {argument}: expected at least one pixel outside of every region, got none")


def require_samples(negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor) -> None:
    """Of spro_area: what its samples hold."""
    require_negatives("spro_area", "negatives", len(negatives))
    require_offsets("spro_area", scores, offsets)
    require_saturations("spro_area", saturations)
    for argument, tensor in {"negatives": negatives, "region_scores": scores}.items():
        if bool(tensor.isnan().any()):
            raise ValueError(f"spro_area: {argument}: expected numbers, got NaN")


def require_filled(name: str, regions: Sequence[Tensor]) -> None:
    for i, stack in enumerate(regions):
        filled = stack.flatten(1).any(1)
        if not bool(filled.all()):
            raise_empty(name, i, int(filled.int().argmin()))


def require_classes(labels: int, positives: int) -> None:
    if positives in (0, labels):
        raise ValueError(
            f"auroc: labels: expected positives and negatives, got {positives} positives "
            f"among {labels} labels"
        )


def raise_empty(name: str, image: int, region: int) -> NoReturn:
    raise ValueError(
        f"{name}: regions: image {image}: expected a pixel in every region, got none in region {region}"
    )


def raise_nan(name: str, argument: str, tensors: Sequence[Tensor]) -> NoReturn:
    bad = next(i for i, t in enumerate(tensors) if bool(t.isnan().any()))
    place = f"image {bad} of {len(tensors)}" if len(tensors) > 1 else describe(tensors[bad])
    raise ValueError(f"{name}: {argument}: expected numbers, got NaN in {place}")
