"""What the sweeps ask of their input. Messages begin with ``name``, the function called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from thfr_ext._tensor import describe, require_float, require_shape

# Without a look at data: fake kernels run these too.


def check_images(
    name: str, maps: Sequence[Tensor], others: Sequence[Tensor], argument: str, dims: int
) -> None:
    """maps [H,W] of floats; ``others`` bool, [H,W] (``dims`` 2) or [R,H,W] (3)."""
    if not maps:
        raise ValueError(f"{name}: maps: expected at least one image, got none")
    if len(others) != len(maps):
        raise ValueError(
            f"{name}: {argument}: expected one for each of the {len(maps)} maps, got {len(others)}"
        )
    for i, (scores, other) in enumerate(zip(maps, others, strict=True)):
        require_shape(name, f"maps: image {i}", scores, "[H,W]", dims=2)
        require_float(name, f"maps: image {i}", scores)
        if scores.numel() == 0 or scores.device != maps[0].device:
            raise ValueError(
                f"{name}: maps: image {i}: expected pixels on {maps[0].device}, got {describe(scores)}"
            )
        shape = [*(["R"] if dims == 3 else []), *scores.shape]
        if other.dim() != dims or other.shape[-2:] != scores.shape or other.device != scores.device:
            expected = ",".join(map(str, shape))
            raise ValueError(
                f"{name}: {argument}: image {i}: expected [{expected}] bool on {scores.device}, got {describe(other)}"
            )
        if other.dtype != torch.bool:
            raise TypeError(
                f"{name}: {argument}: image {i}: expected bool (try `> 0`), got {describe(other)}"
            )


def check_limits(name: str, argument: str, limits: Sequence[float]) -> None:
    if not limits:
        raise ValueError(f"{name}: {argument}: expected at least one number in (0, 1], got none")
    for limit in limits:
        if not 0 < limit <= 1:  # NaN too
            raise ValueError(f"{name}: {argument}: expected a number in (0, 1], got {limit}")


def check_samples(name: str, negatives: Tensor, scores: Tensor, offsets: Tensor, saturations: Tensor) -> None:
    for argument, tensor in {"negatives": negatives, "region_scores": scores}.items():
        require_shape(name, argument, tensor, "[n]", dims=1)
        if tensor.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name}: {argument}: expected float32 or float64, got {describe(tensor)}")
        if tensor.dtype != negatives.dtype or tensor.device != negatives.device:
            raise ValueError(
                f"{name}: {argument}: expected as negatives {describe(negatives)}, got {describe(tensor)}"
            )
    for argument, tensor in {"region_offsets": offsets, "saturations": saturations}.items():
        require_shape(name, argument, tensor, "[R+1]" if argument == "region_offsets" else "[R]", dims=1)
        if tensor.dtype != torch.int64:
            raise TypeError(f"{name}: {argument}: expected int64, got {describe(tensor)}")
        if tensor.device != negatives.device:
            raise ValueError(
                f"{name}: {argument}: expected device {negatives.device}, got {describe(tensor)}"
            )
    if offsets.shape[0] != saturations.shape[0] + 1:
        raise ValueError(
            f"{name}: region_offsets: expected [{saturations.shape[0] + 1}], one more than saturations, "
            f"got {describe(offsets)}"
        )


# With a look at data.


def require_offsets(name: str, scores: Tensor, offsets: Tensor) -> None:
    if offsets[0] != 0 or offsets[-1] != scores.shape[0] or bool((offsets.diff() < 1).any()):
        raise ValueError(
            f"{name}: region_offsets: expected to rise from 0 to the {scores.shape[0]} region_scores, "
            f"at least one pixel a region, got {offsets[0].item()} to {offsets[-1].item()}"
        )


def require_saturations(name: str, saturations: Tensor) -> None:
    if saturations.numel() and int(saturations.min()) < 1:
        region = int(saturations.argmin())
        raise ValueError(
            f"{name}: saturations: expected at least 1 pixel, got {saturations[region]} for region {region}"
        )


def require_regions(name: str, argument: str, count: int, images: int) -> None:
    if count == 0:
        raise ValueError(
            f"{name}: {argument}: expected at least one anomalous region, got none in {images} images"
        )


def require_negatives(name: str, argument: str, negatives: int) -> None:
    if negatives == 0:
        raise ValueError(f"{name}: {argument}: expected at least one pixel outside of every region, got none")


def raise_nan(name: str, argument: str, tensors: Sequence[Tensor], what: str = "image") -> NoReturn:
    bad = next(i for i, t in enumerate(tensors) if bool(t.isnan().any()))
    raise ValueError(f"{name}: {argument}: expected numbers, got NaN in {what} {bad}")
