"""Nearest templates by the definition, in extended precision; and rows that are hard to search."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

METRICS = ("cosine", "l2", "dot")


def scores(queries: Tensor, bank: Tensor, metric: str) -> np.ndarray:
    """All scores [Q,N], rounded to the dtype that the operator returns."""
    x, y = (t.double().numpy().astype(np.longdouble) for t in (queries, bank))
    if metric == "l2":
        exact = np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))
    else:
        exact = (x[:, None] * y[None]).sum(-1)
        if metric == "cosine":
            norms = np.sqrt((x * x).sum(-1))[:, None] * np.sqrt((y * y).sum(-1))
            exact = np.clip(np.divide(exact, norms, out=np.zeros_like(exact), where=norms > 0), -1, 1)
    with np.errstate(over="ignore"):
        return exact.astype(np.float64 if queries.dtype == torch.float64 else np.float32)


def check(
    queries: Tensor, bank: Tensor, k: int, metric: str, result: tuple, exclude: Tensor | None = None
) -> None:
    """Asserts that ``result`` is right: to the bit but for fp64, whose last bits depend on the order."""
    got, indices = (t.numpy() for t in result)
    every = scores(queries, bank, metric)
    keys = every if metric == "l2" else -every
    expected = np.empty((len(every), k), np.int64)
    for q, row in enumerate(keys):
        allowed = np.arange(len(row))
        if exclude is not None:
            allowed = np.delete(allowed, int(exclude[q])) if exclude[q] >= 0 else allowed
        expected[q] = allowed[np.lexsort((allowed, row[allowed]))[:k]]
    assert got.dtype == every.dtype
    assert got.shape == indices.shape == (len(every), k)
    if queries.dtype != torch.float64:
        np.testing.assert_array_equal(indices, expected)
        np.testing.assert_array_equal(got, np.take_along_axis(every, expected, 1))
        return
    tolerance = 1e-14 * np.abs(every).max(initial=0)
    np.testing.assert_allclose(got, np.take_along_axis(every, expected, 1), rtol=1e-13, atol=tolerance)
    np.testing.assert_allclose(got, np.take_along_axis(every, indices, 1), rtol=1e-13, atol=tolerance)
    signed = got if metric == "l2" else -got
    assert (np.diff(signed) >= 0).all()
    assert (np.diff(indices)[np.diff(signed) == 0] > 0).all()
    assert all(len(set(row)) == k for row in indices.tolist())
    assert exclude is None or not (indices == exclude.numpy()[:, None]).any()


def rows(kind: str, count: int, width: int, seed: int, base: Tensor | None = None) -> Tensor:
    """fp32 rows that a search may stumble over. ``base``: rows that ``near`` rows are near to."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, width, generator=generator)
    if kind == "tied":  # few different rows, the copies at all distances from the edges of tiles and blocks
        return noise[torch.randint(0, max(1, count // 6), (count,), generator=generator)]
    if kind == "near":  # one rounding from each other: far below what fp32 sums can tell apart
        anchor = (
            noise[:1] if base is None else base[torch.randint(0, len(base), (count,), generator=generator)]
        )
        return anchor * (1 + 6e-8 * torch.randint(-3, 4, (count, width), generator=generator))
    scale = 10.0 ** (12 * torch.rand(count, 1, generator=generator) - 6)
    made = {
        "random": noise,
        "positive": noise.relu(),
        "integer": (2 * noise).round(),
        "constant": torch.full((count, width), 0.7),
        "zero": torch.zeros(count, width),
        "some zero": noise * (torch.arange(count) % 3 > 0)[:, None],
        "skewed": noise * scale,
        "tiny": noise * 1e-30,
        "subnormal": noise * 1e-41,
        "huge": noise * 1e30,
        "offset": 1000 + noise * 1e-3,
        "far offset": 1e6 + noise,
    }
    return made[kind]


KINDS = ("random", "tied", "near", "positive", "integer", "constant", "zero", "some zero", "skewed", "tiny",
         "subnormal", "huge", "offset", "far offset")  # fmt: skip
