"""What a result must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def numbers(result: Any) -> list[Any]:
    """All arrays and numbers in a result."""
    if isinstance(result, dict):
        return [leaf for value in result.values() for leaf in numbers(value)]
    if isinstance(result, (tuple, list)):
        return [leaf for value in result for leaf in numbers(value)]
    return [result]


def as_array(value: Any) -> np.ndarray:
    return (
        value.detach().double().numpy() if isinstance(value, Tensor) else np.asarray(value, dtype=np.float64)
    )


def finite(value: Any) -> bool:
    """Whether the floats in an argument are finite and of moderate size."""
    if isinstance(value, (list, tuple)):
        return all(finite(v) for v in value)
    if isinstance(value, (Tensor, np.ndarray)):
        array = as_array(value.detach() if isinstance(value, Tensor) else value)
        return bool(np.isfinite(array).all())
    return True


def on_meta(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(on_meta(v) for v in value)
    return isinstance(value, Tensor) and value.device.type == "meta"


def shares(result: Any, arguments: list[Any]) -> None:  # areas and overlaps: 0 to 1, whatever the scores
    for leaf in numbers(result):
        assert ((as_array(leaf) >= 0) & (as_array(leaf) <= 1)).all()


def curve(result: Any, arguments: list[Any]) -> None:
    fpr, overlap, thresholds = (as_array(column) for column in result)
    assert fpr.shape == overlap.shape == thresholds.shape
    assert fpr[0] == overlap[0] == 0
    assert fpr[-1] == 1
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(overlap) >= 0).all()
    assert overlap[-1] <= 1
    assert (thresholds[1:] <= thresholds[:-1]).all()


def distance(result: Any, arguments: list[Any]) -> None:
    x = arguments[0]
    assert tuple(result.shape) == (x.shape[0], *x.shape[2:])
    if finite(arguments):
        assert ((as_array(result) >= 0) & (as_array(result) <= 2)).all()


def gradients(result: Any, arguments: list[Any]) -> None:
    grad, x, y, _, *needed = arguments
    for made, like, need in zip(result, (x, y), needed, strict=True):
        assert made.shape == like.shape if need else made.numel() == 0
        assert made.dtype == like.dtype
        # fp16 may overflow where the vectors are tiny
        assert not finite([grad, x, y]) or x.dtype == torch.float16 or bool(made.isfinite().all())


def anomaly(result: Any, arguments: list[Any]) -> None:
    features, _, size = arguments[:3]
    assert tuple(result[0].shape) == (features[0].shape[0], *size)
    assert tuple(result[1].shape) == (features[0].shape[0],)
    if finite(arguments[:2]):
        assert np.isfinite(as_array(result[0])).all()
    assert np.array_equal(as_array(result[0]).max((1, 2)), as_array(result[1]), equal_nan=True)


def blurred(result: Any, arguments: list[Any]) -> None:
    distances, size, _, combine, weights = arguments
    assert tuple(result[0].shape) == (distances[0].shape[0], *size)
    assert tuple(result[1].shape) == (distances[0].shape[0],)
    if finite(distances) and (combine == "sum" or weights is None):
        assert np.isfinite(as_array(result[0])).all()
    assert np.array_equal(as_array(result[0]).max((1, 2)), as_array(result[1]), equal_nan=True)


def merged(result: Any, arguments: list[Any]) -> None:
    scores, indices, k, metric = arguments
    assert tuple(result[0].shape) == tuple(result[1].shape) == (scores.shape[1], int(k))
    given, found = as_array(indices), as_array(result[1])
    for query in range(found.shape[0]):
        there = sorted(n for n in given[:, query].ravel().tolist() if n >= 0)
        kept = [n for n in found[query].tolist() if n >= 0]
        assert len(kept) == min(len(there), int(k))
        assert not set(kept) - set(there)
    best = as_array(result[0])
    steps = np.diff(best, axis=1)
    rising = (steps >= 0) if metric == "l2" else (steps <= 0)
    assert (rising | np.isnan(steps)).all()
    assert (np.isnan(best) == (found < 0)).all()


def nearest(result: Any, arguments: list[Any]) -> None:
    queries, bank, k = arguments[:3]
    assert tuple(result[0].shape) == tuple(result[1].shape) == (queries.shape[0], int(k))
    assert np.isfinite(as_array(result[0])).all()
    indices = as_array(result[1])
    assert ((indices >= 0) & (indices < bank.shape[0])).all()
    assert all(len(set(row)) == len(row) for row in indices.tolist())


def coreset(result: Any, arguments: list[Any]) -> None:
    chosen = as_array(result)
    assert chosen.shape == (int(arguments[1]),)
    assert len(set(chosen.tolist())) == len(chosen)
    assert ((chosen >= 0) & (chosen < arguments[0].shape[0])).all()


def labels(result: Any, arguments: list[Any]) -> None:
    marked, (found, counts) = as_array(arguments[0]), (as_array(r) for r in result)
    assert found.shape == marked.shape
    assert ((found > 0) == (marked > 0)).all()
    assert [image.max(initial=0) for image in found] == counts.tolist()


def samples(result: Any, arguments: list[Any]) -> None:
    negatives, scores, offsets = result
    pixels = sum(m.numel() for m in arguments[0])
    assert negatives.dim() == scores.dim() == offsets.dim() == 1
    assert len(negatives) <= pixels
    assert offsets[0] == 0
    assert offsets[-1] == len(scores)
