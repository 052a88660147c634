"""Cosine-distance anomaly scoring."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thfr_ext import _C, reference
from thfr_ext._library import LIBRARY, register
from thfr_ext._tensor import (
    accumulate_dtype,
    as_tensor,
    require_float,
    require_same,
    require_shape,
    restorer,
    view,
)


def _check_cosine_distance(features: Tensor, restored: Tensor) -> None:
    require_shape("cosine_distance", "features", features, "[B,C,H,W]", dims=4)
    require_float("cosine_distance", "features", features)
    require_same("cosine_distance", "restored", restored, "features", features)


def _empty_distance(features: Tensor) -> Tensor:
    b, _, h, w = features.shape
    return features.new_empty((b, h, w), dtype=accumulate_dtype(features.dtype))


def _cosine_distance_cpu(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    _check_cosine_distance(features, restored)
    distance = _empty_distance(features)
    _C.cosine_distance(view(features), view(restored), eps, view(distance), torch.get_num_threads())
    return distance


def _cosine_distance_cuda(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    _check_cosine_distance(features, restored)
    with torch.cuda.device(features.device):
        distance = _empty_distance(features)
        stream = torch.cuda.current_stream().cuda_stream
        _C.cuda_cosine_distance(view(features), view(restored), eps, view(distance), stream)
    return distance


def _cosine_distance_fake(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    _check_cosine_distance(features, restored)
    return _empty_distance(features)


register(
    "cosine_distance",
    "(Tensor features, Tensor restored, float eps) -> Tensor",
    cpu=_cosine_distance_cpu,
    cuda_reference=reference.cosine_distance,
    cuda_native=getattr(_C, "cuda_cosine_distance", None) and _cosine_distance_cuda,
    fake=_cosine_distance_fake,
)


def cosine_distance(
    features: Any,  # [B,C,H,W]
    restored: Any,  # [B,C,H,W]
    eps: float = 1e-8,
) -> Any:  # [B,H,W]
    """Cosine distance over the channels at each location: ``1 - <x, y> / max(|x| |y|, eps)``.

    Differentiable in both arguments. Sums are kept in fp32 (fp64 for fp64 input).

    Args:
        features: extracted features, fp32, fp64, fp16 or bf16, any strides.
        restored: restored features, same shape, dtype and device.
        eps: lower bound of the product of the norms; two zero vectors have distance 1.

    Returns:
        The distance, 0 to 2, fp32 (fp64 for fp64 input), of the same kind of array as ``features``.

    Raises:
        ValueError: shapes or devices do not fit.
        TypeError: a dtype is not a float, or the dtypes differ.
    """
    x, y = as_tensor("cosine_distance", "features", features), as_tensor("cosine_distance", "restored", restored)
    return restorer(features)(torch.ops.thfr_ext.cosine_distance(x, y, eps))


__all__ = ["LIBRARY", "cosine_distance"]
