"""The scoring operators in PyTorch operations.

For CUDA tensors without a checked kernel, and the specification in code: the contract of the kernels. Nothing
waits for the device but the first call for a size outside of a CUDA graph (see
:mod:`thfr_ext.scoring.resample`). ``cosine_distance`` moves some six times the bytes of its inputs that a
kernel moves once: ``vector_norm`` reads a tensor once and writes nothing. Blurs are fp64 products of small
matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thfr_ext.core.products import product_of
from thfr_ext.core.tensors import accumulate_dtype
from thfr_ext.scoring import blur
from thfr_ext.scoring.checks import DEFAULT_EPS
from thfr_ext.scoring.resample import MOST_DENSE, matrix

#: channels added up in fp32 before fp64 takes over
RUN = 64


def _scaled(features: Tensor) -> tuple[Tensor, Tensor]:  # [B,C,H,W], [B,1,H,W] fp64
    """Vectors over their largest magnitude, so that no square over- or underflows, and it."""
    dtype = accumulate_dtype(features.dtype)
    if features.shape[1] == 0:
        return features.to(dtype), features.new_ones((), dtype=torch.float64).expand(_keep(features))
    most = torch.linalg.vector_norm(features, torch.inf, 1, keepdim=True).to(dtype)
    most = torch.where(most == 0, 1, most)  # NaN stays
    return features / most, most.double()


def _keep(features: Tensor) -> tuple[int, ...]:
    return (features.shape[0], 1, *features.shape[2:])


def _runs(x: Tensor) -> list[Tensor]:
    """Views [B,runs,RUN,H,W] and what is left over."""
    whole = x.shape[1] // RUN * RUN
    parts = [x[:, :whole].unflatten(1, (-1, RUN))] if whole else []
    return parts if whole == x.shape[1] and whole else [*parts, x[:, whole:].unsqueeze(1)]


def _sum(x: Tensor) -> Tensor:  # [B,C,H,W] -> [B,1,H,W] fp64
    return torch.cat([part.sum(2) for part in _runs(x)], 1).sum(1, keepdim=True, dtype=torch.float64)


def _norm(x: Tensor) -> Tensor:  # [B,C,H,W] -> [B,1,H,W] fp64
    if x.shape[1] == 0:
        return _sum(x)
    norms = torch.cat([torch.linalg.vector_norm(part, dim=2) for part in _runs(x)], 1)
    return norms.double().square().sum(1, keepdim=True).sqrt()


def cosine_distance(
    features: Tensor,  # [B,C,H,W]
    restored: Tensor,  # [B,C,H,W]
    eps: float = DEFAULT_EPS,
) -> Tensor:  # [B,H,W]
    """See :func:`thfr_ext.cosine_distance`."""
    (x, x_most), (y, y_most) = _scaled(features), _scaled(restored)
    norm = _norm(x) * _norm(y)
    cosine = _sum(x * y) / torch.maximum(norm, eps / x_most / y_most)
    # Rounded first, so that equal vectors have a distance of exactly 0.
    cosine = torch.where(norm == 0, 0, cosine).squeeze(1).to(accumulate_dtype(features.dtype))
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
    x_norm, y_norm = _norm(x), _norm(y)
    norm = x_norm * y_norm
    clamped, zero = norm < eps / x_most / y_most, norm == 0
    cosine, minus = _sum(x * y) / norm, -grad_distance.unsqueeze(1).double()

    def gradient(
        like: Tensor, own: Tensor, own_norm: Tensor, most: Tensor, other: Tensor, other_norm: Tensor,
        other_most: Tensor,
    ) -> Tensor:  # fmt: skip
        # (a * other - b * own) * factor; the factor in two equal halves, of which neither overflows.
        a = torch.where(zero, 0, torch.where(clamped, 1, 1 / other_norm)).to(own.dtype)
        b = torch.where(zero | clamped, 0, cosine / own_norm).to(own.dtype)
        factor = torch.where(clamped, minus * other_most / eps, minus / own_norm / most)
        factor = torch.where(zero, 0, factor)
        half = factor.abs().sqrt()
        inner = (a * other).sub_(b * own).mul_(half.to(own.dtype))
        inner.mul_((half * factor.sign()).to(own.dtype))
        return torch.empty_like(like).copy_(inner)

    grad_x, grad_y = features.new_empty(0), restored.new_empty(0)
    if need_features:
        grad_x = gradient(features, x, x_norm, x_most, y, y_norm, y_most)
    if need_restored:
        grad_y = gradient(restored, y, y_norm, y_most, x, x_norm, x_most)
    return grad_x, grad_y


def _along_rows(values: Tensor, size: int, sigma: float) -> Tensor:  # [B,n,m] fp64 -> [B,size,m]
    source = values.shape[1]
    if source * size <= MOST_DENSE:
        with product_of("anomaly_map", values.device):
            return torch.matmul(matrix(source, size, sigma, values.device), values)
    start, weights = (torch.from_numpy(a) for a in blur.resample_blur(source, size, sigma))
    start, weights = start.to(values.device), weights.to(values.device)
    result = values.new_zeros((values.shape[0], size, values.shape[2]))
    for k in range(weights.shape[1]):
        result.addcmul_(values.index_select(1, start + k), weights[:, k, None])
    return result


def _resampled(values: Tensor, size: Sequence[int], sigma: float) -> Tensor:  # [B,h,w] -> [B,H,W]
    rows = _along_rows(values, size[0], sigma)
    return _along_rows(rows.mT, size[1], sigma).mT


def upsample_blur(
    distances: Sequence[Tensor],  # levels of [B,h_k,w_k]
    size: Sequence[int],  # (H, W)
    sigma: float = 4.0,
    combine: str = "sum",
    weights: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:  # [B,H,W] fp32, [B] fp32
    """See :func:`thfr_ext.upsample_blur`."""
    product = combine == "product"
    total: Tensor | None = None
    for k, values in enumerate(distances):
        # The blur is linear: levels of a sum are blurred as they are resized; a product is blurred after.
        level = _resampled(values.double(), size, 0.0 if product else sigma)
        weight = 1.0 if weights is None else weights[k]
        level = level**weight if product else level * weight
        total = level if total is None else total * level if product else total + level
    assert total is not None  # there is a level
    if product and sigma > 0:
        total = _resampled(total, size, sigma)
    anomaly = total.to(torch.float32, memory_format=torch.contiguous_format)
    return anomaly, anomaly.amax((1, 2))


def anomaly_map(
    features: Sequence[Tensor],  # levels of [B,C_k,h_k,w_k]
    restored: Sequence[Tensor],  # like features
    size: Sequence[int],  # (H, W)
    sigma: float = 4.0,
    combine: str = "sum",
    weights: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:  # [B,H,W] fp32, [B] fp32
    """See :func:`thfr_ext.anomaly_map`."""
    distances = [cosine_distance(x, y, DEFAULT_EPS) for x, y in zip(features, restored, strict=True)]
    return upsample_blur(distances, size, sigma, combine, weights)
