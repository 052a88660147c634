"""cosine_distance on every device: values, layouts, extremes, determinism."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.device import Device
from support.scoring_cases import CASES, DTYPES, PATHS, inputs, laid_out
from support.scoring_oracle import LAYOUTS, oracle_distance
from torch import Tensor

import thfr_ext
from thfr_ext import reference

TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6}  # of the result
SOME_LAYOUTS = ["contiguous", "channels last", "misaligned"]


def check(device: Device, x: Tensor, y: Tensor, eps: float = 1e-8) -> None:
    distance = device.cosine_distance(x, y, eps)
    assert distance.dtype == (torch.float64 if x.dtype == torch.float64 else torch.float32)
    assert distance.shape == (x.shape[0], *x.shape[2:])
    error = np.abs(distance.numpy() - oracle_distance(x, y, eps))
    assert error.max(initial=0) <= TOLERANCE[distance.dtype]
    assert bool(((distance >= 0) & (distance <= 2)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2, 70, 9, 13), (1, 3, 1, 1), (2, 40, 4, 6)])
@pytest.mark.parametrize("layout", SOME_LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_values(case: str, layout: str, shape: tuple[int, ...], dtype: torch.dtype, device: Device) -> None:
    x, y = inputs(case, shape, dtype, layout)
    check(device, x, y)
    if device.name == "cpu":
        error = np.abs(reference.cosine_distance(x, y).numpy() - oracle_distance(x, y))
        assert error.max() <= 10 * TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", SOME_LAYOUTS)
def test_half_is_accumulated_in_single(dtype: torch.dtype, layout: str, device: Device) -> None:
    torch.manual_seed(0)
    for scale in (1e-7, 1e-4, 1.0, 1e3):  # fp16: subnormal, ..., squares beyond its largest number
        x, y = (laid_out((torch.randn(2, 200, 4, 10) * scale).to(dtype), layout) for _ in range(2))
        check(device, x, y, eps=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_is_read_as_torch_reads_it(dtype: torch.dtype, device: Device) -> None:
    """Of every sign and exponent: subnormal, infinite and NaN too."""
    step = 1 if device.name == "cpu" else 31
    every = torch.arange(-(2**15), 2**15, step, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[: len(every) // 8 * 8]
    x = torch.stack([every, torch.ones_like(every)])[None, :, None, :].contiguous()
    y = torch.ones_like(x)
    expected = thfr_ext.cosine_distance(x.double(), y.double())
    assert int(expected.isnan().sum()) == int((~every.isfinite()).sum())
    for layout in ("contiguous", "misaligned"):
        got = device.cosine_distance(laid_out(x, layout), y, 1e-8)
        assert torch.equal(got.isnan(), expected.isnan())
        assert (got - expected).nan_to_num().abs().max() <= 1e-6


# Tiles of the CUDA kernels are, in locations: with few channels 128 (fp32), 256 (half) and 64 (fp64) in
# planes, 32 where any strides go, 256 in channels; with many channels 8, 16 and 4 in planes, 8 in channels.
FEW_CHANNELS = [(2, 8, 1, n) for n in (4, 8, 31, 32, 33, 56, 64, 72, 120, 128, 136, 248, 255, 256, 257, 264)]
MANY_CHANNELS = [(1, 640, 1, n) for n in (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 32)]
CHANNELS = [(1, c, 2, 4) for c in (1, 2, 3, 4, 7, 8, 15, 16, 24, 31, 32, 33, 127, 128, 129, 512, 513, 2056)]


@pytest.mark.parametrize("shape", FEW_CHANNELS + MANY_CHANNELS + CHANNELS)
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_around_tiles(shape: tuple[int, ...], layout: str, device: Device) -> None:
    for dtype in DTYPES:
        check(device, *inputs("random", shape, dtype, layout))


@pytest.mark.parametrize(
    "shape", [(1, 3, 32, 64), (3, 4, 41, 13), (1, 64, 24, 48), (5, 6, 1, 1), (1, 9, 70, 1), (2, 1, 5, 4)]
)
@pytest.mark.parametrize("layout", SOME_LAYOUTS)
def test_shapes(shape: tuple[int, ...], layout: str, device: Device) -> None:
    for dtype in (torch.float32, torch.float16):
        check(device, *inputs("skewed", shape, dtype, layout))


@pytest.mark.parametrize("first", PATHS)
@pytest.mark.parametrize("second", PATHS)
def test_any_strides(first: str, second: str, device: Device) -> None:
    torch.manual_seed(1)
    for dtype in DTYPES:
        for shape in ((2, 24, 4, 6), (2, 67, 5, 7)):
            x, y = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
            expected = thfr_ext.cosine_distance(x, y)
            got = device.cosine_distance(laid_out(x, first), laid_out(y, second), 1e-8)
            assert (got - expected).abs().max() <= TOLERANCE[got.dtype]


def test_expanded_input(device: Device) -> None:
    x, y = torch.randn(1, 8, 1, 1).expand(3, 8, 4, 4), torch.randn(3, 8, 4, 4)
    check(device, x, y)
    check(device, torch.randn(1, 8, 4, 4).expand(3, 8, 4, 4), y)


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_many_channels(layout: str, device: Device) -> None:
    torch.manual_seed(2)
    x = laid_out(torch.rand(1, 32768, 2, 3) + 1, layout)
    check(device, x, laid_out(x + 0.1 * torch.randn(x.shape), layout))
    # Equal products all round the same way: the worst for a sum.
    assert device.cosine_distance(torch.full_like(x, 0.3), torch.full_like(x, 1.7), 1e-8).max() <= 1e-6


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (0, 0, 0, 0)])
def test_no_location(shape: tuple[int, ...], device: Device) -> None:
    x = torch.zeros(shape)
    assert device.cosine_distance(x, x, 1e-8).shape == (shape[0], *shape[2:])


def test_no_channel_is_a_zero_vector(device: Device) -> None:
    for dtype in DTYPES:
        x = torch.zeros(2, 0, 3, 4, dtype=dtype)
        assert bool((device.cosine_distance(x, x, 1e-8) == 1).all())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("layout", PATHS)
def test_not_finite_spoils_its_location_only(bad: float, layout: str, device: Device) -> None:
    for dtype in DTYPES:
        for shape in ((2, 24, 2, 8), (2, 20, 5, 70)):
            x, y = inputs("random", shape, dtype, "contiguous")
            expected = thfr_ext.cosine_distance(x, y)
            x[1, 7, 1, 5] = bad
            got = device.cosine_distance(laid_out(x, layout), laid_out(y, layout), 1e-8)
            assert bool(got[1, 1, 5].isnan())
            assert int(got.isnan().sum()) == 1
            assert (got - expected).nan_to_num().abs().max() <= 1e-6


def test_eps_bounds_the_product_of_the_norms(device: Device) -> None:
    x = torch.tensor([1e-5, 0.0]).reshape(1, 2, 1, 1)
    assert device.cosine_distance(x, x, 1e-8).item() == pytest.approx(1 - 1e-10 / 1e-8, abs=1e-7)
    assert device.cosine_distance(x, x, 0.0).item() == 0
    assert device.cosine_distance(torch.zeros_like(x), x, 0.0).item() == 1


@pytest.mark.parametrize("eps", [0.0, 1e-40, 1e-8, 1.0, 1e3])
def test_eps(eps: float, device: Device) -> None:
    for case in ("random", "zero vectors", "mixed magnitudes"):
        for dtype in (torch.float32, torch.float64):
            check(device, *inputs(case, (1, 8, 2, 4), dtype, "contiguous"), eps)


@pytest.mark.parametrize("layout", SOME_LAYOUTS)
def test_every_magnitude(layout: str, device: Device) -> None:
    """Squares that are whole, subnormal, zero or infinite; in fp64 with a bound among the products, too."""
    for power in (*range(-26, -12), *range(12, 22)):
        x, y = inputs("equal", (1, 24, 2, 8), torch.float32, layout)
        check(device, laid_out(x * 10.0**power, layout), y, eps=0)
    for power in (-1000, -530, -450, 450, 530, 1000):
        x, y = inputs("equal", (1, 24, 2, 8), torch.float64, layout)
        check(device, laid_out(x * 2.0**power, layout), laid_out(y * 2.0**-power, layout), eps=20)
        check(device, laid_out(x * 2.0**power, layout), y, eps=0)


@pytest.mark.parametrize("layout", SOME_LAYOUTS)
def test_batch_does_not_matter(layout: str, device: Device) -> None:
    x, y = inputs("skewed", (3, 72, 4, 10), torch.float32, layout)
    together = device.cosine_distance(x, y, 1e-8)
    for b in range(3):
        part = (laid_out(t[b : b + 1].contiguous(), layout) for t in (x, y))
        assert torch.equal(device.cosine_distance(*part, 1e-8)[0], together[b])


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
