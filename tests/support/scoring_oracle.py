"""The oracle of the scoring tests, in NumPy and float64, and the inputs that every operator must survive."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate

Pair = tuple[Tensor, Tensor]


def oracle_distance(features: Tensor, restored: Tensor, eps: float = 1e-8) -> np.ndarray:
    """1 - cos in long double, whose range holds the square of any double."""
    x, y = (t.detach().double().numpy().astype(np.longdouble) for t in (features, restored))
    norm = np.sqrt((x * x).sum(1)) * np.sqrt((y * y).sum(1))
    with np.errstate(invalid="ignore"):
        cosine = np.where(
            norm == 0, 0, (x * y).sum(1) / np.maximum(norm, eps if eps else np.finfo(float).tiny)
        )
    return (1 - cosine).astype(np.float64)


def formula(features: Tensor, restored: Tensor, eps: float) -> Tensor:
    """What autograd shall differentiate, as written in the contract."""
    norms = features.square().sum(1).sqrt() * restored.square().sum(1).sqrt()
    return 1 - (features * restored).sum(1) / norms.clamp_min(eps)


def oracle_gradients(
    grad: Tensor, features: Tensor, restored: Tensor, eps: float = 1e-8
) -> tuple[Tensor, Tensor]:
    x, y = (t.detach().double().clone().requires_grad_() for t in (features, restored))
    x_grad, y_grad = torch.autograd.grad(formula(x, y, eps), (x, y), grad.double())
    return x_grad, y_grad


def gradient_error(got: Tensor, expected: Tensor) -> float:
    """The largest error of a location's gradient, relative to that gradient."""
    error = (got.double() - expected).abs().amax(1)
    return float((error / expected.abs().amax(1).clamp_min(1e-300)).max())


def oracle_map(
    features: list[Tensor],
    restored: list[Tensor],
    size: tuple[int, int],
    sigma: float = 4.0,
    combine: str = "sum",
    weights: list[float] | None = None,
) -> np.ndarray:
    distances = [oracle_distance(x, y) for x, y in zip(features, restored, strict=True)]
    return oracle_blur(distances, size, sigma, combine, weights)


def oracle_blur(
    distances: list[np.ndarray],  # float64 [B,h,w] each
    size: tuple[int, int],
    sigma: float = 4.0,
    combine: str = "sum",
    weights: list[float] | None = None,
) -> np.ndarray:
    """torch's interpolation and SciPy's Gaussian, in float64."""
    levels = []
    for distance in distances:
        level = torch.from_numpy(distance)[:, None]
        levels.append(interpolate(level, size, mode="bilinear", align_corners=False)[:, 0].numpy())
    weights = weights or [1.0] * len(levels)
    pairs = list(zip(weights, levels, strict=True))
    maps = sum(w * d for w, d in pairs) if combine == "sum" else np.prod([d**w for w, d in pairs], axis=0)
    return np.stack([gaussian_filter(m, sigma, mode="reflect", truncate=4.0) if sigma else m for m in maps])


def _random(shape: tuple[int, ...]) -> Pair:
    return torch.randn(shape), torch.randn(shape)


def _equal(shape: tuple[int, ...]) -> Pair:
    x = torch.randn(shape)
    return x, x.clone()


def _opposite(shape: tuple[int, ...]) -> Pair:
    x = torch.randn(shape)
    return x, -x


def _constant(shape: tuple[int, ...]) -> Pair:
    return torch.full(shape, 0.3), torch.full(shape, -1.7)


def _skewed(shape: tuple[int, ...]) -> Pair:
    """Like activations: non-negative, most of them 0, a few large."""
    return torch.randn(shape).relu() ** 5, torch.randn(shape).relu() ** 5


def _zero_vectors(shape: tuple[int, ...]) -> Pair:
    x, y = torch.randn(shape), torch.randn(shape)
    x[..., ::2] = 0
    y[..., ::3] = 0
    return x, y


def _mixed_magnitudes(shape: tuple[int, ...]) -> Pair:
    scale = 10.0 ** torch.randint(-30, 31, (shape[0], 1, *shape[2:])).float()
    return torch.randn(shape) * scale, torch.randn(shape) / scale


CASES: dict[str, Callable[[tuple[int, ...]], Pair]] = {
    "random": _random,
    "equal": _equal,
    "opposite": _opposite,
    "constant": _constant,
    "skewed": _skewed,
    "zero vectors": _zero_vectors,
    "huge": lambda shape: (torch.randn(shape) * 1e30, torch.randn(shape) * 1e35),
    "tiny": lambda shape: (torch.randn(shape) * 1e-30, torch.randn(shape) * 1e-37),
    "huge and tiny": lambda shape: (torch.randn(shape) * 1e36, torch.randn(shape) * 1e-36),
    "mixed magnitudes": _mixed_magnitudes,
}


def _spaced(t: Tensor) -> Tensor:
    """The same values with a gap after each element, row and channel."""
    b, c, h, w = t.shape
    wide = torch.full((b, c + 1, h + 2, 2 * w), math.nan, dtype=t.dtype)
    wide[:, :c, :h, ::2] = t
    return wide[:, :c, :h, ::2]


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda t: t.contiguous(),
    "channels last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "spaced": _spaced,
    "cropped": lambda t: torch.nn.functional.pad(t, (3, 2, 1, 1), value=math.nan)[:, :, 1:-1, 3:-2],
    "transposed": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "batch last": lambda t: t.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "channels cut": lambda t: torch.cat([t, t], 1).contiguous(memory_format=torch.channels_last)[
        :, : t.shape[1]
    ],
}
