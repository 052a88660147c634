"""The gradient of cosine_distance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.scoring_oracle import gradient_error, oracle_gradients
from torch import Tensor
from torch.autograd import forward_ad

import thfr_ext
from thfr_ext import reference

Case = Callable[[tuple[int, ...]], tuple[Tensor, Tensor]]
BACKWARD = torch.ops.thfr_ext.cosine_distance_backward

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}


def channels_last(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(2, 70, 9, 13), (1, 5, 1, 1), (2, 300, 17, 30)])
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "mixed", "transposed"])
def test_gradient(dtype: torch.dtype, shape: tuple[int, ...], layout: str) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    if layout != "contiguous":
        y = channels_last(y)
    if layout == "channels last":
        x = channels_last(x)
    if layout == "transposed":
        x = x.transpose(2, 3).contiguous().transpose(2, 3)
    x.requires_grad_()
    y.requires_grad_()
    distance = thfr_ext.cosine_distance(x, y)
    grad = torch.randn_like(distance)
    distance.backward(grad)
    for leaf, expected in zip((x, y), oracle_gradients(grad, x, y), strict=True):
        assert leaf.grad is not None
        assert leaf.grad.dtype == dtype
        assert leaf.grad.stride() == leaf.stride()
        assert gradient_error(leaf.grad, expected) <= TOLERANCE[dtype]


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


def test_extremes_agree_with_fp64(case: Case) -> None:
    x, y = case((2, 40, 6, 7))
    grad = torch.randn(2, 6, 7)
    got = BACKWARD(grad, x, y, 1e-8, True, True)
    exact = reference.cosine_distance_backward(grad.double(), x.double(), y.double(), 1e-8, True, True)
    x_norm, y_norm = x.double().norm(dim=1), y.double().norm(dim=1)
    for found, expected, own, other in zip(got, exact, (x_norm, y_norm), (y_norm, x_norm), strict=True):
        assert bool(found.isfinite().all())
        # The longest a location's gradient can be; equal vectors have none, what is found is rounding.
        longest = grad.double().abs() * torch.minimum(1 / own, other / 1e-8)
        error = (found.double() - expected).abs().amax(1)
        assert bool((error <= 2e-6 * longest + torch.finfo(torch.float32).tiny).all())


def test_zero_vectors_have_no_gradient() -> None:
    x, y = torch.randn(1, 6, 2, 4), torch.randn(1, 6, 2, 4)
    x[..., 0] = 0
    y[..., 1] = 0
    x[..., 2] = y[..., 2] = 0
    for found in BACKWARD(torch.ones(1, 2, 4), x, y, 1e-8, True, True):
        assert bool((found[..., :3] == 0).all())
        assert bool((found[..., 3] != 0).any())


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_large_and_small_incoming_gradients(scale: float) -> None:
    torch.manual_seed(2)
    x, y, grad = torch.randn(1, 30, 4, 5), torch.randn(1, 30, 4, 5), torch.randn(1, 4, 5) * scale
    for found, expected in zip(
        BACKWARD(grad, x, y, 1e-8, True, True), oracle_gradients(grad, x, y), strict=True
    ):
        assert gradient_error(found, expected) <= 2e-6


def test_computes_what_is_needed_only() -> None:
    x, y, grad = torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2), torch.randn(1, 2, 2)
    both = BACKWARD(grad, x, y, 1e-8, True, True)
    first, nothing = BACKWARD(grad, x, y, 1e-8, True, False)
    assert torch.equal(first, both[0])
    assert nothing.numel() == 0
    nothing, second = BACKWARD(grad, x, y, 1e-8, False, True)
    assert torch.equal(second, both[1])
    assert nothing.numel() == 0
    y.requires_grad_()
    thfr_ext.cosine_distance(x, y).sum().backward()  # an incoming gradient of stride 0
    assert y.grad is not None
    assert x.grad is None


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
