"""Plain PyTorch twins of the scoring operators: the specification in code."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from thfr_ext.core.tensors import accumulate_dtype
from thfr_ext.scoring.blur import dense_gaussian


def _scaled(features: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors over their largest magnitude, so that no square over- or underflows, and it [B,1,H,W]."""
    x = features.to(accumulate_dtype(features.dtype))
    if x.shape[1] == 0:
        return x, x.new_ones((x.shape[0], 1, *x.shape[2:]))
    most = x.abs().amax(1, keepdim=True)
    most = torch.where(most > 0, most, 1)
    return x / most, most


def cosine_distance(
    features: Tensor,  # [B,C,H,W]
    restored: Tensor,  # [B,C,H,W]
    eps: float = 1e-8,
) -> Tensor:  # [B,H,W]
    """See :func:`thfr_ext.cosine_distance`."""
    (x, x_most), (y, y_most) = _scaled(features), _scaled(restored)
    norm = x.square().sum(1).sqrt() * y.square().sum(1).sqrt()
    least = torch.maximum(norm, (eps / x_most / y_most).squeeze(1))
    cosine = torch.where(norm == 0, 0, (x * y).sum(1) / least)
    return (1 - cosine).clamp(0, 2)


def cosine_distance_backward(
    grad_distance: Tensor,  # [B,H,W]
    features: Tensor,  # [B,C,H,W]
    restored: Tensor,  # [B,C,H,W]
    eps: float,
    need_features: bool,
    need_restored: bool,
) -> tuple[Tensor, Tensor]:
    """See ``torch.ops.thfr_ext.cosine_distance_backward``."""
    (x, x_most), (y, y_most) = _scaled(features), _scaled(restored)
    x_norm, y_norm = x.square().sum(1, keepdim=True).sqrt(), y.square().sum(1, keepdim=True).sqrt()
    norm, least = x_norm * y_norm, eps / x_most / y_most
    clamped, zero = norm < least, norm == 0
    cosine = (x * y).sum(1, keepdim=True) / norm
    grad = grad_distance.unsqueeze(1)

    def gradient(
        like: Tensor, own: Tensor, own_norm: Tensor, most: Tensor, other: Tensor, other_norm: Tensor
    ) -> Tensor:
        free = -grad * (other / other_norm - cosine * (own / own_norm)) / own_norm / most
        bound = -grad * other / least / most
        return torch.empty_like(like).copy_(torch.where(zero, 0, torch.where(clamped, bound, free)))

    grad_x = gradient(features, x, x_norm, x_most, y, y_norm) if need_features else features.new_empty(0)
    grad_y = gradient(restored, y, y_norm, y_most, x, x_norm) if need_restored else restored.new_empty(0)
    return grad_x, grad_y


def anomaly_map(
    features: Sequence[Tensor],  # levels of [B,C_k,h_k,w_k]
    restored: Sequence[Tensor],  # like features
    size: Sequence[int],  # (H, W)
    sigma: float = 4.0,
    combine: str = "sum",
    weights: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:  # [B,H,W] fp32, [B] fp32
    """See :func:`thfr_ext.anomaly_map`."""
    distances = [cosine_distance(x, y) for x, y in zip(features, restored, strict=True)]
    return upsample_blur(distances, size, sigma, combine, weights)


def upsample_blur(
    distances: Sequence[Tensor],  # levels of [B,h_k,w_k]
    size: Sequence[int],  # (H, W)
    sigma: float = 4.0,
    combine: str = "sum",
    weights: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:  # [B,H,W] fp32, [B] fp32
    """See :func:`thfr_ext.upsample_blur`."""
    height, width = size
    total: Tensor | None = None
    for values, weight in zip(distances, weights or [1.0] * len(distances), strict=True):
        # fp64, since fp32 would round the positions that are sampled.
        level = interpolate(
            values.double().unsqueeze(1), (height, width), mode="bilinear", align_corners=False
        )
        level = level.squeeze(1)
        if combine == "sum":
            total = weight * level if total is None else total + weight * level
        else:
            total = level**weight if total is None else total * level**weight
    assert total is not None  # there is a level
    if sigma > 0:
        rows = dense_gaussian(height, sigma, total.dtype, total.device)
        columns = dense_gaussian(width, sigma, total.dtype, total.device)
        total = rows @ total @ columns.T
    total = total.float()
    return total, total.amax((1, 2))
