"""What the scoring operators check on every device, and the results they allocate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, empty_like, float32

from thfr_ext.core.tensors import accumulate_dtype, describe, require_float, require_same, require_shape
from thfr_ext.scoring import blur

DEFAULT_EPS = 1e-8  # of cosine_distance
LARGEST_WEIGHT = 1e30  # of a level: sums stay within fp32
LARGEST_SIDE = 2**20  # of an anomaly map: far past any image, far below what overflows


def _check_pair(name: str, features: Tensor, restored: Tensor, level: str = "") -> None:
    require_shape(name, f"features{level}", features, "[B,C,H,W]", dims=4)
    require_float(name, f"features{level}", features)
    require_same(name, f"restored{level}", restored, f"features{level}", features)


def check_cosine_distance(features: Tensor, restored: Tensor, eps: float) -> None:
    """Raises ValueError or TypeError, named cosine_distance, if an argument does not fit."""
    _check_pair("cosine_distance", features, restored)
    if not 0 <= eps < math.inf:
        raise ValueError(f"cosine_distance: eps: expected a finite number of at least 0, got {eps}")


def check_backward(
    grad: Tensor, features: Tensor, restored: Tensor, eps: float, need_features: bool, need_restored: bool
) -> None:
    _check_pair("cosine_distance_backward", features, restored)
    b, _, h, w = features.shape
    dtype = accumulate_dtype(features.dtype)
    if grad.shape != (b, h, w) or grad.dtype != dtype or grad.device != features.device:
        raise ValueError(
            f"cosine_distance_backward: grad_distance: expected [{b}, {h}, {w}] {dtype} "
            f"on {features.device}, got {describe(grad)}"
        )


def check_options(
    name: str, levels: int, size: Sequence[int], sigma: float, combine: str, weights: Sequence[float] | None
) -> None:
    """Raises ValueError, beginning with ``name``, if a map's options make no sense for so many levels."""
    if len(size) != 2 or not all(1 <= n <= LARGEST_SIDE for n in size):
        raise ValueError(f"{name}: size: expected (H, W), both 1 to {LARGEST_SIDE}, got {tuple(size)}")
    if not 0 <= sigma <= blur.LARGEST_SIGMA:
        raise ValueError(f"{name}: sigma: expected 0 to {blur.LARGEST_SIGMA:g} pixels, got {sigma}")
    if not isinstance(combine, str) or combine not in ("sum", "product"):
        raise ValueError(f"{name}: combine: expected 'sum' or 'product', got {combine!r}")
    if weights is None:
        return
    if len(weights) != levels or not all(0 <= w <= LARGEST_WEIGHT for w in weights):
        raise ValueError(
            f"{name}: weights: expected {levels} finite numbers from 0 to {LARGEST_WEIGHT:g}, one a level, "
            f"got {list(weights)}"
        )


def require_levels(name: str, argument: str, levels: Sequence[Tensor]) -> None:
    if len(levels) == 0:
        raise ValueError(f"{name}: {argument}: expected at least one level, got none")


def _check_level(name: str, argument: str, level: int, values: Tensor, first: Tensor) -> None:
    if values.shape[0] != first.shape[0] or values.device != first.device:
        raise ValueError(
            f"{name}: {argument}[{level}]: expected batch size and device of {argument}[0] "
            f"({describe(first)}), got {describe(values)}"
        )
    if values.shape[-2] == 0 or values.shape[-1] == 0:
        raise ValueError(
            f"{name}: {argument}[{level}]: expected at least one location, got {describe(values)}"
        )


def check_anomaly_map(
    features: Sequence[Tensor],
    restored: Sequence[Tensor],
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
) -> None:
    """Raises ValueError or TypeError, named anomaly_map, if an argument does not fit."""
    require_levels("anomaly_map", "features", features)
    if len(restored) != len(features):
        raise ValueError(f"anomaly_map: restored: expected {len(features)} levels, got {len(restored)}")
    for k, (x, y) in enumerate(zip(features, restored, strict=True)):
        _check_pair("anomaly_map", x, y, f"[{k}]")
        _check_level("anomaly_map", "features", k, x, features[0])
    check_options("anomaly_map", len(features), size, sigma, combine, weights)


def check_upsample_blur(
    distances: Sequence[Tensor],
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
) -> None:
    """Raises ValueError or TypeError, named upsample_blur, if an argument does not fit."""
    require_levels("upsample_blur", "distances", distances)
    for k, values in enumerate(distances):
        require_shape("upsample_blur", f"distances[{k}]", values, "[B,h,w]", dims=3)
        require_float("upsample_blur", f"distances[{k}]", values)
        _check_level("upsample_blur", "distances", k, values, distances[0])
    check_options("upsample_blur", len(distances), size, sigma, combine, weights)


def empty_distance(features: Tensor) -> Tensor:  # [B,C,H,W] -> [B,H,W]
    b, _, h, w = features.shape
    return features.new_empty((b, h, w), dtype=accumulate_dtype(features.dtype))


def empty_gradients(x: Tensor, y: Tensor, need_x: bool, need_y: bool) -> tuple[Tensor, Tensor]:
    grad_x = empty_like(x) if need_x else x.new_empty(0)
    grad_y = empty_like(y) if need_y else y.new_empty(0)
    return grad_x, grad_y


def empty_map(levels: Sequence[Tensor], size: Sequence[int]) -> tuple[Tensor, Tensor]:  # [B,H,W], [B]
    batch = levels[0].shape[0]
    return (
        levels[0].new_empty((batch, size[0], size[1]), dtype=float32),
        levels[0].new_empty((batch,), dtype=float32),
    )
