"""upsample_blur: values against SciPy and torch in float64, inputs, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scoring_oracle import oracle_blur
from torch import Tensor

import thfr_ext
from thfr_ext import reference

SHAPES = [(2, 16, 16), (2, 8, 9), (2, 40, 3), (2, 1, 1)]
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
EMPTY = "distances[0]: expected at least one location"


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def levels(kind: str = "random") -> list[Tensor]:
    return [VALUES[kind](rand(*shape, seed=i)) for i, shape in enumerate(SHAPES)]


VALUES: dict[str, Callable[[Tensor], Tensor]] = {
    "random": lambda u: u,
    "tied": lambda u: (u * 3).floor(),
    "constant": lambda u: torch.full_like(u, 0.7),
    "both signs": lambda u: u - 0.5,
    "negative": lambda u: -1 - u,
    "skewed": lambda u: u**12,
    "huge": lambda u: u * 1e30,
    "tiny": lambda u: u * 1e-30,
    "zero": torch.zeros_like,
}


def check(distances: list[Tensor], size: tuple[int, int], *options: Any, slack: float = 2e-6) -> Tensor:
    """Kernel and twin are near the oracle, relative to its largest magnitude; scores are maxima."""
    expected = oracle_blur([d.double().numpy() for d in distances], size, *options)
    scale = max(np.abs(expected).max(initial=0), 1e-300)
    for anomaly, score in (
        thfr_ext.upsample_blur(distances, size, *options),
        reference.upsample_blur(distances, size, *options),
    ):
        assert anomaly.dtype == score.dtype == torch.float32
        assert anomaly.shape == expected.shape
        assert anomaly.is_contiguous()
        assert np.abs(anomaly.double().numpy() - expected).max(initial=0) <= slack * scale
        assert torch.equal(score, anomaly.amax((1, 2)))
    return thfr_ext.upsample_blur(distances, size, *options)[0]


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("size", [(64, 64), (30, 17), (1, 1), (1, 90)], ids=str)
def test_values(kind: str, size: tuple[int, int]) -> None:
    for sigma in (0.0, 0.1, 4.0, 50.0):
        check(levels(kind), size, sigma)
        check(levels(kind), size, sigma, "sum", [1.0, 0.5, 2.0, 0.0])
    if kind not in ("huge", "tiny"):  # whose products are beyond fp32
        for sigma in (0.0, 3.0):
            check(levels(kind), size, sigma, "product")
    if kind in ("random", "tied", "constant", "skewed", "zero"):  # fractional powers of numbers from 0
        check(levels(kind), size, 2.0, "product", [1.0, 0.5, 2.0, 0.0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "strided", "expanded"])
def test_dtypes_and_layouts(dtype: torch.dtype, layout: str) -> None:
    lay: dict[str, Callable[[Tensor], Tensor]] = {
        "contiguous": lambda t: t,
        "transposed": lambda t: t.mT.contiguous().mT,
        "strided": lambda t: torch.stack([t, t + math.nan], -1)[..., 0],
        "expanded": lambda t: t[:1].expand(t.shape),
    }
    given = [lay[layout](level.to(dtype)) for level in levels()]
    before = [level.clone() for level in given]
    check(given, (40, 50))
    assert all(map(torch.equal, given, before))


def test_levels_of_several_dtypes_and_kinds() -> None:
    mixed = [level.to(dtype) for level, dtype in zip(levels(), DTYPES, strict=True)]
    check(mixed, (33, 20))
    anomaly, score = thfr_ext.upsample_blur([level.numpy() for level in levels()], (33, 20))
    assert isinstance(anomaly, np.ndarray)
    assert isinstance(score, np.ndarray)
    assert np.array_equal(anomaly, thfr_ext.upsample_blur(levels(), (33, 20))[0].numpy())


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.data())
def test_any_levels(data: st.DataObject) -> None:
    batch, sides = data.draw(st.integers(0, 3)), st.integers(1, 12)
    kind = data.draw(st.sampled_from(["random", "tied", "both signs", "skewed"]))
    given = [
        VALUES[kind](rand(batch, data.draw(sides), data.draw(sides), seed=i))
        for i in range(data.draw(st.integers(1, 10)))
    ]
    size = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 300))
    sigma = data.draw(st.sampled_from([0.0, 0.3, 1.0, 4.0, 30.0]))
    if batch == 0:
        anomaly, score = thfr_ext.upsample_blur(given, size, sigma)
        assert anomaly.shape == (0, *size)
        assert score.shape == (0,)
        return
    check(given, size, sigma, data.draw(st.sampled_from(["sum", "product"])), slack=4e-6)


def test_anomaly_map_is_its_second_half() -> None:
    features = [torch.randn(2, 6, *shape[1:], generator=torch.Generator().manual_seed(1)) for shape in SHAPES]
    restored = [x.roll(1, 0) for x in features]
    distances = [thfr_ext.cosine_distance(x, y) for x, y in zip(features, restored, strict=True)]
    for options in ((4.0,), (0.0, "product"), (2.0, "product", [1.0, 0.5, 2.0, 0.0])):
        got = thfr_ext.upsample_blur(distances, (30, 40), *options)
        expected = thfr_ext.anomaly_map(features, restored, (30, 40), *options)
        assert all(map(torch.equal, got, expected))


def test_threads_do_not_show() -> None:
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            results.append(thfr_ext.upsample_blur(levels(), (150, 135), 4.0))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_values_that_are_not_finite(value: float) -> None:
    """They stay in their image, and within the reach of up-sampling and blur."""
    given = [torch.zeros(2, 20, 20), torch.zeros(2, 10, 10)]
    given[0][1, 2, 3] = value
    anomaly, score = thfr_ext.upsample_blur(given, (80, 80), 1.0)
    assert bool((anomaly[0] == 0).all())
    assert score[0] == 0
    assert not bool(anomaly[1, 8:12, 12:16].isfinite().any())
    assert bool((anomaly[1, 40:, 40:] == 0).all())
    assert not bool(score[1].isfinite()) or value == -math.inf
    if math.isnan(value):
        assert bool(score[1].isnan())


def test_not_differentiable() -> None:
    given = [level.requires_grad_() for level in levels()]
    anomaly, _ = thfr_ext.upsample_blur(given, (9, 9))
    with pytest.raises(NotImplementedError, match="upsample_blur: not differentiable"):
        anomaly.sum().backward()


@pytest.mark.parametrize("combine", ["sum", "product"])
def test_opcheck(combine: str) -> None:
    arguments = (levels(), [20, 30], 2.0, combine, [1.0, 0.5, 2.0, 0.0])
    torch.library.opcheck(torch.ops.thfr_ext.upsample_blur.default, arguments)


def test_compile() -> None:
    def run(distances: list[Tensor]) -> tuple[Tensor, Tensor]:
        anomaly, score = thfr_ext.upsample_blur([2 * d for d in distances], (20, 30), 2.0)
        return anomaly + 1, score

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    for got, expected in zip(compiled(levels()), run(levels()), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize(
    ("change", "error", "begins"),
    [
        ({"distances": rand(2, 3, 4)}, TypeError, "distances: expected a list of tensors, one a level, got"),
        ({"distances": []}, ValueError, "distances: expected at least one level, got none"),
        ({"distances": [None]}, TypeError, "distances[0]: expected a torch tensor"),
        ({"distances": [rand(3, 4)]}, ValueError, "distances[0]: expected shape [B,h,w], got [3, 4]"),
        (
            {"distances": [rand(1, 3, 4).long()]},
            TypeError,
            "distances[0]: expected float32, float64",
        ),
        ({"distances": [rand(1, 0, 4)]}, ValueError, EMPTY),
        ({"distances": [rand(1, 4, 0)]}, ValueError, EMPTY),
        (
            {"distances": [rand(1, 3, 4), rand(2, 3, 4)]},
            ValueError,
            "distances[1]: expected batch size and device of distances[0] ([1, 3, 4] float32 on cpu)",
        ),
        (
            {"distances": [rand(1, 3, 4), rand(1, 3, 4).to("meta")]},
            ValueError,
            "distances[1]: expected batch",
        ),
        ({"size": (4,)}, ValueError, "size: expected (H, W), both 1 to 1048576, got (4,)"),
        ({"size": (0, 4)}, ValueError, "size: expected (H, W)"),
        ({"size": (2**70, 4)}, ValueError, "size: expected (H, W)"),
        ({"size": "ab"}, TypeError, "size: expected two integers (H, W)"),
        ({"size": (4.0, 4)}, TypeError, "size: expected two integers (H, W)"),
        ({"sigma": -1.0}, ValueError, "sigma: expected 0 to 1e+06 pixels, got -1.0"),
        ({"sigma": math.nan}, ValueError, "sigma: expected 0 to 1e+06 pixels, got nan"),
        ({"sigma": "4"}, TypeError, "sigma: expected a number, got '4'"),
        ({"combine": "mean"}, ValueError, "combine: expected 'sum' or 'product', got 'mean'"),
        ({"combine": 3}, ValueError, "combine: expected 'sum' or 'product', got 3"),
        (
            {"weights": [1.0]},
            ValueError,
            "weights: expected 2 finite numbers from 0 to 1e+30, one a level",
        ),
        ({"weights": [1.0, -1.0]}, ValueError, "weights: expected 2 finite numbers from 0 to 1e+30"),
        ({"weights": [1.0, None]}, TypeError, "weights: expected a number, got None"),
    ],
)
def test_refusals(change: dict[str, Any], error: type[Exception], begins: str) -> None:
    arguments: dict[str, Any] = {"distances": [rand(1, 3, 4), rand(1, 2, 2)], "size": (8, 8), **change}
    with pytest.raises(error) as caught:
        thfr_ext.upsample_blur(**arguments)
    assert str(caught.value).startswith(f"upsample_blur: {begins}")
