"""The scoring operators on CUDA: allocation and launches, nothing that waits for the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thfr_ext.core import devices
from thfr_ext.core.tensors import NO_TENSOR, view
from thfr_ext.scoring import blur, resample
from thfr_ext.scoring.checks import DEFAULT_EPS, empty_distance, empty_gradients, empty_map


def cosine_distance(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    with devices.on_device_of(features) as stream:
        distance = empty_distance(features)
        level = (view(features), view(restored), view(distance))
        devices.native.cuda_cosine_distances([level], eps, NO_TENSOR, stream)
    return distance


def cosine_distance_backward(
    grad: Tensor, features: Tensor, restored: Tensor, eps: float, need_features: bool, need_restored: bool
) -> tuple[Tensor, Tensor]:
    with devices.on_device_of(features) as stream:
        grad_x, grad_y = empty_gradients(features, restored, need_features, need_restored)
        grad = grad.contiguous()
        devices.native.cuda_cosine_distance_backward(
            view(grad),
            view(features),
            view(restored),
            eps,
            view(grad_x) if need_features else NO_TENSOR,
            view(grad_y) if need_restored else NO_TENSOR,
            stream,
        )
    return grad_x, grad_y


def anomaly_map(
    features: Sequence[Tensor],
    restored: Sequence[Tensor],
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
) -> tuple[Tensor, Tensor]:
    with devices.on_device_of(features[0]) as stream:
        anomaly, score = empty_map(features, size)
        distances = [x.new_empty((x.shape[0], *x.shape[2:]), dtype=torch.float32) for x in features]
        pairs = zip(features, restored, distances, strict=True)
        tables = [(view(x), view(y), view(distance)) for x, y, distance in pairs]
        devices.native.cuda_cosine_distances(tables, DEFAULT_EPS, view(score), stream)
        _blend(distances, size, sigma, combine, weights, anomaly, score, stream)
    return anomaly, score


def upsample_blur(
    distances: Sequence[Tensor],  # [B,h,w] each
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
) -> tuple[Tensor, Tensor]:
    with devices.on_device_of(distances[0]) as stream:
        anomaly, score = empty_map(distances, size)
        score.view(torch.int32).fill_(-1)  # as cuda_cosine_distances leaves it: below every number
        values = [distance.float().contiguous() for distance in distances]
        _blend(values, size, sigma, combine, weights, anomaly, score, stream)
    return anomaly, score


def _blend(
    distances: Sequence[Tensor],  # [B,h,w] fp32 each, contiguous
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
    anomaly: Tensor,  # [B,H,W]
    score: Tensor,  # [B]
    stream: int,
) -> None:
    product = combine == "product"
    keep: list[Any] = []  # what the native module borrows
    # The blur is linear: a sum of blurred levels is one launch; a product is blurred after.
    levels = [
        _level(distance, size, 0.0 if product else sigma, 1.0 if weights is None else weights[k], keep)
        for k, distance in enumerate(distances)
    ]
    if product and sigma > 0:
        sharp = torch.empty_like(anomaly)
        devices.native.cuda_blend_levels(levels, True, view(sharp), NO_TENSOR, stream)
        levels, product = [_level(sharp, size, sigma, 1.0, keep)], False
    devices.native.cuda_blend_levels(levels, product, view(anomaly), view(score), stream)


def _level(
    values: Tensor, size: Sequence[int], sigma: float, weight: float, keep: list[Any]
) -> tuple[Any, ...]:
    """A level for the native module, from values [B,h,w]; the matrices in it are added to ``keep``."""
    _, h, w = values.shape
    rows, columns = _matrix(h, size[0], sigma, values.device), _matrix(w, size[1], sigma, values.device)
    keep += [rows, columns]
    row_start, row_band, *row_blocks = rows
    return (
        view(values),
        view(row_start),
        row_band,
        *(view(t) for t in row_blocks),
        *(view(t) for t in columns[2:]),
        weight,
    )


#: start [size] and width of the band of ``blur.row_band``; start and weights of ``blur.column_blocks``
_Matrix = tuple[Tensor, int, Tensor, Tensor]

_matrices: dict[torch.device, dict[tuple[int, int, float], _Matrix]] = {}


def _matrix(source: int, size: int, sigma: float, device: torch.device) -> _Matrix:
    """A matrix on the device, copied there once and kept for good: a captured graph reads it whenever it is
    replayed. The copy is the only time that this module waits for the device."""
    kept = _matrices.setdefault(device, {})
    key = (source, size, sigma)
    if key not in kept:
        if resample.capturing(device):
            raise RuntimeError(
                f"anomaly_map: no matrix for {source} to {size} pixels, sigma {sigma} on {device} yet: "
                "call once with these sizes before a CUDA graph is captured"
            )
        kept[key] = resample.in_thread(lambda: _copied(*key, device), device)
    return kept[key]


def _copied(source: int, size: int, sigma: float, device: torch.device) -> _Matrix:
    start, weights = blur.row_band(source, size, sigma)
    blocks = [t.to(device) for t in blur.column_blocks(source, size, sigma)]
    return start.to(device), weights.shape[1], blocks[0], blocks[1]
