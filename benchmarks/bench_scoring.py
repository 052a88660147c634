"""Scoring at WideResNet50's shapes for 256x256 images, batch 8: thfr_ext, PyTorch, a copy of the same bytes.

python benchmarks/run.py scoring, or pytest benchmarks/bench_scoring.py --benchmark-only

A copy reads each byte once, as scoring must, and writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import harness
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, cosine_similarity, interpolate, pad

import thfr_ext
from thfr_ext.scoring.blur import gaussian_taps

BATCH, SIZE, SIGMA = 8, (256, 256), 4.0
SHAPES = ((BATCH, 256, 64, 64), (BATCH, 512, 32, 32), (BATCH, 1024, 16, 16))
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
TAPS = torch.from_numpy(gaussian_taps(SIGMA)).float()
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Levels = tuple[list[Tensor], list[Tensor]]


def make_levels(dtype: str, layout: str) -> Levels:
    torch.manual_seed(0)
    features, restored = (
        [torch.randn(s).to(DTYPES[dtype]).contiguous(memory_format=LAYOUTS[layout]) for s in SHAPES]
        for _ in range(2)
    )
    return features, restored


def eager_map(features: list[Tensor], restored: list[Tensor], taps: Tensor = TAPS) -> tuple[Tensor, Tensor]:
    """What one would write in PyTorch: whole maps of each level, then two one-dimensional convolutions."""
    total = features[0].new_zeros((len(features[0]), 1, *SIZE), dtype=torch.float32)
    for x, y in zip(features, restored, strict=True):
        distance = 1 - cosine_similarity(x, y).float()
        total += interpolate(distance[:, None], SIZE, mode="bilinear", align_corners=False)
    radius = len(taps) // 2
    # close enough for a clock: "reflect" of PyTorch skips the border pixel
    mirrored = pad(total, (radius,) * 4, mode="reflect")
    blurred = conv2d(conv2d(mirrored, taps.reshape(1, 1, 1, -1)), taps.reshape(1, 1, -1, 1))[:, 0]
    return blurred, blurred.amax((1, 2))


def gradient(
    distance: Callable[[Tensor, Tensor], Tensor], features: list[Tensor], restored: list[Tensor]
) -> Any:
    leaves = [t.detach().requires_grad_() for t in restored]
    loss = sum(distance(x, y).mean() for x, y in zip(features, leaves, strict=True))
    return torch.autograd.grad(loss, leaves)  # type: ignore[arg-type]


def eager_distance(x: Tensor, y: Tensor) -> Tensor:
    return (1 - cosine_similarity(x, y)).float()


def size_of(levels: Levels) -> int:
    return sum(t.numel() * t.element_size() for side in levels for t in side)


def make_map(dtype: str, layout: str) -> harness.Work:
    levels = make_levels(dtype, layout)
    compiled = torch.compile(eager_map)
    pairs = [(t, torch.empty_like(t)) for side in levels for t in side]
    calls: harness.Contenders = {
        harness.OURS: lambda: thfr_ext.anomaly_map(*levels, SIZE, SIGMA),
        "PyTorch eager": lambda: eager_map(*levels),
        "torch.compile": lambda: compiled(*levels),
        "copy of the bytes": lambda: [to.copy_(t) for t, to in pairs],
    }

    def differences(results: dict[str, Any]) -> dict[str, float]:
        ours, eager = (results[name][0][:, 20:-20, 20:-20] for name in (harness.OURS, "PyTorch eager"))
        return {"PyTorch eager, but for the borders": float((ours - eager).abs().max())}  # see eager_map

    notes = {"copy of the bytes": "a floor, no rival"}
    return harness.Work(calls, size_of(levels), 0, differences, notes=notes)


def make_loss(dtype: str, layout: str) -> harness.Work:
    levels = make_levels(dtype, layout)
    calls: harness.Contenders = {
        harness.OURS: lambda: gradient(thfr_ext.cosine_distance, *levels),
        "PyTorch eager": lambda: gradient(eager_distance, *levels),
    }

    def differences(results: dict[str, Any]) -> dict[str, float]:
        pairs = zip(results[harness.OURS], results["PyTorch eager"], strict=True)
        return {"PyTorch eager": max(float((a - b).abs().max()) for a, b in pairs)}

    return harness.Work(calls, size_of(levels) * 5 // 2, 0, differences)  # read twice, half of it written


def cases() -> list[harness.Case]:
    asked = (("PyTorch eager", 4.0), ("torch.compile", 1.5), ("copy of the bytes", 0.5))
    found = []
    for dtype in ("fp32", "bf16"):
        for layout in LAYOUTS:
            # The plan's targets are for fp32.
            targets = asked if dtype == "fp32" else ()
            found.append(
                harness.Case(f"anomaly_map {dtype} {layout}", partial(make_map, dtype, layout), targets)
            )
            found.append(
                harness.Case(
                    f"loss and gradient {dtype} {layout}",
                    partial(make_loss, dtype, layout),
                    (("PyTorch eager", 2.0),) if dtype == "fp32" else (),
                )
            )
    return found


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_scoring(benchmark: Any, case: harness.Case) -> None:
    harness.bench(benchmark, case)
