"""The scoring operators: schema, checks, kernels, fake kernels and derivatives of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thfr_ext import _C, _blur, _cuda, reference
from thfr_ext._library import register
from thfr_ext._tensor import (
    accumulate_dtype,
    describe,
    require_float,
    require_same,
    require_shape,
    view,
)

DEFAULT_EPS = 1e-8  # of cosine_distance
LARGEST_SIDE = 2**20  # of an anomaly map: far past any image, far below what overflows
_NO_TENSOR = (0, 0, (0,), (1,))  # the view of a tensor that is not asked for


def _check_pair(name: str, features: Tensor, restored: Tensor, level: str = "") -> None:
    require_shape(name, f"features{level}", features, "[B,C,H,W]", dims=4)
    require_float(name, f"features{level}", features)
    require_same(name, f"restored{level}", restored, f"features{level}", features)


def check_cosine_distance(features: Tensor, restored: Tensor, eps: float) -> None:
    """Raises ValueError or TypeError, named cosine_distance, if an argument does not fit."""
    _check_pair("cosine_distance", features, restored)
    if not 0 <= eps < math.inf:
        raise ValueError(f"cosine_distance: eps: expected a finite number of at least 0, got {eps}")


def _empty_distance(features: Tensor) -> Tensor:
    b, _, h, w = features.shape
    return features.new_empty((b, h, w), dtype=accumulate_dtype(features.dtype))


def _cosine_distance_cpu(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    check_cosine_distance(features, restored, eps)
    distance = _empty_distance(features)
    _C.cosine_distance(view(features), view(restored), eps, view(distance), torch.get_num_threads())
    return distance


def _cosine_distance_cuda(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    check_cosine_distance(features, restored, eps)
    with _cuda.on_device_of(features) as stream:
        distance = _empty_distance(features)
        _cuda.native.cuda_cosine_distance(view(features), view(restored), eps, view(distance), stream)
    return distance


def _cosine_distance_reference(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    check_cosine_distance(features, restored, eps)
    return reference.cosine_distance(features, restored, eps)


def _cosine_distance_fake(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    check_cosine_distance(features, restored, eps)
    return _empty_distance(features)


register(
    "cosine_distance",
    "(Tensor features, Tensor restored, float eps) -> Tensor",
    cpu=_cosine_distance_cpu,
    cuda_reference=_cosine_distance_reference,
    cuda_native=_cosine_distance_cuda,
    fake=_cosine_distance_fake,
)


def _check_backward(grad: Tensor, features: Tensor, restored: Tensor) -> None:
    _check_pair("cosine_distance_backward", features, restored)
    b, _, h, w = features.shape
    dtype = accumulate_dtype(features.dtype)
    if grad.shape != (b, h, w) or grad.dtype != dtype or grad.device != features.device:
        raise ValueError(
            f"cosine_distance_backward: grad_distance: expected [{b}, {h}, {w}] {dtype} "
            f"on {features.device}, got {describe(grad)}"
        )


def _empty_gradients(x: Tensor, y: Tensor, need_x: bool, need_y: bool) -> tuple[Tensor, Tensor]:
    grad_x = torch.empty_like(x) if need_x else x.new_empty(0)
    grad_y = torch.empty_like(y) if need_y else y.new_empty(0)
    return grad_x, grad_y


def _backward_cpu(
    grad: Tensor, features: Tensor, restored: Tensor, eps: float, need_features: bool, need_restored: bool
) -> tuple[Tensor, Tensor]:
    _check_backward(grad, features, restored)
    grad_x, grad_y = _empty_gradients(features, restored, need_features, need_restored)
    grad = grad.contiguous()
    _C.cosine_distance_backward(
        view(grad),
        view(features),
        view(restored),
        eps,
        view(grad_x) if need_features else _NO_TENSOR,
        view(grad_y) if need_restored else _NO_TENSOR,
        torch.get_num_threads(),
    )
    return grad_x, grad_y


def _backward_reference(
    grad: Tensor, features: Tensor, restored: Tensor, eps: float, need_features: bool, need_restored: bool
) -> tuple[Tensor, Tensor]:
    _check_backward(grad, features, restored)
    return reference.cosine_distance_backward(grad, features, restored, eps, need_features, need_restored)


def _backward_fake(
    grad: Tensor, features: Tensor, restored: Tensor, eps: float, need_features: bool, need_restored: bool
) -> tuple[Tensor, Tensor]:
    _check_backward(grad, features, restored)
    return _empty_gradients(features, restored, need_features, need_restored)


# The gradients for features and restored, in the memory format of each; one that is not needed comes back as
# an empty tensor, since a schema has no optional results.
register(
    "cosine_distance_backward",
    "(Tensor grad_distance, Tensor features, Tensor restored, float eps, bool need_features, "
    "bool need_restored) -> (Tensor, Tensor)",
    cpu=_backward_cpu,
    cuda_reference=_backward_reference,
    fake=_backward_fake,
)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, restored, ctx.eps = inputs
    ctx.save_for_backward(features, restored)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    features, restored = ctx.saved_tensors
    need_x, need_y, _ = ctx.needs_input_grad
    backward = torch.ops.thfr_ext.cosine_distance_backward
    grad_x, grad_y = backward(grad, features, restored, ctx.eps, need_x, need_y)
    return grad_x if need_x else None, grad_y if need_y else None, None


def _no_second_derivative(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "cosine_distance: the second derivative is not implemented; "
        "differentiate thfr_ext.reference.cosine_distance instead"
    )


torch.library.register_autograd("thfr_ext::cosine_distance", _differentiate, setup_context=_save_for_backward)
torch.library.register_autograd("thfr_ext::cosine_distance_backward", _no_second_derivative)


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
    if not 0 <= sigma <= _blur.LARGEST_SIGMA:
        raise ValueError(f"anomaly_map: sigma: expected 0 to {_blur.LARGEST_SIGMA:g} pixels, got {sigma}")
    if not isinstance(combine, str) or combine not in ("sum", "product"):
        raise ValueError(f"anomaly_map: combine: expected 'sum' or 'product', got {combine!r}")
    if weights is None:
        return
    if len(weights) != levels or not all(0 <= w < math.inf for w in weights):
        raise ValueError(
            f"anomaly_map: weights: expected {levels} finite numbers of at least 0, one a level, "
            f"got {list(weights)}"
        )


def _anomaly_map_cpu(
    features: Sequence[Tensor],
    restored: Sequence[Tensor],
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
) -> tuple[Tensor, Tensor]:
    check_levels(features, restored)
    check_options(len(features), size, sigma, combine, weights)
    threads, product = torch.get_num_threads(), combine == "product"
    anomaly, score = _empty_map(features, size)
    keep: list[Any] = []  # what the native module borrows
    levels = []
    for k, (x, y) in enumerate(zip(features, restored, strict=True)):
        distance = _empty_distance(x)
        _C.cosine_distance(view(x), view(y), DEFAULT_EPS, view(distance), threads)
        # The blur is linear: a sum of blurred levels is one pass; a product is blurred after.
        level_sigma, weight = 0.0 if product else sigma, 1.0 if weights is None else weights[k]
        levels.append(_level(distance.float(), size, level_sigma, weight, keep))
    if product and sigma > 0:
        sharp = torch.empty_like(anomaly)
        _C.blend_levels(levels, True, view(sharp), _NO_TENSOR, threads)
        levels, product = [_level(sharp, size, sigma, 1.0, keep)], False
    _C.blend_levels(levels, product, view(anomaly), view(score), threads)
    return anomaly, score


def _level(
    values: Tensor, size: Sequence[int], sigma: float, weight: float, keep: list[Any]
) -> tuple[Any, ...]:
    """A level for the native module, from values [B,h,w]; the tensors in it are added to ``keep``."""
    _, h, w = values.shape
    rows, columns = _blur.row_band(h, size[0], sigma), _blur.column_blocks(w, size[1], sigma)
    keep += [values, rows, columns]
    return view(values), view(rows[0]), view(rows[1]), view(columns[0]), view(columns[1]), weight


def _empty_map(features: Sequence[Tensor], size: Sequence[int]) -> tuple[Tensor, Tensor]:
    batch = features[0].shape[0]
    return (
        features[0].new_empty((batch, size[0], size[1]), dtype=torch.float32),
        features[0].new_empty((batch,), dtype=torch.float32),
    )


def _anomaly_map_reference(
    features: Sequence[Tensor],
    restored: Sequence[Tensor],
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
) -> tuple[Tensor, Tensor]:
    check_levels(features, restored)
    check_options(len(features), size, sigma, combine, weights)
    return reference.anomaly_map(features, restored, size, sigma, combine, weights)


def _anomaly_map_fake(
    features: Sequence[Tensor],
    restored: Sequence[Tensor],
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
) -> tuple[Tensor, Tensor]:
    check_levels(features, restored)
    check_options(len(features), size, sigma, combine, weights)
    return _empty_map(features, size)


register(
    "anomaly_map",
    "(Tensor[] features, Tensor[] restored, SymInt[] size, float sigma, str combine, float[]? weights)"
    " -> (Tensor, Tensor)",
    cpu=_anomaly_map_cpu,
    cuda_reference=_anomaly_map_reference,
    fake=_anomaly_map_fake,
)


def _not_differentiable(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "anomaly_map: not differentiable; train on cosine_distance and call anomaly_map under torch.no_grad()"
    )


torch.library.register_autograd("thfr_ext::anomaly_map", _not_differentiable)
