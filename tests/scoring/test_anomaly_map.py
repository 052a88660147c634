"""anomaly_map on every device: values against scipy and torch, options, refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.device import Device
from support.scoring_cases import CASES, DTYPES, inputs, laid_out
from support.scoring_oracle import oracle_map
from torch import Tensor

import thfr_ext
from thfr_ext import reference
from thfr_ext.scoring import blur

SHAPES = [(2, 8, 16, 16), (2, 16, 8, 9), (2, 5, 40, 3), (2, 4, 1, 1)]
Pair = tuple[Tensor, Tensor]  # map and score


def levels(seed: int = 0, shapes: list[tuple[int, ...]] | None = None) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = SHAPES if shapes is None else shapes
    return (
        [torch.randn(s, generator=generator) for s in shapes],
        [torch.randn(s, generator=generator) for s in shapes],
    )


def run(
    device: Device,
    x: list[Tensor],
    y: list[Tensor],
    size: tuple[int, int],
    sigma: float = 4.0,
    combine: str = "sum",
    weights: list[float] | None = None,
) -> Pair:
    found: Pair = device.anomaly_map(x, y, size, sigma, combine, weights)
    return found


def check(
    device: Device,
    x: list[Tensor],
    y: list[Tensor],
    size: tuple[int, int],
    *options: Any,
    slack: float = 2e-6,
) -> None:
    expected = oracle_map(x, y, size, *options)
    found = [run(device, x, y, size, *options)]
    if device.name == "cpu":
        found.append(reference.anomaly_map(x, y, size, *options))
    for anomaly, score in found:
        assert anomaly.dtype == score.dtype == torch.float32
        assert anomaly.is_contiguous()
        assert np.abs(anomaly.numpy() - expected).max() <= slack * np.abs(expected).max()
        assert torch.equal(score, anomaly.amax((1, 2)))


@pytest.mark.parametrize("size", [(64, 64), (5, 17), (1, 1), (1, 90), (31, 33), (70, 65)])
@pytest.mark.parametrize("sigma", [0, 0.1, 1.0, 4.0, 50.0])
@pytest.mark.parametrize("combine", ["sum", "product"])
def test_values(size: tuple[int, int], sigma: float, combine: str, device: Device) -> None:
    for weights in (None, [1.0, 0.5, 2.0, 0.0]):
        check(device, *levels(), size, sigma, combine, weights)


# Bands of one chunk of 32, of one more, of several, along either axis; levels as large as the map and larger.
@pytest.mark.parametrize(
    "shape", [(1, 3, 64, 64), (1, 3, 33, 70), (1, 3, 96, 5), (1, 3, 7, 130), (2, 2, 100, 90)]
)
@pytest.mark.parametrize(
    ("size", "sigma"), [((96, 64), 4.0), ((40, 40), 9.0), ((33, 64), 0.0), ((64, 31), 100.0)]
)
def test_large_levels(shape: tuple[int, ...], size: tuple[int, int], sigma: float, device: Device) -> None:
    check(device, *levels(1, [shape]), size, sigma)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("combine", ["sum", "product"])
def test_inputs(case: str, combine: str, device: Device) -> None:
    pairs = [inputs(case, shape, torch.float32, "contiguous") for shape in ((2, 30, 12, 10), (2, 7, 5, 6))]
    x, y = ([pair[i] for pair in pairs] for i in range(2))
    anomaly, _ = device.anomaly_map(x, y, (33, 31), 2.0, combine, None)
    assert np.abs(anomaly.numpy() - oracle_map(x, y, (33, 31), 2.0, combine)).max() <= 5e-6


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "misaligned"])
def test_dtypes_and_layouts(layout: str, device: Device) -> None:
    for dtype in DTYPES:
        x, y = ([laid_out(t.to(dtype), layout) for t in side] for side in levels())
        check(device, x, y, (40, 50))
    x, y = ([laid_out(t.to(d), layout) for t, d in zip(side, DTYPES, strict=True)] for side in levels())
    check(device, x, y, (40, 50))


@pytest.mark.parametrize("combine", ["sum", "product"])
@pytest.mark.parametrize("sigma", [0.0, 1.0, 6.0])
def test_nan_reaches_as_far_as_on_the_cpu(combine: str, sigma: float, device: Device) -> None:
    x, y = levels(4, [(2, 4, 32, 32), (2, 4, 16, 16)])
    x[0][1, 2, 20, 1] = math.nan
    x[1][1, 2, 3, 9] = math.inf
    anomaly, score = device.anomaly_map(x, y, (100, 70), sigma, combine, [1.0, 0.5])
    expected, expected_score = thfr_ext.anomaly_map(x, y, (100, 70), sigma, combine, [1.0, 0.5])
    assert torch.equal(anomaly.isnan(), expected.isnan())
    assert 0 < int(anomaly.isnan().sum()) < anomaly.numel()
    assert (anomaly - expected).nan_to_num().abs().max() <= 5e-6
    assert torch.equal(score.isnan(), expected_score.isnan())
    assert score.isnan().tolist() == [False, True]


def test_wide_resnet_shapes() -> None:
    x, y = levels(1, [(1, 64, 64, 64), (1, 128, 32, 32), (1, 256, 16, 16)])
    check(Device("cpu"), x, y, (256, 256), slack=1e-6)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=3),
    st.tuples(st.integers(1, 80), st.integers(1, 80)),
    st.floats(0, 30),
    st.sampled_from(["sum", "product"]),
    st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_any_shape_and_sigma(
    maps: list[tuple[int, int]], size: tuple[int, int], sigma: float, combine: str, seed: int
) -> None:
    features, restored = levels(seed, [(1, 3, h, w) for h, w in maps])
    anomaly, score = thfr_ext.anomaly_map(features, restored, size, sigma, combine)
    twin, _ = reference.anomaly_map(
        [t.double() for t in features], [t.double() for t in restored], size, sigma, combine
    )
    assert (anomaly - twin).abs().max() <= 3e-6 * max(1.0, float(twin.max()))
    assert torch.equal(score, anomaly.amax((1, 2)))
    # Every step is a mean of its inputs, so the map stays within the bounds of the distances.
    bound = 2.0 * len(maps) if combine == "sum" else 2.0 ** len(maps)
    assert float(anomaly.min()) >= 0
    assert float(anomaly.max()) <= bound * (1 + 1e-5)


@pytest.mark.parametrize("sigma", [200.0, 5e4])
def test_a_very_wide_blur_is_a_mean(sigma: float) -> None:
    features, restored = levels(2, [(1, 4, 6, 5)])
    sharp, _ = thfr_ext.anomaly_map(features, restored, (20, 11), sigma=0)
    blurred, _ = thfr_ext.anomaly_map(features, restored, (20, 11), sigma=sigma)
    assert (blurred - sharp.mean()).abs().max() <= 1e-5


def test_no_image(device: Device) -> None:
    x = [torch.zeros(0, 3, 4, 5)]
    anomaly, score = run(device, x, x, (8, 9))
    assert anomaly.shape == (0, 8, 9)
    assert score.shape == (0,)


def test_no_channel(device: Device) -> None:
    x = [torch.zeros(257, 0, 4, 5)]
    anomaly, score = run(device, x, x, (8, 9))
    assert torch.allclose(anomaly, torch.ones(257, 8, 9))
    assert torch.allclose(score, torch.ones(257))


@pytest.mark.parametrize("combine", ["sum", "product"])
def test_batch_does_not_matter(combine: str, device: Device) -> None:
    x, y = levels(6, [(3, 20, 31, 29), (3, 40, 16, 12)])
    together = run(device, x, y, (70, 64), 3.0, combine)
    for b in range(3):
        part = ([t[b : b + 1] for t in side] for side in (x, y))
        alone = run(device, *part, (70, 64), 3.0, combine)
        assert all(torch.equal(a[0], t[b]) for a, t in zip(alone, together, strict=True))


@pytest.mark.parametrize("combine", ["sum", "product"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_reaches_the_score_of_its_image_only(combine: str, bad: float) -> None:
    features, restored = levels(3, [(2, 4, 32, 32), (2, 4, 16, 16)])
    expected, expected_score = thfr_ext.anomaly_map(features, restored, (128, 128), 1.0, combine)
    features[0][1, 2, 1, 1] = bad
    anomaly, score = thfr_ext.anomaly_map(features, restored, (128, 128), 1.0, combine)
    assert bool(anomaly[1, 5, 5].isnan())
    assert bool(score[1].isnan())
    assert torch.equal(anomaly[0], expected[0])
    assert score[0] == expected_score[0]
    assert torch.allclose(anomaly[1, 64:, 64:], expected[1, 64:, 64:])


def test_same_bits_whatever_the_threads() -> None:
    features, restored = levels(4, [(3, 20, 31, 29), (3, 40, 16, 15)])
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5, 1):
            torch.set_num_threads(count)
            for combine in ("sum", "product"):
                results.append(
                    torch.cat(
                        [t.flatten() for t in thfr_ext.anomaly_map(features, restored, (90, 77), 3, combine)]
                    )
                )
    finally:
        torch.set_num_threads(threads)
    for k, result in enumerate(results):
        assert torch.equal(result, results[k % 2])


def test_not_differentiable() -> None:
    x, y = torch.randn(1, 3, 4, 4, requires_grad=True), torch.randn(1, 3, 4, 4)
    _, score = thfr_ext.anomaly_map([x], [y], (8, 8))
    with pytest.raises(NotImplementedError, match=r"^anomaly_map: not differentiable"):
        score.sum().backward()
    with torch.no_grad():
        assert not thfr_ext.anomaly_map([x], [y], (8, 8))[1].requires_grad


def test_the_cache_is_bounded() -> None:
    x = torch.randn(1, 2, 3, 3)
    for n in range(1, 300):
        thfr_ext.anomaly_map([x], [x], (n, 4), sigma=1.0)
    for cache in (blur.row_band, blur.column_blocks):
        info = cache.cache_info()
        assert info.maxsize is not None
        assert info.currsize <= info.maxsize


X, HALF = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.float16)
GOOD: dict[str, Any] = {"features": [X, X], "restored": [X, X], "size": (8, 8)}


@pytest.mark.parametrize(
    ("change", "error", "begins"),
    [
        ({"features": X}, TypeError, "features: expected a list of tensors"),
        ({"features": ["a", X]}, TypeError, "features[0]: expected a torch tensor"),
        ({"features": [], "restored": []}, ValueError, "features: expected at least one level"),
        ({"restored": [X]}, ValueError, "restored: expected 2 levels, got 1"),
        ({"features": [X, X[0]]}, ValueError, "features[1]: expected shape [B,C,H,W], got [3, 4, 4]"),
        ({"features": [X, X.long()]}, TypeError, "features[1]: expected float32"),
        ({"restored": [X, X[:, :2]]}, ValueError, "restored[1]: expected shape and device of features[1]"),
        ({"restored": [X, HALF]}, TypeError, "restored[1]: expected dtype of features[1]"),
        ({"features": [X, X[:1]], "restored": [X, X[:1]]}, ValueError, "features[1]: expected batch size"),
        (
            {"features": [X[..., :0]], "restored": [X[..., :0]]},
            ValueError,
            "features[0]: expected at least one location",
        ),
        ({"size": 8}, TypeError, "size: expected two integers (H, W), got 8"),
        ({"size": (8.0, 8)}, TypeError, "size: expected two integers"),
        ({"size": (8,)}, ValueError, "size: expected (H, W), both 1 to 1048576, got (8,)"),
        ({"size": (8, 0)}, ValueError, "size: expected (H, W), both 1 to 1048576, got (8, 0)"),
        ({"size": (-8, 8)}, ValueError, "size: expected"),
        ({"sigma": -1.0}, ValueError, "sigma: expected 0 to"),
        ({"sigma": math.nan}, ValueError, "sigma: expected 0 to"),
        ({"sigma": math.inf}, ValueError, "sigma: expected 0 to"),
        ({"sigma": "4"}, TypeError, "sigma: expected a number, got '4'"),
        ({"combine": "max"}, ValueError, "combine: expected 'sum' or 'product', got 'max'"),
        ({"combine": None}, ValueError, "combine: expected 'sum' or 'product', got None"),
        ({"weights": [1.0]}, ValueError, "weights: expected 2 finite numbers"),
        ({"weights": [1.0, -1.0]}, ValueError, "weights: expected 2 finite numbers"),
        ({"weights": [1.0, math.nan]}, ValueError, "weights: expected 2 finite numbers"),
        ({"weights": 2.0}, TypeError, "weights: expected a list of numbers"),
        ({"weights": ["a", "b"]}, TypeError, "weights: expected a number, got 'a'"),
    ],
)
def test_refusals(change: dict[str, Any], error: type[Exception], begins: str) -> None:
    with pytest.raises(error) as caught:
        thfr_ext.anomaly_map(**{**GOOD, **change})
    assert str(caught.value).startswith(f"anomaly_map: {begins}")


def test_weights_and_arrays_that_would_lose_something() -> None:
    levels = [torch.ones(1, 2, 2), torch.ones(1, 2, 2)]
    with pytest.raises(
        ValueError, match=r"^upsample_blur: weights: expected 2 finite numbers from 0 to 1e\+30"
    ):
        thfr_ext.upsample_blur(levels, (4, 4), weights=[1e308, 1e308])
    assert np.isfinite(thfr_ext.upsample_blur(levels, (4, 4), weights=[1e30, 1e30])[0]).all()
    masked = np.ma.masked_array(np.ones((1, 3, 2, 2), np.float32), mask=False)
    with pytest.raises(TypeError, match=r"^cosine_distance: features: .*masked"):
        thfr_ext.cosine_distance(masked, masked)
    with pytest.raises(TypeError, match=r"^auroc: scores: .*masked"):
        thfr_ext.auroc(np.ma.masked_array([0.1, 0.2], mask=[True, False]), np.array([True, False]))
