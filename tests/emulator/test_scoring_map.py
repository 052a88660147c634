"""anomaly_map's kernels: launches, matrices, guards, barriers. Values: tests/scoring."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from support.scoring_cases import superfluous_barriers
from support.scoring_oracle import oracle_map
from torch import Tensor

from thfr_ext.core import devices
from thfr_ext.core.tensors import NO_TENSOR, view
from thfr_ext.scoring import blur
from thfr_ext.scoring import cpu as scoring_cpu
from thfr_ext.scoring import cuda as scoring_cuda
from thfr_ext.scoring.cuda import anomaly_map


def levels(seed: int, shapes: list[tuple[int, ...]]) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x, y = ([torch.randn(s, generator=generator) for s in shapes] for _ in range(2))
    return x, y


def check(
    x: list[Tensor],
    y: list[Tensor],
    size: tuple[int, int],
    sigma: float = 4.0,
    combine: str = "sum",
    weights: list[float] | None = None,
) -> None:
    anomaly, score = anomaly_map(x, y, size, sigma, combine, weights)
    assert anomaly.dtype == score.dtype == torch.float32
    expected = oracle_map(x, y, size, sigma, combine, weights)
    assert np.abs(anomaly.numpy() - expected).max() <= 2e-6 * np.abs(expected).max()
    assert torch.equal(score, anomaly.amax((1, 2)))


@pytest.mark.parametrize(
    ("combine", "sigma", "launches"), [("sum", 2.0, 2), ("product", 0.0, 2), ("product", 2.0, 3)]
)
def test_launches(combine: str, sigma: float, launches: int, device: ModuleType) -> None:
    x, y = levels(2, [(1, 4, 2 + k, 3) for k in range(8)])
    check(x, y, (20, 40), sigma, combine)
    assert device.statistics()[0] == launches


@pytest.mark.parametrize("combine", ["sum", "product"])
def test_more_levels_than_a_launch_takes(combine: str, device: ModuleType) -> None:
    x, y = levels(3, [(2, 4, 1 + k % 5, 1 + k % 3) for k in range(17)])
    check(x, y, (34, 40), 0.0, combine, [1 / (1 + k) for k in range(17)])
    assert device.statistics()[0] == 6


def test_no_image_is_no_launch(device: ModuleType) -> None:
    anomaly_map([torch.zeros(0, 3, 4, 5)], [torch.zeros(0, 3, 4, 5)], (8, 9), 4.0, "sum", None)
    assert device.statistics()[0] == 0


def test_order_does_not_matter(device: ModuleType) -> None:
    x, y = levels(6, [(3, 20, 31, 29), (3, 40, 16, 12)])
    for combine in ("sum", "product"):
        expected = anomaly_map(x, y, (70, 64), 3.0, combine, None)
        for seed in range(4):
            device.set_options(seed=seed)
            found = anomaly_map(x, y, (70, 64), 3.0, combine, None)
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_overflow_reaches_as_far_as_on_the_cpu(device: ModuleType) -> None:
    x, y = levels(5, [(1, 4, 32, 8), (1, 4, 4, 4)])
    arguments = (x, y, (70, 40), 1.0, "sum", [3e38, 1.0])
    (anomaly, score), (expected, expected_score) = (
        anomaly_map(*arguments),
        scoring_cpu.anomaly_map(*arguments),
    )
    assert torch.equal(anomaly.isinf(), expected.isinf())
    assert torch.equal(anomaly.isnan(), expected.isnan())
    assert torch.equal(score.isnan(), expected_score.isnan())


def test_matrices_are_kept_for_good(device: ModuleType) -> None:
    """A captured graph may read them whenever it is replayed."""
    first = scoring_cuda._matrix(3, 9, 1.0, torch.device("cpu"))
    for size in range(1, 300):
        scoring_cuda._matrix(2, size, 1.0, torch.device("cpu"))
    assert scoring_cuda._matrix(3, 9, 1.0, torch.device("cpu")) is first


def test_a_matrix_that_is_missing_in_a_capture_is_asked_for(
    device: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring_cuda.resample, "capturing", lambda device: True)
    with pytest.raises(RuntimeError, match="call once with these sizes before a CUDA graph is captured"):
        scoring_cuda._matrix(3, 1009, 1.0, torch.device("cpu"))


@pytest.mark.parametrize(
    "values",
    [[-3.0, -2.0], [-3.0, 2.0, 1.0], [-0.0, -1.0], [0.0], [math.inf], [-math.inf], [math.nan] + 99 * [-1.0]],
)
def test_score_of_any_map(values: list[float], device: ModuleType) -> None:
    """The kernel alone takes maps below 0, too."""
    value = torch.tensor(values).view(1, 1, -1)
    anomaly, score = blended(value, (1, len(values)), 0.0)
    expected = anomaly.max()
    assert torch.equal(expected.nan_to_num(), value.max().nan_to_num())
    assert torch.equal(score[0].isnan(), expected.isnan())
    assert torch.equal(score[0].nan_to_num(), expected.nan_to_num())


def table(values: Tensor, size: tuple[int, int], sigma: float) -> list[Any]:
    return list(scoring_cuda._level(view(values), size, sigma, 1.0, values.device))


def blended(values: Tensor, size: tuple[int, int], sigma: float) -> tuple[Tensor, Tensor]:
    """``values`` [B,h,w] as one level, without a distance."""
    anomaly, score = (
        torch.empty(values.shape[0], *size),
        torch.full((values.shape[0],), -1, dtype=torch.int32),
    )
    score = score.view(torch.float32)
    given = [tuple(table(values, size, sigma))]
    devices.native.cuda_blend_levels(given, False, view(anomaly), view(score), 0)
    return anomaly, score


def test_within_bounds_whatever_the_matrices_hold(device: ModuleType) -> None:
    values, size = torch.rand(1, 70, 50), (90, 100)
    anomaly, score = torch.empty(1, *size), torch.zeros(1)
    level = table(values, size, 2.0)
    for junk in (-(2**62), -5, 60, 2**62):
        for place in (1, 3, 5):  # the starts of rows, of their blocks, and of columns
            starts = torch.full(level[place][2], junk, dtype=torch.int64)
            changed = (*level[:place], view(starts), *level[place + 1 :])
            devices.native.cuda_blend_levels([changed], False, view(anomaly), view(score), 0)
    assert device.statistics()[0] == 12  # AddressSanitizer has seen them


def test_guards_of_memory(device: ModuleType) -> None:
    values, size = torch.rand(2, 6, 5), (40, 33)
    level = table(values, size, 2.0)
    blocks = blur.column_blocks(6, 40, 2.0)[1]
    other = torch.zeros(9, dtype=torch.int64)
    cases: list[tuple[int, Any]] = [
        (0, view(values[:1])),
        (0, view(values.double())),
        (1, view(other)),
        (2, 7),
        (2, -1),
        (3, view(other)),
        (4, view(blocks[:1])),
        (4, view(blocks[..., :31].contiguous())),
        (4, view(torch.zeros(blocks.numel() + 1)[1:].view(blocks.shape))),
        (4, view(torch.zeros(2, 7, 32))),
        (5, view(other.int().double())),
        (6, view(torch.zeros(2, 6, 32))),
    ]
    anomaly, score = torch.empty(2, *size), torch.empty(2)
    for place, changed in cases:
        given = (*level[:place], changed, *level[place + 1 :])
        with pytest.raises(ValueError, match="do not fit"):
            device.cuda_blend_levels([given], False, view(anomaly), view(score), 0)
    for result, scores in (
        (anomaly[:1], NO_TENSOR),
        (anomaly, view(score[:1])),
        (anomaly.double(), NO_TENSOR),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            device.cuda_blend_levels([tuple(level)], False, view(result), scores, 0)


@pytest.mark.parametrize("shape", [(1, 20, 20), (1, 70, 80), (1, 20, 80)])
def test_no_barrier_is_superfluous(
    shape: tuple[int, ...], emulated: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "native", emulated)
    torch.manual_seed(0)
    values, size = torch.rand(shape), (40, 40)
    expected, _ = blended(values, size, 30.0)

    def is_right() -> bool:
        return torch.equal(blended(values, size, 30.0)[0], expected)

    assert superfluous_barriers(emulated, is_right) == []
