"""cosine_distance's kernels: which path is taken, guards, barriers. Values: tests/scoring."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from support.scoring_cases import DTYPES, PATHS, apart, inputs, superfluous_barriers
from support.scoring_oracle import oracle_distance
from torch import Tensor

import thfr_ext
from thfr_ext.core import devices
from thfr_ext.core.tensors import NO_TENSOR, view
from thfr_ext.scoring.cuda import cosine_distance


def launched(device: ModuleType, x: Tensor, y: Tensor) -> tuple[int, int]:
    """Launches and barriers of a distance, which is right."""
    device.statistics()
    distance = cosine_distance(x, y, 1e-8)
    error = np.abs(distance.numpy() - oracle_distance(x, y)).max()
    assert error <= (1e-13 if x.dtype == torch.float64 else 1e-6)
    launches, barriers = device.statistics()
    return launches, barriers


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", PATHS)
def test_paths_are_taken(layout: str, dtype: torch.dtype, device: ModuleType) -> None:
    """Told apart by their barriers: the strided path takes two rounds here, that of channels has no slots."""
    barriers = {"planes": 3, "channels": 2, "strided": 5}[PATHS[layout]]
    assert launched(device, *inputs("random", (2, 520, 8, 8), dtype, layout)) == (1, barriers)
    assert launched(device, *inputs("random", (2, 521, 7, 7), dtype, layout)) == (1, 5)


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("dim", range(4))
def test_strides_that_are_no_vectors(layout: str, dim: int, device: ModuleType) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x, y = inputs("random", (2, 520, 8, 8), dtype, layout)
        for pair in ((apart(x, dim), y), (x, apart(y, dim))):
            assert launched(device, *pair) == (1, 5)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (0, 0, 0, 0)])
def test_no_location_is_no_launch(shape: tuple[int, ...], device: ModuleType) -> None:
    cosine_distance(torch.zeros(shape), torch.zeros(shape), 1e-8)
    assert device.statistics()[0] == 0


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "misaligned"])
def test_order_does_not_matter(layout: str, device: ModuleType) -> None:
    x, y = inputs("skewed", (3, 72, 4, 10), torch.float32, layout)
    expected = cosine_distance(x, y, 1e-8)
    for seed in range(4):
        device.set_options(seed=seed)
        assert torch.equal(cosine_distance(x, y, 1e-8), expected)


def test_levels_of_all_kinds_at_once(device: ModuleType) -> None:
    """Eleven of fp32 and two of other types, of all paths: two launches, and one for each other type."""
    shapes = [(2, 8, 4, 8), (2, 72, 8, 8), (2, 3, 5, 5), (2, 16, 1, 1), (2, 0, 2, 2), (2, 40, 16, 16)]
    layouts = ["contiguous", "channels last", "misaligned", "spaced"]
    kinds = [(torch.float32, shapes[k % 6], layouts[k % 4]) for k in range(11)]
    kinds += [(torch.float64, shapes[0], "contiguous"), (torch.bfloat16, shapes[1], "channels last")]
    pairs = [inputs("random", shape, dtype, layout) for dtype, shape, layout in kinds]
    distances = [torch.empty(2, *x.shape[2:], dtype=torch.float32) for x, _ in pairs]
    scores = torch.empty(2)
    tables = [(view(x), view(y), view(d)) for (x, y), d in zip(pairs, distances, strict=True)]
    devices.native.cuda_cosine_distances(tables, 1e-8, view(scores), 0)
    assert device.statistics()[0] == 4
    for (x, y), distance in zip(pairs, distances, strict=True):
        assert np.abs(distance.numpy() - oracle_distance(x, y)).max() <= 1e-6
    assert bool((scores.view(torch.int32) == -1).all())


X, D = torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5)


@pytest.mark.parametrize(
    ("level", "scores"),
    [
        ((X, X[:, :2], D), None),
        ((X, X.double(), D), None),
        ((X, X, D[:1]), None),
        ((X, X, D.double()), None),
        ((X, X, D.transpose(1, 2)), None),
        ((X, X, D), torch.zeros(3)),
        ((X, X, D), torch.zeros(2, dtype=torch.float64)),
    ],
)
def test_guards_of_memory(level: tuple[Tensor, ...], scores: Tensor | None, emulated: ModuleType) -> None:
    given: Any = tuple(view(t) for t in level)
    with pytest.raises(ValueError, match="do not fit"):
        emulated.cuda_cosine_distances([given], 1e-8, NO_TENSOR if scores is None else view(scores), 0)


@pytest.mark.parametrize(
    ("layout", "channels", "unseen"),
    [("contiguous", 2056, [0]), ("misaligned", 520, [0]), ("channels last", 24, [])],
)
def test_no_barrier_is_superfluous(
    layout: str, channels: int, unseen: list[int], emulated: ModuleType
) -> None:
    """Without the first one the junk of new shared memory is summed, which is out of range: the location is
    summed again, rightly. It is the same as the third, that of the second round."""
    x, y = inputs("random", (1, channels, 2, 8), torch.float32, layout)
    x[0, :, 1, 5] *= 1e-30  # summed again, by a warp other than the one that finds it
    expected, distance = thfr_ext.cosine_distance(x, y), torch.empty(1, 2, 8)

    def is_right() -> bool:
        distance.fill_(torch.nan)
        emulated.cuda_cosine_distances([(view(x), view(y), view(distance))], 1e-8, NO_TENSOR, 0)
        return bool((distance - expected).abs().max() <= 1e-6)

    assert superfluous_barriers(emulated, is_right) == unseen
