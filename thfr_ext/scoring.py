"""Cosine-distance anomaly scoring: ``cosine_distance``, its gradient, and ``anomaly_map``."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from thfr_ext import _C, _blur, reference
from thfr_ext._library import LIBRARY, register
from thfr_ext._tensor import (
    accumulate_dtype,
    as_tensor,
    describe,
    require_float,
    require_same,
    require_shape,
    restorer,
    view,
)

DEFAULT_EPS = 1e-8  # of cosine_distance
_NO_TENSOR = (0, 0, (0,), (1,))  # the view of a tensor that is not asked for


def _as_number(name: str, argument: str, value: Any) -> float:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name}: {argument}: expected a number, got {value!r}")
    return float(value)


def _check_pair(name: str, features: Tensor, restored: Tensor, level: str = "") -> None:
    require_shape(name, f"features{level}", features, "[B,C,H,W]", dims=4)
    require_float(name, f"features{level}", features)
    require_same(name, f"restored{level}", restored, f"features{level}", features)


def _check_cosine_distance(features: Tensor, restored: Tensor, eps: float) -> None:
    _check_pair("cosine_distance", features, restored)
    if not 0 <= eps < math.inf:
        raise ValueError(f"cosine_distance: eps: expected a finite number of at least 0, got {eps}")


def _empty_distance(features: Tensor) -> Tensor:
    b, _, h, w = features.shape
    return features.new_empty((b, h, w), dtype=accumulate_dtype(features.dtype))


def _cosine_distance_cpu(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    _check_cosine_distance(features, restored, eps)
    distance = _empty_distance(features)
    _C.cosine_distance(view(features), view(restored), eps, view(distance), torch.get_num_threads())
    return distance


def _cosine_distance_cuda(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    _check_cosine_distance(features, restored, eps)
    with torch.cuda.device(features.device):
        distance = _empty_distance(features)
        stream = torch.cuda.current_stream().cuda_stream
        _C.cuda_cosine_distance(view(features), view(restored), eps, view(distance), stream)
    return distance


def _cosine_distance_reference(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    _check_cosine_distance(features, restored, eps)
    return reference.cosine_distance(features, restored, eps)


def _cosine_distance_fake(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    _check_cosine_distance(features, restored, eps)
    return _empty_distance(features)


register(
    "cosine_distance",
    "(Tensor features, Tensor restored, float eps) -> Tensor",
    cpu=_cosine_distance_cpu,
    cuda_reference=_cosine_distance_reference,
    cuda_native=getattr(_C, "cuda_cosine_distance", None) and _cosine_distance_cuda,
    fake=_cosine_distance_fake,
)


def _check_backward(grad: Tensor, features: Tensor, restored: Tensor) -> None:
    _check_pair("cosine_distance_backward", features, restored)
    b, _, h, w = features.shape
    if grad.shape != (b, h, w) or grad.dtype != accumulate_dtype(features.dtype) or grad.device != features.device:
        raise ValueError(
            f"cosine_distance_backward: grad_distance: expected [{b}, {h}, {w}] "
            f"{accumulate_dtype(features.dtype)} on {features.device}, got {describe(grad)}"
        )


def _empty_gradients(x: Tensor, y: Tensor, need_x: bool, need_y: bool) -> tuple[Tensor, Tensor]:
    return (torch.empty_like(x) if need_x else x.new_empty(0), torch.empty_like(y) if need_y else y.new_empty(0))


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


# The gradients for features and restored, in the memory format of each; one that is not needed comes back as an empty
# tensor, since a schema has no optional results.
register(
    "cosine_distance_backward",
    "(Tensor grad_distance, Tensor features, Tensor restored, float eps, bool need_features, bool need_restored)"
    " -> (Tensor, Tensor)",
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
    grad_x, grad_y = torch.ops.thfr_ext.cosine_distance_backward(grad, features, restored, ctx.eps, need_x, need_y)
    return grad_x if need_x else None, grad_y if need_y else None, None


def _no_second_derivative(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "cosine_distance: the second derivative is not implemented; "
        "differentiate thfr_ext.reference.cosine_distance instead"
    )


torch.library.register_autograd("thfr_ext::cosine_distance", _differentiate, setup_context=_save_for_backward, lib=LIBRARY)
torch.library.register_autograd("thfr_ext::cosine_distance_backward", _no_second_derivative, lib=LIBRARY)


def cosine_distance(
    features: Any,  # [B,C,H,W]
    restored: Any,  # [B,C,H,W]
    eps: float = 1e-8,
) -> Any:  # [B,H,W]
    """Cosine distance over the channels at each location: ``1 - <x, y> / max(|x| |y|, eps)``.

    Differentiable once in both arguments; each gradient has the memory format of its input, and is 0 where either vector
    is zero. Agrees with fp64 arithmetic to 2e-7 (1e-14 for fp64 input) at any magnitude and number of channels: sums are
    kept in fp32 over short runs and in fp64 over these, and norms outside [1e-10, 1e15] are computed in fp64 throughout.
    Bit-identical across runs and numbers of threads (``torch.set_num_threads``).

    Args:
        features: extracted features, fp32, fp64, fp16 or bf16, any strides.
        restored: restored features, same shape, dtype and device.
        eps: lower bound of the product of the norms, at least 0. A zero vector has distance 1 to everything.

    Returns:
        The distance, 0 to 2, fp32 (fp64 for fp64 input), of the same kind of array as ``features``. NaN at a location
        where an input holds NaN or infinity.

    Raises:
        ValueError: shapes or devices do not fit, or eps is negative or not finite.
        TypeError: a dtype is not a float, or the dtypes differ.
    """
    x, y = as_tensor("cosine_distance", "features", features), as_tensor("cosine_distance", "restored", restored)
    _check_cosine_distance(x, y, eps := _as_number("cosine_distance", "eps", eps))
    return restorer(features)(torch.ops.thfr_ext.cosine_distance(x, y, eps))


def _check_levels(features: Sequence[Tensor], restored: Sequence[Tensor]) -> None:
    if len(features) == 0:
        raise ValueError("anomaly_map: features: expected at least one level, got none")
    if len(restored) != len(features):
        raise ValueError(f"anomaly_map: restored: expected {len(features)} levels as features, got {len(restored)}")
    first = features[0]
    for k, (x, y) in enumerate(zip(features, restored, strict=True)):
        _check_pair("anomaly_map", x, y, f"[{k}]")
        if x.shape[0] != first.shape[0] or x.device != first.device:
            raise ValueError(
                f"anomaly_map: features[{k}]: expected batch size and device of features[0] ({describe(first)}), "
                f"got {describe(x)}"
            )
        if x.shape[2] == 0 or x.shape[3] == 0:
            raise ValueError(f"anomaly_map: features[{k}]: expected at least one location, got {describe(x)}")


def _check_options(levels: int, size: Sequence[int], sigma: float, combine: str, weights: Sequence[float] | None) -> None:
    if len(size) != 2 or size[0] < 1 or size[1] < 1:
        raise ValueError(f"anomaly_map: size: expected (H, W), both at least 1, got {tuple(size)}")
    if not 0 <= sigma <= _blur.LARGEST_SIGMA:
        raise ValueError(f"anomaly_map: sigma: expected 0 to {_blur.LARGEST_SIGMA:g} pixels, got {sigma}")
    if combine not in ("sum", "product"):
        raise ValueError(f"anomaly_map: combine: expected 'sum' or 'product', got {combine!r}")
    if weights is None:
        return
    if len(weights) != levels or not all(0 <= w < math.inf for w in weights):
        raise ValueError(
            f"anomaly_map: weights: expected {levels} finite numbers of at least 0, one a level, got {list(weights)}"
        )


def _anomaly_map_cpu(
    features: Sequence[Tensor],
    restored: Sequence[Tensor],
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
) -> tuple[Tensor, Tensor]:
    _check_levels(features, restored)
    _check_options(len(features), size, sigma, combine, weights)
    threads, batch, product = torch.get_num_threads(), features[0].shape[0], combine == "product"
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


def _level(values: Tensor, size: Sequence[int], sigma: float, weight: float, keep: list[Any]) -> tuple[Any, ...]:
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
    _check_levels(features, restored)
    _check_options(len(features), size, sigma, combine, weights)
    return reference.anomaly_map(features, restored, size, sigma, combine, weights)


def _anomaly_map_fake(
    features: Sequence[Tensor],
    restored: Sequence[Tensor],
    size: Sequence[int],
    sigma: float,
    combine: str,
    weights: Sequence[float] | None,
) -> tuple[Tensor, Tensor]:
    _check_levels(features, restored)
    _check_options(len(features), size, sigma, combine, weights)
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
        "anomaly_map: not differentiable; train on cosine_distance, and call anomaly_map under torch.no_grad()"
    )


torch.library.register_autograd("thfr_ext::anomaly_map", _not_differentiable, lib=LIBRARY)


def _as_levels(argument: str, values: Any) -> list[Tensor]:
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"anomaly_map: {argument}: expected a list of tensors, one a level, got {type(values).__name__}")
    return [as_tensor("anomaly_map", f"{argument}[{k}]", value) for k, value in enumerate(values)]


def _as_size(size: Any) -> list[int]:
    try:
        return [n if isinstance(n, torch.SymInt) else operator.index(n) for n in size]
    except TypeError as error:
        raise TypeError(f"anomaly_map: size: expected two integers (H, W), got {size!r}") from error


def anomaly_map(
    features: Any,  # list of [B,C_k,h_k,w_k]
    restored: Any,  # like features
    size: Sequence[int],  # (H, W)
    sigma: float = 4.0,
    combine: str = "sum",
    weights: Sequence[float] | None = None,
) -> tuple[Any, Any]:  # [B,H,W] fp32, [B] fp32
    """Anomaly map and image score: cosine distance of each level, up-sampled, combined and blurred; its maximum.

    A level's distance is resized to ``size`` as ``interpolate(mode="bilinear", align_corners=False)`` does (without
    anti-aliasing where that is smaller), the levels are combined, the result is blurred as
    ``scipy.ndimage.gaussian_filter(sigma, mode="reflect", truncate=4.0)`` does. Not differentiable: a backward pass through
    the result raises NotImplementedError (train on :func:`cosine_distance`). Bit-identical across runs and numbers of threads.

    Args:
        features: extracted features, one tensor a level, fp32, fp64, fp16 or bf16, any strides; levels may differ in
            channels, height, width and dtype.
        restored: restored features, each of the shape, dtype and device of its level.
        size: height and width of the map in pixels.
        sigma: standard deviation of the Gaussian in pixels of the map; 0 for no blur.
        combine: ``sum`` or ``product`` of the levels.
        weights: one number of at least 0 a level, default all 1: its factor in a sum, its exponent in a product.

    Returns:
        The map and its maximum over each image, fp32, of the same kind of array as ``features[0]``. A NaN or an infinity in
        the features makes the map NaN as far as the blur reaches, and the image's score NaN; the metrics refuse these.

    Raises:
        ValueError: no level, levels, shapes or devices that do not fit, an empty level, or an option out of range.
        TypeError: not lists, a dtype is not a float, or a level's dtypes differ.
    """
    x, y = _as_levels("features", features), _as_levels("restored", restored)
    _check_levels(x, y)
    extent, sigma = _as_size(size), _as_number("anomaly_map", "sigma", sigma)
    factors = None if weights is None else [_as_number("anomaly_map", "weights", weight) for weight in weights]
    _check_options(len(x), extent, sigma, combine, factors)
    anomaly, score = torch.ops.thfr_ext.anomaly_map(x, y, extent, sigma, combine, factors)
    give_back = restorer(features[0])
    return give_back(anomaly), give_back(score)


__all__ = ["LIBRARY", "anomaly_map", "cosine_distance"]
