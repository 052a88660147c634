"""The kernels of cosine_distance's gradient: which path is taken, guards, barriers. Values: tests/scoring."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from support.scoring_cases import DTYPES, PATHS, inputs, laid_out, superfluous_barriers
from support.scoring_oracle import gradient_error
from torch import Tensor

from thfr_ext.core.tensors import NO_TENSOR, view
from thfr_ext.scoring.cuda import cosine_distance_backward

CPU = torch.ops.thfr_ext.cosine_distance_backward
LAYOUTS = ["contiguous", "channels last", "misaligned"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_order_does_not_matter(layout: str, device: ModuleType) -> None:
    x, y = inputs("mixed magnitudes", (3, 40, 4, 10), torch.float32, layout)
    given = (torch.randn(3, 4, 10), x, y, 1e-8, True, True)
    expected = cosine_distance_backward(*given)
    for seed in range(4):
        device.set_options(seed=seed)
        for found, first in zip(cosine_distance_backward(*given), expected, strict=True):
            assert torch.equal(found, first)


def test_nothing_needed_is_no_launch(device: ModuleType) -> None:
    x, y = inputs("random", (2, 24, 4, 8), torch.float32, "contiguous")
    cosine_distance_backward(torch.ones(2, 4, 8), x, y, 1e-8, False, False)
    assert device.statistics()[0] == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_paths_are_taken(layout: str, device: ModuleType) -> None:
    """Of all four tensors: one of another layout and none has vectors."""
    for dtype in DTYPES:
        x, y = inputs("random", (2, 520, 8, 8), dtype, layout)
        for other, barriers in (
            (layout, {"planes": 3, "channels": 2, "strided": 5}[PATHS[layout]]),
            ("spaced", 5),
        ):
            device.statistics()
            grad = torch.ones(2, 8, 8, dtype=torch.promote_types(dtype, torch.float32))
            cosine_distance_backward(grad, x, laid_out(y, other), 1e-8, True, True)
            assert device.statistics() == (1, barriers)


X, G = torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5)


@pytest.mark.parametrize(
    "tensors", [(G[:1], X, X, X, X), (G, X, X[:1], X, X), (G, X, X, X[:, :2], X), (G, X, X, X, X.half())]
)
def test_guards_of_memory(tensors: tuple[Tensor, ...], emulated: ModuleType) -> None:
    g, x, y, grad_x, grad_y = (view(t) for t in tensors)
    with pytest.raises(ValueError, match="do not fit"):
        emulated.cuda_cosine_distance_backward(g, x, y, 1e-8, grad_x, grad_y, 0)


@pytest.mark.parametrize(
    ("layout", "channels", "unseen"),
    [("contiguous", 2056, [0, 5]), ("misaligned", 520, [0, 5]), ("channels last", 24, [2])],
)
def test_no_barrier_is_superfluous(
    layout: str, channels: int, unseen: list[int], emulated: ModuleType
) -> None:
    """The first is as forward: what is summed without it is out of range, and so made good. The last keeps
    the gradients that are made anew behind the others' first ones: here a warp that makes one anew has met in
    so many shuffles before it writes that all other threads have long gone by."""
    x, y = inputs("random", (1, channels, 2, 8), torch.float32, layout)
    x[0, :, 1, 5] *= 1e25  # the first ones are NaN
    grad = torch.ones(1, 2, 8)
    expected = CPU(grad, x, y, 1e-8, False, True)[1]
    found = torch.empty_like(y)

    def is_right() -> bool:
        found.fill_(torch.nan)
        emulated.cuda_cosine_distance_backward(view(grad), view(x), view(y), 1e-8, NO_TENSOR, view(found), 0)
        return gradient_error(found, expected) <= 2e-6

    assert superfluous_barriers(emulated, is_right) == unseen
