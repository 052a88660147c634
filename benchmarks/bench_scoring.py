"""Scoring at WideResNet50's shapes for 256x256 images, batch 8: thfr_ext, PyTorch, a copy of the same bytes.

    pytest benchmarks/bench_scoring.py --benchmark-json=FILE

A copy reads each byte once, as scoring must, and writes it; a sum reads only: scoring cannot be faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, cosine_similarity, interpolate, pad

import thfr_ext
from thfr_ext._blur import gaussian_taps

BATCH, SIZE, SIGMA = 8, (256, 256), 4.0
SHAPES = ((BATCH, 256, 64, 64), (BATCH, 512, 32, 32), (BATCH, 1024, 16, 16))
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

Levels = tuple[list[Tensor], list[Tensor]]


@pytest.fixture(
    scope="module", params=[(d, k) for d in (torch.float32, torch.bfloat16) for k in LAYOUTS], ids=str
)
def levels(request: pytest.FixtureRequest) -> Levels:
    dtype, layout = request.param
    torch.manual_seed(0)
    features, restored = (
        [torch.randn(s).to(dtype).contiguous(memory_format=LAYOUTS[layout]) for s in SHAPES] for _ in range(2)
    )
    return features, restored


def eager_map(features: list[Tensor], restored: list[Tensor]) -> tuple[Tensor, Tensor]:
    """What one would write in PyTorch: whole maps of each level, then two one-dimensional convolutions."""
    total = torch.zeros(BATCH, 1, *SIZE)
    for x, y in zip(features, restored, strict=True):
        distance = 1 - cosine_similarity(x, y).float()
        total += interpolate(distance[:, None], SIZE, mode="bilinear", align_corners=False)
    taps = torch.from_numpy(gaussian_taps(SIGMA)).float()
    radius = len(taps) // 2
    mirrored = pad(
        total, (radius,) * 4, mode="reflect"
    )  # close enough for a clock: it skips the border pixel
    blurred = conv2d(conv2d(mirrored, taps.reshape(1, 1, 1, -1)), taps.reshape(1, 1, -1, 1))[:, 0]
    return blurred, blurred.amax((1, 2))


def eager_gradient(features: list[Tensor], restored: list[Tensor]) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in restored]
    loss = sum((1 - cosine_similarity(x, y)).float().mean() for x, y in zip(features, leaves, strict=True))
    return list(torch.autograd.grad(loss, leaves))  # type: ignore[arg-type]


def native_gradient(features: list[Tensor], restored: list[Tensor]) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in restored]
    loss = sum(thfr_ext.cosine_distance(x, y).mean() for x, y in zip(features, leaves, strict=True))
    return list(torch.autograd.grad(loss, leaves))  # type: ignore[arg-type]


TASKS: dict[str, Callable[[list[Tensor], list[Tensor]], Any]] = {
    "distance": lambda f, r: [thfr_ext.cosine_distance(x, y) for x, y in zip(f, r, strict=True)],
    "distance_eager": lambda f, r: [1 - cosine_similarity(x, y) for x, y in zip(f, r, strict=True)],
    "map": lambda f, r: thfr_ext.anomaly_map(f, r, SIZE, SIGMA),
    "map_eager": eager_map,
    "train": native_gradient,
    "train_eager": eager_gradient,
    "floor_sum": lambda f, r: [t.sum() for t in f + r],
    "floor_copy": lambda f, r: [t.clone() for t in f + r],
}


@pytest.mark.parametrize("task", TASKS)
def test_scoring(benchmark: Any, levels: Levels, task: str) -> None:
    features, restored = levels
    benchmark.extra_info["threads"] = torch.get_num_threads()
    benchmark.extra_info["bytes_read"] = sum(t.numel() * t.element_size() for t in features + restored)
    benchmark.pedantic(TASKS[task], (features, restored), rounds=7, warmup_rounds=2)
