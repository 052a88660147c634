"""The scoring operators on the CPU: allocation and calls of the native module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thfr_ext import _C
from thfr_ext.core.tensors import NO_TENSOR, view
from thfr_ext.scoring import blur
from thfr_ext.scoring.checks import DEFAULT_EPS, empty_distance, empty_gradients, empty_map


def cosine_distance(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    distance = empty_distance(features)
    _C.cosine_distance(view(features), view(restored), eps, view(distance), torch.get_num_threads())
    return distance


def cosine_distance_backward(
    grad: Tensor, features: Tensor, restored: Tensor, eps: float, need_features: bool, need_restored: bool
) -> tuple[Tensor, Tensor]:
    grad_x, grad_y = empty_gradients(features, restored, need_features, need_restored)
    grad = grad.contiguous()
    _C.cosine_distance_backward(
        view(grad),
        view(features),
        view(restored),
        eps,
        view(grad_x) if need_features else NO_TENSOR,
        view(grad_y) if need_restored else NO_TENSOR,
        torch.get_num_threads(),
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
    distances = [cosine_distance(x, y, DEFAULT_EPS) for x, y in zip(features, restored, strict=True)]
    return upsample_blur(distances, size, sigma, combine, weights)


def upsample_blur(
    distances: Sequence[Tensor],  # [B,h,w] each
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
) -> tuple[Tensor, Tensor]:
    threads, product = torch.get_num_threads(), combine == "product"
    anomaly, score = empty_map(distances, size)
    # The blur is linear: a sum of blurred levels is one pass; a product is blurred after.
    level_sigma = 0.0 if product else sigma
    keep: list[Any] = []  # what the native module borrows
    levels = [
        _level(values.float().contiguous(), size, level_sigma, 1.0 if weights is None else weights[k], keep)
        for k, values in enumerate(distances)
    ]
    if product and sigma > 0:
        sharp = torch.empty_like(anomaly)
        _C.blend_levels(levels, True, view(sharp), NO_TENSOR, threads)
        levels, product = [_level(sharp, size, sigma, 1.0, keep)], False
    _C.blend_levels(levels, product, view(anomaly), view(score), threads)
    return anomaly, score


def _level(
    values: Tensor, size: Sequence[int], sigma: float, weight: float, keep: list[Any]
) -> tuple[Any, ...]:
    """A level for the native module, from values [B,h,w]; the tensors in it are added to ``keep``."""
    _, h, w = values.shape
    rows, columns = blur.row_band(h, size[0], sigma), blur.column_blocks(w, size[1], sigma)
    keep += [values, rows, columns]
    return view(values), view(rows[0]), view(rows[1]), view(columns[0]), view(columns[1]), weight
