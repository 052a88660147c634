"""The scoring operators on CUDA: allocation and launches, nothing that waits for the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thfr_ext.core import devices
from thfr_ext.core.tensors import NO_TENSOR, View, view
from thfr_ext.scoring import blur, resample
from thfr_ext.scoring.checks import DEFAULT_EPS, empty_distance, empty_gradients, empty_map

#: numbers that an address of scratch memory is a multiple of
ALIGNED = 64


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
        scratch, distances = _scratch(features)
        pairs = [(view(x), view(y), d) for x, y, d in zip(features, restored, distances, strict=True)]
        plan = _plan(distances, size, sigma, combine, weights, anomaly)
        devices.native.cuda_anomaly_map(pairs, DEFAULT_EPS, *plan.views, view(anomaly), view(score), stream)
    del scratch, plan  # kept until here: the native module borrows them
    return anomaly, score


def _scratch(features: Sequence[Tensor]) -> tuple[Tensor, list[View]]:  # levels of [B,C,h,w]
    """One allocation for the distances of all levels, and views [B,h,w] fp32 of it."""
    shapes = [(x.shape[0], x.shape[2], x.shape[3]) for x in features]
    counts = [-(-b * h * w // ALIGNED) * ALIGNED for b, h, w in shapes]
    scratch = features[0].new_empty(sum(counts), dtype=torch.float32)
    address, code, *_ = view(scratch)
    views: list[View] = []
    for (b, h, w), count in zip(shapes, counts, strict=True):
        views.append((address, code, (b, h, w), (h * w, w, 1)))
        address += 4 * count
    return scratch, views


def upsample_blur(
    distances: Sequence[Tensor],  # [B,h,w] each
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
) -> tuple[Tensor, Tensor]:
    with devices.on_device_of(distances[0]) as stream:
        anomaly, score = empty_map(distances, size)
        score.view(torch.int32).fill_(-1)  # as cuda_anomaly_map leaves it: below every number
        values = [distance.float().contiguous() for distance in distances]
        plan = _plan([view(v) for v in values], size, sigma, combine, weights, anomaly)
        devices.native.cuda_anomaly_map([], DEFAULT_EPS, *plan.views, view(anomaly), view(score), stream)
    del values, plan
    return anomaly, score


class _Plan(NamedTuple):
    """How levels become a map: what the native module takes, and a tensor in it."""

    views: tuple[Any, ...]  # levels, whether they are multiplied, the map before its blur, its blur
    sharp: Tensor | None


def _plan(
    distances: Sequence[View],  # [B,h,w] fp32 each, contiguous
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
    anomaly: Tensor,  # [B,H,W]
) -> _Plan:
    product, device = combine == "product", anomaly.device
    # The blur is linear: a sum of blurred levels is one launch; a product is blurred after.
    levels = [
        _level(distance, size, 0.0 if product else sigma, 1.0 if weights is None else weights[k], device)
        for k, distance in enumerate(distances)
    ]
    if not product or sigma == 0:
        return _Plan((levels, product, NO_TENSOR, []), None)
    sharp = torch.empty_like(anomaly)
    blur = [_level(view(sharp), size, sigma, 1.0, device)]
    return _Plan((levels, product, view(sharp), blur), sharp)


def _level(
    values: View, size: Sequence[int], sigma: float, weight: float, device: torch.device
) -> tuple[Any, ...]:
    """A level for the native module, from values [B,h,w]."""
    _, h, w = values[2]
    rows, columns = _matrix(h, size[0], sigma, device), _matrix(w, size[1], sigma, device)
    return (values, *rows.rows, *columns.columns, weight)


class _Matrix(NamedTuple):
    """A matrix on the device, and what the native module takes of it."""

    tensors: tuple[Tensor, ...]
    rows: tuple[Any, ...]  # start and width of the band of ``blur.row_band``, start and weights of the blocks
    columns: tuple[Any, ...]  # start and weights of ``blur.column_blocks``


_matrices: dict[torch.device, dict[tuple[int, int, float], _Matrix]] = {}


def _matrix(source: int, size: int, sigma: float, device: torch.device) -> _Matrix:
    """A matrix on the device, copied there once and kept for good: a captured graph reads it whenever it is
    replayed. The copy is the only time that this module waits for the device."""
    kept = _matrices.setdefault(device, {})
    key = (source, size, sigma)
    found = kept.get(key)
    if found is not None:
        return found
    if resample.capturing(device):
        raise RuntimeError(
            f"anomaly_map: no matrix for {source} to {size} pixels, sigma {sigma} on {device} yet: "
            "call once with these sizes before a CUDA graph is captured"
        )
    kept[key] = resample.in_thread(lambda: _copied(*key, device), device)
    return kept[key]


def _copied(source: int, size: int, sigma: float, device: torch.device) -> _Matrix:
    start, weights = blur.row_band(source, size, sigma)
    band = weights.shape[1]
    start, *blocks = (t.to(device) for t in (start, *blur.column_blocks(source, size, sigma)))
    columns = tuple(view(t) for t in blocks)
    return _Matrix((start, *blocks), (view(start), band, *columns), columns)
