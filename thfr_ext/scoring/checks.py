"""What the scoring operators check on every device, and the results they allocate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, empty_like, float32

from thfr_ext.core.tensors import accumulate_dtype, describe, require_float, require_same, require_shape
from thfr_ext.scoring import blur

DEFAULT_EPS = 1e-8  # of cosine_distance
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


def empty_distance(features: Tensor) -> Tensor:
    b, _, h, w = features.shape
    return features.new_empty((b, h, w), dtype=accumulate_dtype(features.dtype))


def check_backward(grad: Tensor, features: Tensor, restored: Tensor) -> None:
    _check_pair("cosine_distance_backward", features, restored)
    b, _, h, w = features.shape
    dtype = accumulate_dtype(features.dtype)
    if grad.shape != (b, h, w) or grad.dtype != dtype or grad.device != features.device:
        raise ValueError(
            f"cosine_distance_backward: grad_distance: expected [{b}, {h}, {w}] {dtype} "
            f"on {features.device}, got {describe(grad)}"
        )


def empty_gradients(x: Tensor, y: Tensor, need_x: bool, need_y: bool) -> tuple[Tensor, Tensor]:
    grad_x = empty_like(x) if need_x else x.new_empty(0)
    grad_y = empty_like(y) if need_y else y.new_empty(0)
    return grad_x, grad_y


def check_levels(features: Sequence[Tensor], restored: Sequence[Tensor]) -> None:
    """Raises ValueError or TypeError, named anomaly_map, if the levels do not fit each other."""
    if len(features) == 0:
        raise ValueError("anomaly_map: features: expected at least one level, got none")
    if len(restored) != len(features):
        raise ValueError(f"anomaly_map: restored: expected {len(features)} levels, got {len(restored)}")
    first = features[0]
    for k, (x, y) in enumerate(zip(features, restored, strict=True)):
        _check_pair("anomaly_map", x, y, f"[{k}]")
        if x.shape[0] != first.shape[0] or x.device != first.device:
            raise ValueError(
                f"anomaly_map: features[{k}]: expected batch size and device of features[0] "
                f"({describe(first)}), got {describe(x)}"
            )
        if x.shape[2] == 0 or x.shape[3] == 0:
            raise ValueError(f"anomaly_map: features[{k}]: expected at least one location, got {describe(x)}")


def check_options(
    levels: int, size: Sequence[int], sigma: float, combine: str, weights: Sequence[float] | None
) -> None:
    """Raises ValueError, named anomaly_map, if the map's options make no sense for so many levels."""
    if len(size) != 2 or not all(1 <= n <= LARGEST_SIDE for n in size):
        raise ValueError(f"anomaly_map: size: expected (H, W), both 1 to {LARGEST_SIDE}, got {tuple(size)}")
    if not 0 <= sigma <= blur.LARGEST_SIGMA:
        raise ValueError(f"anomaly_map: sigma: expected 0 to {blur.LARGEST_SIGMA:g} pixels, got {sigma}")
    if not isinstance(combine, str) or combine not in ("sum", "product"):
        raise ValueError(f"anomaly_map: combine: expected 'sum' or 'product', got {combine!r}")
    if weights is None:
        return
    if len(weights) != levels or not all(0 <= w < math.inf for w in weights):
        raise ValueError(
            f"anomaly_map: weights: expected {levels} finite numbers of at least 0, one a level, "
            f"got {list(weights)}"
        )


def empty_map(features: Sequence[Tensor], size: Sequence[int]) -> tuple[Tensor, Tensor]:
    batch = features[0].shape[0]
    return (
        features[0].new_empty((batch, size[0], size[1]), dtype=float32),
        features[0].new_empty((batch,), dtype=float32),
    )
