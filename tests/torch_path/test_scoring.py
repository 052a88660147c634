"""The scoring operators' PyTorch path, on CPU tensors, against the oracles in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.scoring_oracle import (
    CASES,
    LAYOUTS,
    gradient_error,
    oracle_blur,
    oracle_distance,
    oracle_gradients,
)

from thfr_ext.scoring import blur, resample, torch_path

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
SHAPES = [
    (2, 24, 4, 6),
    (1, 1, 1, 1),
    (2, 64, 3, 2),
    (1, 65, 2, 3),
    (1, 1536, 4, 4),
    (0, 8, 2, 2),
    (2, 3, 0, 4),
]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_distance(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, y = (torch.randn(shape).to(dtype) for _ in range(2))
    found = torch_path.cosine_distance(x, y, 1e-8)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert found.dtype == wide
    assert found.shape == (shape[0], *shape[2:])
    error = np.abs(found.double().numpy() - oracle_distance(x, y)).max(initial=0)
    assert error <= (1e-13 if dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("eps", [1e-8, 0.0, 3.0])
def test_extremes(case: str, layout: str, eps: float) -> None:
    torch.manual_seed(1)
    x, y = (LAYOUTS[layout](t) for t in CASES[case]((2, 40, 4, 6)))
    found = torch_path.cosine_distance(x, y, eps)
    assert np.abs(found.double().numpy() - oracle_distance(x, y, eps).clip(0, 2)).max() <= 1e-6


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_not_finite(value: float) -> None:
    x, y = torch.rand(1, 5, 3, 3), torch.rand(1, 5, 3, 3)
    x[0, 2, 1, 1] = y[0, 0, 2, 2] = value
    y[0, :, 1, 1] = 0
    found = torch_path.cosine_distance(x, y, 1e-8).isnan()
    assert found[0, 1, 1]
    assert found[0, 2, 2]
    assert found.sum() == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient(layout: str, dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    x, y = (LAYOUTS[layout](torch.randn(2, 72, 4, 6).to(dtype)) for _ in range(2))
    grad = torch.rand(2, 4, 6, dtype=torch.float64 if dtype == torch.float64 else torch.float32) + 0.2
    found = torch_path.cosine_distance_backward(grad, x, y, 1e-8, True, True)
    for result, leaf, expected in zip(found, (x, y), oracle_gradients(grad, x, y), strict=True):
        assert result.dtype == leaf.dtype
        assert result.stride() == torch.empty_like(leaf).stride()
        assert gradient_error(result, expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("need", [(True, False), (False, True)])
def test_gradient_not_needed(need: tuple[bool, bool]) -> None:
    x, y = torch.rand(1, 5, 2, 2), torch.rand(1, 5, 2, 2)
    found = torch_path.cosine_distance_backward(torch.ones(1, 2, 2), x, y, 1e-8, *need)
    assert [g.numel() > 0 for g in found] == list(need)


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1.0, 1e10, 1e17])
@pytest.mark.parametrize("eps", [1e-8, 0.0])
def test_gradient_magnitudes(scale: float, eps: float) -> None:
    """Also where the product of the norms is below eps."""
    torch.manual_seed(3)
    x, y = torch.randn(1, 70, 3, 4) * scale, torch.randn(1, 70, 3, 4) * scale
    x[0, :, 0, 0] = 0
    grad = torch.rand(1, 3, 4) + 0.2
    found = torch_path.cosine_distance_backward(grad, x, y, eps, True, True)
    rest = oracle_gradients(grad, x, y, eps or 1e-300)
    for result, expected in zip(found, rest, strict=True):
        assert torch.equal(result[0, :, 0, 0], torch.zeros(70))
        assert gradient_error(result.flatten(2)[..., 1:], expected.flatten(2)[..., 1:]) <= 3e-6


SIZES = [(1, 1), (1, 9), (7, 7), (5, 40), (40, 5), (16, 33), (64, 256)]


@pytest.mark.parametrize("sigma", [0.0, 0.05, 0.5, 4.0, 30.0, 1000.0])
@pytest.mark.parametrize(("source", "size"), SIZES)
def test_matrix(source: int, size: int, sigma: float) -> None:
    start, weights = blur.resample_blur(source, size, sigma)
    expected = np.zeros((size, source))
    for row, (first, band) in enumerate(zip(start, weights, strict=True)):
        expected[row, first : first + len(band)] = band
    found = resample.make_matrix(source, size, sigma, torch.device("cpu")).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_matrices_are_kept_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample, "MOST_KEPT", 3)
    monkeypatch.setattr(resample, "_kept", {})
    device = torch.device("cpu")
    first = resample.matrix(4, 8, 1.0, device)
    for size in range(9, 20):
        resample.matrix(4, size, 1.0, device)
    assert resample.matrix(4, 8, 1.0, device) is first
    assert len(resample._kept[device]) == 3
    assert resample.matrix(4, 19, 1.0, device) is not resample.matrix(4, 19, 1.0, device)


def test_nothing_is_kept_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample, "capturing", lambda device: True)
    monkeypatch.setattr(resample, "_kept", {})
    made = resample.matrix(4, 8, 1.0, torch.device("cpu"))
    assert resample._kept == {torch.device("cpu"): {}}
    torch.testing.assert_close(made, resample.make_matrix(4, 8, 1.0, torch.device("cpu")))


@pytest.mark.parametrize("banded", [False, True])
@pytest.mark.parametrize("combine", ["sum", "product"])
@pytest.mark.parametrize("sigma", [0.0, 1.0, 4.0, 50.0])
def test_map(sigma: float, combine: str, banded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if banded:
        monkeypatch.setattr(torch_path, "MOST_DENSE", 0)
    torch.manual_seed(4)
    values = [torch.rand(2, 16, 16), torch.rand(2, 8, 9).double(), torch.rand(2, 1, 50).half()]
    weights, size = [0.5, 2.0, 1.0], (33, 24)
    anomaly, score = torch_path.upsample_blur(values, size, sigma, combine, weights)
    expected = oracle_blur([v.double().numpy() for v in values], size, sigma, combine, weights)
    assert np.abs(anomaly.numpy() - expected).max() <= 1e-6 * np.abs(expected).max()
    assert torch.equal(score, anomaly.amax((1, 2)))
    assert anomaly.is_contiguous()
    assert anomaly.dtype == score.dtype == torch.float32
