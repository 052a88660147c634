"""The gradient of cosine_distance: on every device, in every mode of torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.device import Device
from support.scoring_cases import CASES, DTYPES, PATHS, inputs, laid_out
from support.scoring_oracle import gradient_error, oracle_gradients
from torch import Tensor
from torch.autograd import forward_ad

import thfr_ext
from thfr_ext import reference

CPU = torch.ops.thfr_ext.cosine_distance_backward
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}
LAYOUTS = ["contiguous", "channels last", "misaligned"]


def incoming(x: Tensor) -> Tensor:
    """Of either sign, none near 0: what comes out shall not be subnormal in fp16."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    grad = torch.rand(x.shape[0], *x.shape[2:], dtype=dtype) - 0.5
    return grad + 0.5 * grad.sign()


def check(device: Device, x: Tensor, y: Tensor, eps: float = 1e-8) -> None:
    grad = incoming(x)
    found = device.cosine_distance_backward(grad, x, y, eps, True, True)
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
    (2, 70, 9, 13),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", PATHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient(shape: tuple[int, ...], layout: str, dtype: torch.dtype, device: Device) -> None:
    check(device, *inputs("random", shape, dtype, layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_extremes(case: str, layout: str, device: Device) -> None:
    x, y = inputs(case, (2, 40, 4, 6), torch.float32, layout)
    grad = torch.randn(2, 4, 6)
    got = device.cosine_distance_backward(grad, x, y, 1e-8, True, True)
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
def test_fp64_of_any_magnitude(x_power: int, y_power: int, eps: float, layout: str, device: Device) -> None:
    x, y = inputs("random", (1, 24, 2, 8), torch.float64, layout)
    grad, x_scale, y_scale = incoming(x), 2.0**x_power, 2.0**y_power
    one = device.cosine_distance_backward(grad, x, y, eps, True, True)
    scaled = device.cosine_distance_backward(grad, x * x_scale, y * y_scale, eps, True, True)
    assert gradient_error(scaled[0] * x_scale, one[0]) <= 1e-13
    assert gradient_error(scaled[1] * y_scale, one[1]) <= 1e-13


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30, 0.0])
def test_large_and_small_incoming_gradients(scale: float, device: Device) -> None:
    x, y = inputs("random", (1, 24, 2, 8), torch.float32, "contiguous")
    grad = torch.randn(1, 2, 8) * scale
    got = device.cosine_distance_backward(grad, x, y, 1e-8, True, True)
    for found, expected in zip(got, oracle_gradients(grad, x, y), strict=True):
        assert gradient_error(found, expected) <= 2e-6


@pytest.mark.parametrize(("x_scale", "y_scale", "scale"), [(1e-8, 1e14, 1e-36), (1e2, 1e-8, 1e37)])
def test_factors_out_of_range(x_scale: float, y_scale: float, scale: float, device: Device) -> None:
    """A gradient over both norms is subnormal or infinite in fp32, the result is neither."""
    x, y = inputs("random", (1, 24, 2, 8), torch.float32, "contiguous")
    x, y, grad = x * x_scale, y * y_scale, incoming(x) * scale
    found, _ = device.cosine_distance_backward(grad, x, y, 0.0, True, False)
    assert gradient_error(found, oracle_gradients(grad, x, y, 0.0)[0]) <= 2e-6


@pytest.mark.parametrize("eps", [0.0, 30.0, 1e3])
def test_eps(eps: float, device: Device) -> None:
    """Locations on either side of the bound, and none below it."""
    for dtype in (torch.float32, torch.float64):
        check(device, *inputs("random", (1, 32, 4, 8), dtype, "contiguous"), eps)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_vectors_have_no_gradient(dtype: torch.dtype, layout: str, device: Device) -> None:
    x, y = inputs("random", (1, 8, 2, 8), dtype, layout)
    x[..., 0] = 0
    y[..., 1] = 0
    x[..., 2] = y[..., 2] = 0
    for found in device.cosine_distance_backward(incoming(x), x, y, 1e-8, True, True):
        assert bool((found[..., :3] == 0).all())
        assert bool((found[..., 3] != 0).any())


@pytest.mark.parametrize("layout", PATHS)
def test_not_finite_spoils_its_location_only(layout: str, device: Device) -> None:
    for bad in (torch.nan, torch.inf):
        x, y = inputs("random", (2, 24, 2, 8), torch.float32, "contiguous")
        x[1, 7, 1, 5] = bad
        grad = incoming(x)
        got = device.cosine_distance_backward(
            grad, laid_out(x, layout), laid_out(y, layout), 1e-8, True, True
        )
        for found, expected in zip(got, CPU(grad, x, y, 1e-8, True, True), strict=True):
            assert torch.equal(found.isnan(), expected.isnan())
            assert (found - expected).nan_to_num().abs().max() <= 1e-6
            assert int(found.isnan().any(1).sum()) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_computes_what_is_needed_only(layout: str, device: Device) -> None:
    x, y = inputs("zero vectors", (2, 24, 4, 8), torch.float32, layout)
    grad = torch.ones(1).expand(2, 4, 8)  # an incoming gradient of stride 0
    both = device.cosine_distance_backward(grad, x, y, 1e-8, True, True)
    first, nothing = device.cosine_distance_backward(grad, x, y, 1e-8, True, False)
    assert torch.equal(first, both[0])
    assert nothing.numel() == 0
    nothing, second = device.cosine_distance_backward(grad, x, y, 1e-8, False, True)
    assert torch.equal(second, both[1])
    assert nothing.numel() == 0


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 0, 4, 5)])
def test_empty(shape: tuple[int, ...], device: Device) -> None:
    x = torch.zeros(shape)
    for found in device.cosine_distance_backward(incoming(x), x, x, 1e-8, True, True):
        assert found.shape == shape


@pytest.mark.parametrize("layout", LAYOUTS)
def test_batch_does_not_matter(layout: str, device: Device) -> None:
    x, y = inputs("mixed magnitudes", (3, 40, 4, 10), torch.float32, layout)
    grad = incoming(x)
    together = device.cosine_distance_backward(grad, x, y, 1e-8, True, True)
    for b in range(3):
        part = (laid_out(t[b : b + 1].contiguous(), layout) for t in (x, y))
        alone = device.cosine_distance_backward(grad[b : b + 1], *part, 1e-8, True, True)
        assert all(torch.equal(a[0], t[b]) for a, t in zip(alone, together, strict=True))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(2, 70, 9, 13), (2, 300, 17, 30), (0, 3, 4, 5), (2, 0, 3, 4)])
def test_autograd(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x, y = (torch.randn(shape).to(dtype).requires_grad_() for _ in range(2))
    distance = thfr_ext.cosine_distance(x, y)
    distance.sum().backward()  # an incoming gradient of stride 0
    expected = CPU(torch.ones_like(distance), x.detach(), y.detach(), 1e-8, True, True)
    for leaf, gradient in zip((x, y), expected, strict=True):
        assert leaf.grad is not None
        assert leaf.grad.dtype == dtype
        assert torch.equal(leaf.grad, gradient)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradcheck(memory_format: torch.memory_format) -> None:
    torch.manual_seed(1)
    x, y = (
        torch.randn(2, 5, 3, 4, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
        for _ in range(2)
    )
    assert torch.autograd.gradcheck(thfr_ext.cosine_distance, (x, y))
    assert torch.autograd.gradcheck(
        lambda a, b: thfr_ext.cosine_distance(a, b, eps=1e3), (x, y)
    )  # bounded norms


def test_second_derivative_is_refused() -> None:
    x, y = torch.randn(1, 3, 2, 2, requires_grad=True), torch.randn(1, 3, 2, 2)
    (first,) = torch.autograd.grad(thfr_ext.cosine_distance(x, y).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match=r"^cosine_distance: the second derivative"):
        first.sum().backward()


def _plain(x: Tensor, y: Tensor) -> Tensor:
    return 1 - torch.nn.functional.cosine_similarity(x, y, dim=1)


def _dual(distance: Any, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    with forward_ad.dual_level():
        found: Tensor = forward_ad.unpack_dual(distance(forward_ad.make_dual(x, t), y)).tangent
        return found


TRANSFORMS: dict[str, Any] = {
    "jvp": lambda f, x, y, t: torch.func.jvp(f, (x, y), (t, t))[1],
    "dual": _dual,
    "linearize": lambda f, x, y, t: torch.func.linearize(lambda a: f(a, y), x)[1](t),
    "jacfwd": lambda f, x, y, t: torch.func.jacfwd(lambda a: f(x, a))(y),
    "jacrev": lambda f, x, y, t: torch.func.jacrev(lambda a: f(a, y))(x),
    "grad": lambda f, x, y, t: torch.func.grad(lambda a: f(a, y).square().sum())(x),
    "vmap": lambda f, x, y, t: torch.vmap(f, in_dims=(0, None))(torch.stack([x, t]), y),
    "vmap of grad": lambda f, x, y, t: torch.vmap(torch.func.grad(lambda a: f(a, y).sum()))(
        torch.stack([x, t], 1).movedim(1, 0)
    ),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_forward_mode_and_transforms(transform: str) -> None:
    torch.manual_seed(4)
    x, y, t = (torch.randn(2, 5, 3, 4, dtype=torch.float64) for _ in range(3))
    found = TRANSFORMS[transform](thfr_ext.cosine_distance, x, y, t)
    torch.testing.assert_close(found, TRANSFORMS[transform](_plain, x, y, t))


def test_what_has_no_derivative_says_so_in_every_mode() -> None:
    x, y = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    with pytest.raises(NotImplementedError, match=r"^cosine_distance: the second derivative"):
        torch.func.hessian(lambda a: thfr_ext.cosine_distance(a, y).sum())(x)
    for function in (
        lambda a: thfr_ext.anomaly_map([a], [y], (8, 8))[0].sum(),
        lambda a: thfr_ext.upsample_blur([a[:, 0]], (8, 8))[0].sum(),
    ):
        with pytest.raises(NotImplementedError, match="not differentiable"):
            torch.func.grad(function)(x)
        with pytest.raises(NotImplementedError, match="not differentiable"):
            torch.func.jvp(function, (x,), (y,))


def test_descent_brings_the_vectors_together() -> None:
    torch.manual_seed(3)
    target, moving = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4, requires_grad=True)
    before = float(thfr_ext.cosine_distance(target, moving.detach()).mean())
    for _ in range(100):
        (grad,) = torch.autograd.grad(thfr_ext.cosine_distance(target, moving).sum(), moving)
        moving = (moving - grad).detach().requires_grad_()
    assert float(thfr_ext.cosine_distance(target, moving.detach()).mean()) < 0.01 * before
