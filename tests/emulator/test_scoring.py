"""cosine_distance on the emulator: every path against long double and against the CPU's kernel."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from support.scoring_cases import CASES, DTYPES, PATHS, apart, inputs, laid_out, superfluous_barriers
from support.scoring_oracle import oracle_distance
from torch import Tensor

import thfr_ext
from thfr_ext.core import devices
from thfr_ext.core.tensors import NO_TENSOR, view
from thfr_ext.scoring.cuda import cosine_distance

TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6}  # of the result


def check(x: Tensor, y: Tensor, eps: float = 1e-8) -> None:
    distance = cosine_distance(x, y, eps)
    assert distance.dtype == (torch.float64 if x.dtype == torch.float64 else torch.float32)
    assert distance.shape == (x.shape[0], *x.shape[2:])
    error = np.abs(distance.numpy() - oracle_distance(x, y, eps))
    assert error.max(initial=0) <= TOLERANCE[distance.dtype]
    assert bool(((distance >= 0) & (distance <= 2)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "misaligned"])
@pytest.mark.parametrize("case", CASES)
def test_values(case: str, layout: str, dtype: torch.dtype, device: ModuleType) -> None:
    check(*inputs(case, (2, 40, 4, 6), dtype, layout))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "misaligned"])
def test_half_is_accumulated_in_single(dtype: torch.dtype, layout: str, device: ModuleType) -> None:
    torch.manual_seed(0)
    for scale in (1e-7, 1e-4, 1.0, 1e3):  # fp16: subnormal, ..., squares beyond its largest number
        x, y = (laid_out((torch.randn(2, 200, 2, 8) * scale).to(dtype), layout) for _ in range(2))
        check(x, y, eps=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half(dtype: torch.dtype, device: ModuleType) -> None:
    """Of every sign and exponent: subnormal, infinite and NaN too."""
    every = torch.arange(-(2**15), 2**15, 31, dtype=torch.int32).to(torch.int16).view(dtype)[:2112]
    x = torch.stack([every, torch.ones_like(every)])[None, :, None, :].contiguous()
    y = torch.ones_like(x)
    for layout in ("contiguous", "misaligned"):
        got = cosine_distance(laid_out(x, layout), y, 1e-8)
        expected = thfr_ext.cosine_distance(x, y)
        assert torch.equal(got.isnan(), expected.isnan())
        assert (got - expected).nan_to_num().abs().max() <= 1e-6


# Tiles are, in locations: with few channels 128 (fp32), 256 (half) and 64 (fp64) in planes, 32 where any
# strides go, 256 in channels; with many channels 8, 16 and 4 in planes, 8 in channels.
FEW_CHANNELS = [(2, 8, 1, n) for n in (4, 8, 31, 32, 33, 56, 64, 72, 120, 128, 136, 248, 255, 256, 257, 264)]
MANY_CHANNELS = [(1, 640, 1, n) for n in (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 32)]
CHANNELS = [(1, c, 2, 4) for c in (1, 2, 3, 4, 7, 8, 15, 16, 24, 31, 32, 33, 127, 128, 129, 512, 513, 2056)]


@pytest.mark.parametrize("shape", FEW_CHANNELS + MANY_CHANNELS + CHANNELS)
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_around_tiles(shape: tuple[int, ...], layout: str, device: ModuleType) -> None:
    for dtype in DTYPES:
        check(*inputs("random", shape, dtype, layout))


@pytest.mark.parametrize(
    "shape", [(1, 3, 32, 64), (3, 4, 41, 13), (1, 64, 24, 48), (5, 6, 1, 1), (1, 9, 70, 1)]
)
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "misaligned"])
def test_shapes(shape: tuple[int, ...], layout: str, device: ModuleType) -> None:
    for dtype in (torch.float32, torch.float16):
        check(*inputs("skewed", shape, dtype, layout))


@pytest.mark.parametrize("first", PATHS)
@pytest.mark.parametrize("second", PATHS)
def test_any_strides(first: str, second: str, device: ModuleType) -> None:
    torch.manual_seed(1)
    for dtype in DTYPES:
        x, y = torch.randn(2, 24, 4, 6).to(dtype), torch.randn(2, 24, 4, 6).to(dtype)
        got, expected = (
            cosine_distance(laid_out(x, first), laid_out(y, second), 1e-8),
            thfr_ext.cosine_distance(x, y),
        )
        assert (got - expected).abs().max() <= TOLERANCE[got.dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", PATHS)
def test_paths_are_taken(layout: str, dtype: torch.dtype, device: ModuleType) -> None:
    """Told apart by their barriers: the strided path takes two rounds here, that of channels has no slots."""
    x, y = inputs("random", (2, 520, 8, 8), dtype, layout)
    device.statistics()
    check(x, y)
    assert device.statistics() == (1, {"planes": 3, "channels": 2, "strided": 5}[PATHS[layout]])
    x, y = inputs("random", (2, 521, 7, 7), dtype, layout)
    check(x, y)
    assert device.statistics() == (1, 5)


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("dim", range(4))
def test_strides_that_are_no_vectors(layout: str, dim: int, device: ModuleType) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x, y = inputs("random", (2, 520, 8, 8), dtype, layout)
        for pair in ((apart(x, dim), y), (x, apart(y, dim))):
            device.statistics()
            check(*pair)
            assert device.statistics() == (1, 5)


def test_expanded_input(device: ModuleType) -> None:
    x, y = torch.randn(1, 8, 1, 1).expand(3, 8, 4, 4), torch.randn(3, 8, 4, 4)
    check(x, y)
    check(torch.randn(1, 8, 4, 4).expand(3, 8, 4, 4), y)


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_many_channels(layout: str, device: ModuleType) -> None:
    torch.manual_seed(2)
    x = laid_out(torch.rand(1, 32768, 2, 2) + 1, layout)
    check(x, laid_out(x + 0.1 * torch.randn(x.shape), layout))
    # Equal products all round the same way: the worst for a sum.
    assert cosine_distance(torch.full_like(x, 0.3), torch.full_like(x, 1.7), 1e-8).max() <= 1e-6


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (0, 0, 0, 0)])
def test_no_location(shape: tuple[int, ...], device: ModuleType) -> None:
    assert cosine_distance(torch.zeros(shape), torch.zeros(shape), 1e-8).shape == (shape[0], *shape[2:])
    assert device.statistics()[0] == 0


def test_no_channel_is_a_zero_vector(device: ModuleType) -> None:
    for dtype in DTYPES:
        x = torch.zeros(2, 0, 3, 4, dtype=dtype)
        assert bool((cosine_distance(x, x, 1e-8) == 1).all())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("layout", PATHS)
def test_not_finite_spoils_its_location_only(bad: float, layout: str, device: ModuleType) -> None:
    for dtype in DTYPES:
        x, y = inputs("random", (2, 24, 2, 8), dtype, "contiguous")
        expected = thfr_ext.cosine_distance(x, y)
        x[1, 7, 1, 5] = bad
        got = cosine_distance(laid_out(x, layout), laid_out(y, layout), 1e-8)
        assert bool(got[1, 1, 5].isnan())
        assert int(got.isnan().sum()) == 1
        assert (got - expected).nan_to_num().abs().max() <= 1e-6


@pytest.mark.parametrize("eps", [0.0, 1e-40, 1e-8, 1.0, 1e3])
def test_eps(eps: float, device: ModuleType) -> None:
    for case in ("random", "zero vectors", "mixed magnitudes"):
        for dtype in (torch.float32, torch.float64):
            check(*inputs(case, (1, 8, 2, 4), dtype, "contiguous"), eps)


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "misaligned"])
def test_every_magnitude(layout: str, device: ModuleType) -> None:
    """Squares that are whole, subnormal, zero or infinite; in fp64 with a bound among the products, too."""
    for power in (*range(-26, -12), *range(12, 22)):
        x, y = inputs("equal", (1, 24, 2, 8), torch.float32, layout)
        check(laid_out(x * 10.0**power, layout), y, eps=0)
    for power in (-1000, -530, -450, 450, 530, 1000):
        x, y = inputs("equal", (1, 24, 2, 8), torch.float64, layout)
        check(laid_out(x * 2.0**power, layout), laid_out(y * 2.0**-power, layout), eps=20)
        check(laid_out(x * 2.0**power, layout), y, eps=0)


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "misaligned"])
def test_batch_and_order_do_not_matter(layout: str, device: ModuleType) -> None:
    x, y = inputs("skewed", (3, 72, 4, 10), torch.float32, layout)
    together = cosine_distance(x, y, 1e-8)
    for b in range(3):
        part = (laid_out(t[b : b + 1].contiguous(), layout) for t in (x, y))
        assert torch.equal(cosine_distance(*part, 1e-8)[0], together[b])
    for seed in range(4):
        device.set_options(seed=seed)
        assert torch.equal(cosine_distance(x, y, 1e-8), together)


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
