"""Plain PyTorch twins of the operators: the specification in code, used by tests and by CUDA tensors until kernels land."""

from __future__ import annotations

from torch import Tensor

from thfr_ext._tensor import accumulate_dtype


def cosine_distance(
    features: Tensor,  # [B,C,H,W]
    restored: Tensor,  # [B,C,H,W]
    eps: float = 1e-8,
) -> Tensor:  # [B,H,W]
    """See :func:`thfr_ext.cosine_distance`."""
    x, y = features.to(accumulate_dtype(features.dtype)), restored.to(accumulate_dtype(restored.dtype))
    norms = x.square().sum(1).sqrt() * y.square().sum(1).sqrt()
    return 1 - (x * y).sum(1) / norms.clamp_min(eps)
