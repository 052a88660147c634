"""cosine_distance: values, layouts, extremes, determinism."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scoring_oracle import LAYOUTS
from torch import Tensor

import thfr_ext
from thfr_ext import reference

Oracle = Callable[..., np.ndarray]
Case = Callable[[tuple[int, ...]], tuple[Tensor, Tensor]]

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6}  # of the result


def tolerance(result: Tensor) -> float:
    return TOLERANCE[result.dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2, 70, 9, 13), (1, 3, 1, 1), (2, 1, 5, 4), (1, 130, 33, 40)])
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_values(
    case: Case, dtype: torch.dtype, shape: tuple[int, ...], layout: str, distance_oracle: Oracle
) -> None:
    x, y = (LAYOUTS[layout](t.to(dtype)) for t in case(shape))
    distance = thfr_ext.cosine_distance(x, y)
    assert distance.dtype == dtype
    assert distance.shape == (shape[0], *shape[2:])
    expected = distance_oracle(x, y)
    assert np.abs(distance.numpy() - expected).max() <= tolerance(distance)
    twin = reference.cosine_distance(x, y)
    assert np.abs(twin.numpy() - expected).max() <= 10 * tolerance(distance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_half_is_accumulated_in_single(dtype: torch.dtype, layout: str, distance_oracle: Oracle) -> None:
    torch.manual_seed(0)
    for scale in (1e-7, 1e-4, 1.0, 1e3):  # fp16: subnormal, ..., squares beyond its largest number
        x, y = (LAYOUTS[layout]((torch.randn(2, 200, 9, 11) * scale).to(dtype)) for _ in range(2))
        distance = thfr_ext.cosine_distance(x, y, eps=0)
        assert distance.dtype == torch.float32
        assert np.abs(distance.numpy() - distance_oracle(x, y, eps=0)).max() <= 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_is_read_as_torch_reads_it(dtype: torch.dtype) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    x = torch.stack([every, torch.ones_like(every)])[None, :, None, :].contiguous()  # [1,2,1,65536]
    y = torch.ones_like(x)
    got, expected = thfr_ext.cosine_distance(x, y), thfr_ext.cosine_distance(x.double(), y.double())
    assert torch.equal(got.isnan(), expected.isnan())
    assert int(got.isnan().sum()) == int((~every.isfinite()).sum())
    assert (got - expected).nan_to_num().abs().max() <= 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", LAYOUTS)
def test_any_strides(dtype: torch.dtype, first: str, second: str) -> None:
    torch.manual_seed(1)
    x, y = torch.randn(2, 67, 5, 7).to(dtype), torch.randn(2, 67, 5, 7).to(dtype)
    expected = thfr_ext.cosine_distance(x, y)
    got = thfr_ext.cosine_distance(LAYOUTS[first](x), LAYOUTS[second](y))
    assert (got - expected).abs().max() <= tolerance(got)


def test_expanded_input() -> None:
    x, y = torch.randn(1, 6, 1, 1).expand(3, 6, 4, 5), torch.randn(3, 6, 4, 5)
    assert torch.allclose(
        thfr_ext.cosine_distance(x, y), thfr_ext.cosine_distance(x.contiguous(), y), atol=1e-6
    )


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_many_channels(layout: str, distance_oracle: Oracle) -> None:
    torch.manual_seed(2)
    x = LAYOUTS[layout](torch.rand(1, 65536, 2, 3) + 1)
    y = LAYOUTS[layout](x + 0.1 * torch.randn(x.shape))
    assert np.abs(thfr_ext.cosine_distance(x, y).numpy() - distance_oracle(x, y)).max() <= 1e-6
    # Equal products all round the same way: the worst for a sum.
    x, y = torch.full_like(x, 0.3), torch.full_like(x, 1.7)
    assert thfr_ext.cosine_distance(x, y).max() <= 1e-6


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (0, 0, 0, 0)])
def test_no_location(shape: tuple[int, ...]) -> None:
    x, y = torch.zeros(shape, requires_grad=True), torch.zeros(shape)
    distance = thfr_ext.cosine_distance(x, y)
    assert distance.shape == (shape[0], *shape[2:])
    distance.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == shape


def test_no_channel_is_a_zero_vector() -> None:
    x = torch.zeros(2, 0, 3, 4, requires_grad=True)
    distance = thfr_ext.cosine_distance(x, torch.zeros(2, 0, 3, 4))
    assert torch.equal(distance, torch.ones(2, 3, 4))
    distance.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_not_finite_spoils_its_location_only(bad: float, layout: str) -> None:
    x, y = torch.randn(2, 20, 5, 70), torch.randn(2, 20, 5, 70)
    expected = thfr_ext.cosine_distance(x, y)
    x[1, 7, 2, 33] = bad
    got = thfr_ext.cosine_distance(LAYOUTS[layout](x), LAYOUTS[layout](y))
    assert bool(got[1, 2, 33].isnan())
    assert int(got.isnan().sum()) == 1
    assert (got - expected).nan_to_num().abs().max() <= 1e-6


def test_eps_bounds_the_product_of_the_norms() -> None:
    x = torch.tensor([1e-5, 0.0]).reshape(1, 2, 1, 1)
    assert thfr_ext.cosine_distance(x, x).item() == pytest.approx(1 - 1e-10 / 1e-8, abs=1e-7)
    assert thfr_ext.cosine_distance(x, x, eps=0).item() == 0
    assert thfr_ext.cosine_distance(torch.zeros_like(x), x, eps=0).item() == 1


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 80), st.integers(1, 6), st.integers(1, 40)),
    st.integers(0, 2**31),
    st.floats(-30, 30),
    st.sampled_from(sorted(LAYOUTS)),
)
@settings(max_examples=40, deadline=None)
def test_properties(shape: tuple[int, ...], seed: int, power: float, layout: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = (LAYOUTS[layout](torch.randn(shape, generator=generator)) for _ in range(2))
    distance = thfr_ext.cosine_distance(x, y, eps=0)
    assert bool(((distance >= 0) & (distance <= 2)).all())
    assert torch.equal(distance, thfr_ext.cosine_distance(y, x, eps=0))  # symmetric
    assert thfr_ext.cosine_distance(x, x.clone(), eps=0).abs().max() <= 1e-6
    assert (distance + thfr_ext.cosine_distance(x, -y, eps=0) - 2).abs().max() <= 1e-6
    scaled = thfr_ext.cosine_distance(x * 10.0**power, y, eps=0)  # a cosine knows no lengths
    assert (scaled - distance).abs().max() <= 1e-6


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_bits_whatever_the_threads(layout: str) -> None:
    torch.manual_seed(3)
    x, y = LAYOUTS[layout](torch.randn(3, 70, 31, 37)), LAYOUTS[layout](torch.randn(3, 70, 31, 37))
    grad, threads = torch.randn(3, 31, 37), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5, 1):
            torch.set_num_threads(count)
            backward = torch.ops.thfr_ext.cosine_distance_backward(grad, x, y, 1e-8, True, True)
            results.append((thfr_ext.cosine_distance(x, y), *backward))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_same_bits_wherever_the_memory_starts(memory_format: torch.memory_format) -> None:
    torch.manual_seed(4)
    x, y = (torch.randn(1, 50, 9, 11).contiguous(memory_format=memory_format) for _ in range(2))
    expected = thfr_ext.cosine_distance(x, y)
    for offset in (1, 2, 3, 5):
        memory = torch.empty(x.numel() + offset)[offset:]
        moved = memory.as_strided(x.shape, x.stride(), memory.storage_offset()).copy_(x)
        assert torch.equal(thfr_ext.cosine_distance(moved, y), expected)
