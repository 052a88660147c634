"""The functions of thfr_ext in terms of PyTorch's own operators, so that an exporter knows every node.

They compute in fp32. Neighbours are found by a matrix product and then measured again by the difference of
the rows, since the product alone loses the small distances (``|q|^2 + |b|^2 - 2 <q, b>`` cancels).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from threading import RLock
from typing import Any

import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.nn import functional as F

import thfr_ext

_SPARE = 5  # candidates beyond k that are measured again


def cosine_distance(
    features: Tensor,  # [B,C,H,W]
    restored: Tensor,  # [B,C,H,W]
    eps: float = 1e-8,
) -> Tensor:  # fp32 [B,H,W]
    """See :func:`thfr_ext.cosine_distance`."""
    x, y = features.float(), restored.float()
    norms = x.square().sum(1).sqrt() * y.square().sum(1).sqrt()
    return (1 - (x * y).sum(1) / norms.clamp_min(max(eps, 1e-30))).clamp(0, 2)


def upsample_blur(
    distances: Sequence[Tensor],  # levels of [B,h_k,w_k]
    size: Sequence[int],  # (H, W)
    sigma: float = 4.0,
    combine: str = "sum",
    weights: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:  # fp32 [B,H,W] and [B]
    """See ``thfr_ext.upsample_blur``; sums only, which is what the methods here ask for."""
    if combine != "sum":
        raise NotImplementedError(f"export: expected a sum of levels, got {combine}")
    total: Tensor | None = None
    for distance, weight in zip(distances, weights or [1.0] * len(distances), strict=True):
        rows, columns = (
            resampling(edge, wanted, sigma) for edge, wanted in zip(distance.shape[1:], size, strict=True)
        )
        level = rows @ distance.float() @ columns.T
        level = level if weight == 1 else weight * level
        total = level if total is None else total + level
    assert total is not None
    return total, total.amax((1, 2))


@lru_cache(maxsize=64)
def resampling(source: int, size: int, sigma: float) -> Tensor:  # fp32 [size,source]
    """Bilinear resampling and Gaussian blur of one axis: both are linear, so they are one matrix."""
    unit = torch.eye(source, dtype=torch.float64)[None]
    sampled = F.interpolate(unit, size=size, mode="linear", align_corners=False)[0].T.numpy()
    blurred = gaussian_filter1d(sampled, sigma, axis=0, mode="reflect", truncate=4.0) if sigma else sampled
    return torch.from_numpy(blurred).float()


def anomaly_map(
    features: Sequence[Tensor],  # levels of [B,C_k,h_k,w_k]
    restored: Sequence[Tensor],  # like features
    size: Sequence[int],  # (H, W)
    sigma: float = 4.0,
    combine: str = "sum",
    weights: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:  # fp32 [B,H,W] and [B]
    """See :func:`thfr_ext.anomaly_map`; as :func:`upsample_blur`."""
    distances = [cosine_distance(x, y) for x, y in zip(features, restored, strict=True)]
    return upsample_blur(distances, size, sigma, combine, weights)


def nearest_templates(
    queries: Tensor,  # [Q,D]
    bank: Tensor,  # [N,D]
    k: int = 1,
    metric: str = "cosine",
    exclude: Tensor | None = None,  # [Q]
) -> tuple[Tensor, Tensor]:  # fp32 [Q,k], int64 [Q,k]
    """See :func:`thfr_ext.nearest_templates`; without ``exclude``, which only training needs."""
    if exclude is not None or metric not in ("cosine", "l2"):
        raise NotImplementedError(f"nearest_templates: expected cosine or l2 of the whole bank, got {metric}")
    q, rows = queries.float(), bank.float()
    if metric == "cosine":
        q, rows = F.normalize(q, dim=1), F.normalize(rows, dim=1)
    # of unit rows the product is as good as its rounding: one more than asked for settles a tie
    squared, indices = nearest_rows(q[None], rows[None], k, 1 if metric == "cosine" else _SPARE)
    scores = squared[0].sqrt() if metric == "l2" else 1 - squared[0] / 2
    return scores, indices[0]


def nearest_rows(
    queries: Tensor,  # fp32 [B,Q,D]
    bank: Tensor,  # fp32 [B,N,D]
    k: int,
    spare: int = _SPARE,
) -> tuple[Tensor, Tensor]:  # fp32 [B,Q,k] and int64 [B,Q,k]
    """Squared Euclidean distances of the k nearest rows, ascending, and which they are."""
    # |q|^2 is the same for all rows of the bank: it does not change which are near
    rough = bank.square().sum(2)[:, None] - 2 * queries @ bank.transpose(1, 2)
    some = rough.topk(min(k + spare, bank.shape[1]), 2, largest=False).indices  # [B,Q,n]
    first = torch.arange(bank.shape[0])[:, None, None] * bank.shape[1]  # of each image's rows
    rows = bank.flatten(0, 1).index_select(0, (some + first).flatten()).unflatten(0, some.shape)
    exact = (rows - queries[:, :, None]).square().sum(3)
    squared, order = exact.topk(k, 2, largest=False)
    return squared, some.gather(2, order)


@contextmanager
def plain_operators() -> Iterator[None]:
    """Inside, thfr_ext's functions are their twins. One thread at a time: it is the module that changes."""
    before = {name: getattr(thfr_ext, name) for name in _TWINS if hasattr(thfr_ext, name)}
    with _ONE_AT_A_TIME:
        try:
            for name in before:
                setattr(thfr_ext, name, _TWINS[name])
            yield
        finally:
            for name, function in before.items():
                setattr(thfr_ext, name, function)


_ONE_AT_A_TIME = RLock()
_TWINS: dict[str, Callable[..., Any]] = {
    "anomaly_map": anomaly_map,
    "cosine_distance": cosine_distance,
    "nearest_templates": nearest_templates,
    "upsample_blur": upsample_blur,
}
