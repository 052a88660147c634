"""The public functions of anomaly scoring."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thfr_ext.core.tensors import as_tensor, restorer
from thfr_ext.scoring import ops
from thfr_ext.scoring.checks import check_options, require_levels


def _as_number(name: str, argument: str, value: Any) -> float:
    if not isinstance(value, (int, float, np.number, torch.SymInt, torch.SymFloat)):
        raise TypeError(f"{name}: {argument}: expected a number, got {value!r}")
    return float(value)


def cosine_distance(
    features: Any,  # [B,C,H,W]
    restored: Any,  # [B,C,H,W]
    eps: float = 1e-8,
) -> Any:  # [B,H,W]
    """Cosine distance over the channels at each location: ``1 - <x, y> / max(|x| |y|, eps)``.

    The anomaly score of feature restoration (THFR; as in Deng and Li, CVPR 2022).
    Differentiable once in both arguments, backward and forward (``torch.func``: grad, jvp, jacrev, jacfwd,
    linearize, vmap); each gradient has the memory format of its input, and is 0 where
    either vector is zero. Agrees with fp64 arithmetic to 1e-6 (1e-13 for fp64 input) at any magnitude and
    number of channels: sums are kept in fp32 over short runs and in fp64 over these, and vectors with a norm
    outside [1e-10, 1e15] (fp64: [1e-70, 1e70]) are scaled and summed in fp64 throughout. Bit-identical across
    runs and numbers of threads (``torch.set_num_threads``).

    Args:
        features: extracted features [B,C,H,W], fp32, fp64, fp16 or bf16, any strides.
        restored: restored features, same shape, dtype and device.
        eps: lower bound of the product of the norms, at least 0. A zero vector has distance 1 to everything.

    Returns:
        The distance [B,H,W], 0 to 2, fp32 (fp64 for fp64 input), of the same kind of array as ``features``.
        NaN at a location where an input holds NaN or infinity.

    Raises:
        ValueError: shapes or devices do not fit, or eps is negative or not finite.
        TypeError: a dtype is not a float, or the dtypes differ.
    """
    x = as_tensor("cosine_distance", "features", features)
    y = as_tensor("cosine_distance", "restored", restored)
    return restorer(features)(ops.differentiable_distance(x, y, _as_number("cosine_distance", "eps", eps)))


def _as_levels(name: str, argument: str, values: Any) -> list[Tensor]:
    if not isinstance(values, (list, tuple)):
        kind = type(values).__name__
        raise TypeError(f"{name}: {argument}: expected a list of tensors, one a level, got {kind}")
    return [as_tensor(name, f"{argument}[{k}]", value) for k, value in enumerate(values)]


def _as_numbers(name: str, argument: str, values: Any) -> list[float]:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        raise TypeError(f"{name}: {argument}: expected a list of numbers, one a level, got {values!r}")
    return [_as_number(name, argument, value) for value in values]


def _as_options(
    name: str, levels: int, size: Any, sigma: Any, combine: Any, weights: Any
) -> tuple[list[Any], float, str, list[float] | None]:
    """A map's options in the types of the schemas, checked before torch refuses them in its own words."""
    try:
        extent: list[Any] = [n if isinstance(n, torch.SymInt) else operator.index(n) for n in size]
    except TypeError as error:
        raise TypeError(f"{name}: size: expected two integers (H, W), got {size!r}") from error
    width = _as_number(name, "sigma", sigma)
    factors = None if weights is None else _as_numbers(name, "weights", weights)
    check_options(name, levels, extent, width, combine, factors)
    return extent, width, combine, factors


def anomaly_map(
    features: Any,  # list of [B,C_k,h_k,w_k]
    restored: Any,  # like features
    size: Sequence[int],  # (H, W)
    sigma: float = 4.0,
    combine: str = "sum",
    weights: Sequence[float] | None = None,
) -> tuple[Any, Any]:  # [B,H,W] fp32, [B] fp32
    """Anomaly map and image score: :func:`upsample_blur` of each level's :func:`cosine_distance`.

    Not differentiable: a backward pass through the result raises NotImplementedError (train on
    :func:`cosine_distance`). Bit-identical across runs and numbers of threads.

    Args:
        features: extracted features, one tensor [B,C_k,h_k,w_k] a level, fp32, fp64, fp16 or bf16, any
            strides; levels may differ in channels, height, width and dtype.
        restored: restored features, each of the shape, dtype and device of its level.
        size: height and width of the map in pixels, each at most 2**20.
        sigma: standard deviation of the Gaussian in pixels of the map, 0 (no blur) to 1e6.
        combine: ``sum`` or ``product`` of the levels.
        weights: one number from 0 to 1e30 a level, default all 1: its factor in a sum, the exponent of its
            up-sampled distance in a product.

    Returns:
        The map [B,H,W] and its maximum over each image [B], fp32, of the same kind of array as
        ``features[0]``. A NaN or an infinity in the features makes the map NaN as far as the blur reaches,
        and the image's score NaN; the metrics refuse these.

    Raises:
        ValueError: no level; levels, shapes or devices that do not fit; an empty level; option out of range.
        TypeError: not lists, a dtype is not a float, a level's dtypes differ, or an option of the wrong kind.
    """
    name = "anomaly_map"
    x, y = _as_levels(name, "features", features), _as_levels(name, "restored", restored)
    require_levels(name, "features", x)
    ops.refuse_derivatives(name, *x, *y)
    anomaly, score = ops.anomaly_map(x, y, *_as_options(name, len(x), size, sigma, combine, weights))
    restore = restorer(features[0])
    return restore(anomaly), restore(score)


def upsample_blur(
    distances: Any,  # list of [B,h_k,w_k]
    size: Sequence[int],  # (H, W)
    sigma: float = 4.0,
    combine: str = "sum",
    weights: Sequence[float] | None = None,
) -> tuple[Any, Any]:  # [B,H,W] fp32, [B] fp32
    """Anomaly map and image score from maps of any method: up-sampled, combined, blurred; its maximum.

    Each level is resized to ``size`` as ``interpolate(mode="bilinear", align_corners=False)`` does (without
    anti-aliasing where that is smaller), the levels are combined, and the result is blurred as
    ``scipy.ndimage.gaussian_filter(sigma, mode="reflect", truncate=4.0)`` does. The map is within 4e-6 of
    fp64 arithmetic, relative to the largest magnitude in it. Not differentiable: a backward pass through the
    result raises NotImplementedError. Bit-identical across runs and numbers of threads.

    Args:
        distances: scores of locations, one tensor [B,h_k,w_k] a level, fp32, fp64, fp16 or bf16, any strides;
            of either sign; levels may differ in height, width and dtype. fp64 is rounded to fp32 first.
        size: height and width of the map in pixels, each at most 2**20.
        sigma: standard deviation of the Gaussian in pixels of the map, 0 (no blur) to 1e6.
        combine: ``sum`` or ``product`` of the up-sampled levels.
        weights: one number from 0 to 1e30 a level, default all 1: its factor in a sum, its exponent in a
            product (where a negative value raised to a fraction is NaN).

    Returns:
        The map [B,H,W] and its maximum over each image [B], fp32, of the same kind of array as
        ``distances[0]``. A NaN makes the map NaN as far as the blur reaches, and the image's score NaN; an
        infinity makes it infinite or NaN there.

    Raises:
        ValueError: no level; shapes or devices that do not fit; an empty level; option out of range.
        TypeError: not a list, a dtype is not a float, or an option of the wrong kind.
    """
    levels = _as_levels("upsample_blur", "distances", distances)
    require_levels("upsample_blur", "distances", levels)
    ops.refuse_derivatives("upsample_blur", *levels)
    options = _as_options("upsample_blur", len(levels), size, sigma, combine, weights)
    anomaly, score = ops.upsample_blur(levels, *options)
    restore = restorer(distances[0])
    return restore(anomaly), restore(score)
