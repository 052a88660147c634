"""Areas and curves in fractions: point by point and under straight lines, without rounding."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

INF = float("inf")
DTYPES = (np.float32, np.float64, np.float16)
#: few values, so that most pixels tie; both zeros, infinities, subnormal numbers and the ends of the range
FEW = {
    np.float32: [0.0, -0.0, 1.0, 1 + 2**-23, -INF, INF, 1e-45, -1e-45, 1.2e-38, 3.4e38, -3.4e38],
    np.float64: [0.0, -0.0, 1.0, 1 + 2**-52, -INF, INF, 5e-324, -5e-324, 2.3e-308, 1.7e308, 2.0**-150],
    np.float16: [0.0, -0.0, 1.0, 1 + 2**-10, -INF, INF, 6e-8, -6e-8, 6.1e-5, 65504.0, -65504.0],
}
Set = tuple[list[np.ndarray], list[np.ndarray], list[list[int]]]


def scores(dtype: type) -> st.SearchStrategy[float]:
    width = {np.float32: 32, np.float64: 64, np.float16: 16}[dtype]
    return st.sampled_from(FEW[dtype]) | st.floats(width=width, allow_nan=False)


@st.composite
def sets(draw: st.DrawFn) -> Set:
    """Maps, regions [R_i,H,W] that may overlap, saturations: at least one region, and one negative pixel."""
    maps, regions, saturations = [], [], []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.tuples(st.integers(1, 5), st.integers(2, 5)))
        dtype = draw(st.sampled_from(DTYPES))
        maps.append(draw(arrays(dtype, shape, elements=scores(dtype))))
        regions.append(draw(arrays(bool, (draw(st.integers(0 if regions else 1, 3)), *shape))))
        regions[-1][:, 0, 0] = True
        regions[-1][:, 0, 1] = False
        areas = regions[-1].sum((1, 2)).tolist()
        saturations.append(
            [draw(st.sampled_from([1, area, area + 2]) | st.integers(1, area)) for area in areas]
        )
    return maps, regions, saturations


def exact(score: float) -> Fraction | float:
    return Fraction(float(score)) if np.isfinite(score) else float(score)


def curve(given_set: Set) -> list[tuple[Fraction, Fraction]]:
    """(fpr, overlap) at each distinct score, strict `>`, from the highest; the last takes in every pixel."""
    maps, regions, saturations = given_set
    samples = [
        [exact(p) for p in image[mask]] for image, masks in zip(maps, regions, strict=True) for mask in masks
    ]
    negatives = [exact(p) for image, masks in zip(maps, regions, strict=True) for p in image[~masks.any(0)]]
    bounds = [s for image in saturations for s in image]
    thresholds = sorted({exact(p) for image in maps for p in image.ravel()}, reverse=True)
    points = []
    for threshold in [*thresholds, None]:
        above = [
            [p for p in region if threshold is None or p > threshold] for region in [negatives, *samples]
        ]
        shares = [min(Fraction(len(a), s), Fraction(1)) for a, s in zip(above[1:], bounds, strict=True)]
        points.append((Fraction(len(above[0]), len(negatives)), sum(shares, Fraction(0)) / len(shares)))
    return points


def area(points: Sequence[tuple[Fraction, Fraction]], limit: float) -> Fraction:
    """Under the straight lines from 0 to the limit, divided by the limit."""
    bound, total = Fraction(limit), Fraction(0)
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        end = min(x1, bound)
        if end > x0:
            y = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            total += (end - x0) * (y0 + y) / 2
    return total / bound


LIMITS = st.lists(st.floats(1e-6, 1) | st.sampled_from([0.25, 0.5, 1.0]), min_size=1, max_size=3)


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(array_shapes(max_dims=3, max_side=6).filter(lambda s: np.prod(s) > 1))
    labels = draw(arrays(bool, shape))
    labels.flat[:2] = True, False
    return draw(arrays(dtype, shape, elements=scores(dtype))), labels
