"""The gradient of cosine_distance on the emulator: every path against autograd in fp64."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from support.scoring_cases import CASES, DTYPES, PATHS, inputs, laid_out, superfluous_barriers
from support.scoring_oracle import gradient_error, oracle_gradients
from torch import Tensor

from thfr_ext import reference
from thfr_ext.core.tensors import NO_TENSOR, view
from thfr_ext.scoring.cuda import cosine_distance_backward

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}
CPU = torch.ops.thfr_ext.cosine_distance_backward
LAYOUTS = ["contiguous", "channels last", "misaligned"]


def incoming(x: Tensor) -> Tensor:
    """Of either sign, none near 0: what comes out shall not be subnormal in fp16."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    grad = torch.rand(x.shape[0], *x.shape[2:], dtype=dtype) - 0.5
    return grad + 0.5 * grad.sign()


def check(x: Tensor, y: Tensor, eps: float = 1e-8) -> None:
    grad = incoming(x)
    found = cosine_distance_backward(grad, x, y, eps, True, True)
    for result, leaf, expected in zip(found, (x, y), oracle_gradients(grad, x, y, eps), strict=True):
        assert result.dtype == leaf.dtype
        assert result.stride() == torch.empty_like(leaf).stride()
        assert gradient_error(result, expected) <= TOLERANCE[x.dtype]


SHAPES = [
    (2, 24, 4, 6),
    (1, 5, 1, 1),
    (1, 8, 1, 128),
    (1, 16, 1, 136),
    (2, 520, 2, 4),
    (3, 7, 5, 11),
    (1, 72, 16, 16),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", PATHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient(shape: tuple[int, ...], layout: str, dtype: torch.dtype, device: ModuleType) -> None:
    check(*inputs("random", shape, dtype, layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_extremes(case: str, layout: str, device: ModuleType) -> None:
    x, y = inputs(case, (2, 40, 4, 6), torch.float32, layout)
    grad = torch.randn(2, 4, 6)
    got = cosine_distance_backward(grad, x, y, 1e-8, True, True)
    exact = reference.cosine_distance_backward(grad.double(), x.double(), y.double(), 1e-8, True, True)
    x_norm, y_norm = x.double().norm(dim=1), y.double().norm(dim=1)
    for found, expected, own, other in zip(got, exact, (x_norm, y_norm), (y_norm, x_norm), strict=True):
        assert bool(found.isfinite().all())
        # The longest a location's gradient can be; equal vectors have none, what is found is rounding.
        longest = grad.double().abs() * torch.minimum(1 / own, other / 1e-8)
        error = (found.double() - expected).abs().amax(1)
        assert bool((error <= 2e-6 * longest + torch.finfo(torch.float32).tiny).all())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("x_power", "y_power", "eps"), [(600, -700, 0.0), (530, -530, 24.0), (-480, 480, 24.0)]
)
def test_fp64_of_any_magnitude(
    x_power: int, y_power: int, eps: float, layout: str, device: ModuleType
) -> None:
    x, y = inputs("random", (1, 24, 2, 8), torch.float64, layout)
    grad, x_scale, y_scale = incoming(x), 2.0**x_power, 2.0**y_power
    one = cosine_distance_backward(grad, x, y, eps, True, True)
    scaled = cosine_distance_backward(grad, x * x_scale, y * y_scale, eps, True, True)
    assert gradient_error(scaled[0] * x_scale, one[0]) <= 1e-13
    assert gradient_error(scaled[1] * y_scale, one[1]) <= 1e-13


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30, 0.0])
def test_large_and_small_incoming_gradients(scale: float, device: ModuleType) -> None:
    x, y = inputs("random", (1, 24, 2, 8), torch.float32, "contiguous")
    grad = torch.randn(1, 2, 8) * scale
    got = cosine_distance_backward(grad, x, y, 1e-8, True, True)
    for found, expected in zip(got, oracle_gradients(grad, x, y), strict=True):
        assert gradient_error(found, expected) <= 2e-6


@pytest.mark.parametrize(("x_scale", "y_scale", "scale"), [(1e-8, 1e14, 1e-36), (1e2, 1e-8, 1e37)])
def test_factors_out_of_range(x_scale: float, y_scale: float, scale: float, device: ModuleType) -> None:
    """A gradient over both norms is subnormal or infinite in fp32, the result is neither."""
    x, y = inputs("random", (1, 24, 2, 8), torch.float32, "contiguous")
    x, y, grad = x * x_scale, y * y_scale, incoming(x) * scale
    found, _ = cosine_distance_backward(grad, x, y, 0.0, True, False)
    assert gradient_error(found, oracle_gradients(grad, x, y, 0.0)[0]) <= 2e-6


@pytest.mark.parametrize("eps", [0.0, 30.0, 1e3])
def test_eps(eps: float, device: ModuleType) -> None:
    """Locations on either side of the bound, and none below it."""
    for dtype in (torch.float32, torch.float64):
        check(*inputs("random", (1, 32, 4, 8), dtype, "contiguous"), eps)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_vectors_have_no_gradient(dtype: torch.dtype, layout: str, device: ModuleType) -> None:
    x, y = inputs("random", (1, 8, 2, 8), dtype, layout)
    x[..., 0] = 0
    y[..., 1] = 0
    x[..., 2] = y[..., 2] = 0
    for found in cosine_distance_backward(incoming(x), x, y, 1e-8, True, True):
        assert bool((found[..., :3] == 0).all())
        assert bool((found[..., 3] != 0).any())


@pytest.mark.parametrize("layout", PATHS)
def test_not_finite_spoils_its_location_only(layout: str, device: ModuleType) -> None:
    for bad in (torch.nan, torch.inf):
        x, y = inputs("random", (2, 24, 2, 8), torch.float32, "contiguous")
        x[1, 7, 1, 5] = bad
        grad = incoming(x)
        got = cosine_distance_backward(grad, laid_out(x, layout), laid_out(y, layout), 1e-8, True, True)
        for found, expected in zip(got, CPU(grad, x, y, 1e-8, True, True), strict=True):
            assert torch.equal(found.isnan(), expected.isnan())
            assert (found - expected).nan_to_num().abs().max() <= 1e-6
            assert int(found.isnan().any(1).sum()) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_computes_what_is_needed_only(layout: str, device: ModuleType) -> None:
    x, y = inputs("zero vectors", (2, 24, 4, 8), torch.float32, layout)
    grad = torch.ones(1).expand(2, 4, 8)  # an incoming gradient of stride 0
    both = cosine_distance_backward(grad, x, y, 1e-8, True, True)
    first, nothing = cosine_distance_backward(grad, x, y, 1e-8, True, False)
    assert torch.equal(first, both[0])
    assert nothing.numel() == 0
    nothing, second = cosine_distance_backward(grad, x, y, 1e-8, False, True)
    assert torch.equal(second, both[1])
    assert nothing.numel() == 0
    assert device.statistics()[0] == 3
    cosine_distance_backward(grad, x, y, 1e-8, False, False)
    assert device.statistics()[0] == 0


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 0, 4, 5)])
def test_empty(shape: tuple[int, ...], device: ModuleType) -> None:
    x = torch.zeros(shape)
    for found in cosine_distance_backward(incoming(x), x, x, 1e-8, True, True):
        assert found.shape == shape


@pytest.mark.parametrize("layout", LAYOUTS)
def test_batch_and_order_do_not_matter(layout: str, device: ModuleType) -> None:
    x, y = inputs("mixed magnitudes", (3, 40, 4, 10), torch.float32, layout)
    grad = incoming(x)
    together = cosine_distance_backward(grad, x, y, 1e-8, True, True)
    for b in range(3):
        part = (laid_out(t[b : b + 1].contiguous(), layout) for t in (x, y))
        alone = cosine_distance_backward(grad[b : b + 1], *part, 1e-8, True, True)
        assert all(torch.equal(a[0], t[b]) for a, t in zip(alone, together, strict=True))
    for seed in range(4):
        device.set_options(seed=seed)
        again = cosine_distance_backward(grad, x, y, 1e-8, True, True)
        assert all(torch.equal(a, b) for a, b in zip(again, together, strict=True))


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
            check(x, laid_out(y, other))
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
