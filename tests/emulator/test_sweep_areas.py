"""Areas on the emulated device: beside the CPU's, fractions without rounding, and what both refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from support import rational
from support.sweep_kernels import DTYPES, LAYOUTS, ONE_ORDER, VALUES, rand
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import thfr_ext
from thfr_ext.core import registration
from thfr_ext.core.tensors import view
from thfr_ext.sweep import cuda as sweep_cuda
from thfr_ext.sweep import curve

OPERATORS = torch.ops.thfr_ext
LIMITS = [0.01, 0.05, 0.1, 0.3, 1.0]
Set = tuple[list[Tensor], list[Tensor], Tensor]


def near(found: Tensor, expected: Tensor, slack: float = 1e-13) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=slack)


def set_of(kind: str, dtype: torch.dtype, layout: str = "contiguous", saturation: str = "half") -> Set:
    """Good and bad images of two sizes; regions that overlap, each with a pixel; saturations."""
    maps, regions = [], []
    for i, (count, *size) in enumerate([(2, 30, 41), (0, 30, 41), (3, 17, 64), (1, 17, 64)]):
        maps.append(LAYOUTS[layout](VALUES[kind](rand(*size, seed=i)).to(dtype)))
        masks = rand(count, *size, seed=i + 50) < 0.1
        masks[:, 3, 3] = True
        regions.append(LAYOUTS[layout](masks))
    areas = torch.cat([r.flatten(1).sum(1) for r in regions])
    saturations = {
        "half": areas // 2 + 1,
        "one": torch.ones_like(areas),
        "area": areas,
        "above": areas + 7,
        "mixed": areas * torch.tensor([1, 2, 1, 2, 1, 2]) // 3 + 1,
        "huge": torch.full_like(areas, 2**62),
    }
    return maps, regions, saturations[saturation]


@ONE_ORDER
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", VALUES)
def test_au_spro_of_values(kind: str, dtype: torch.dtype, device: ModuleType) -> None:
    arguments = set_of(kind, dtype)
    near(sweep_cuda.au_spro(*arguments, LIMITS), OPERATORS.au_spro(*arguments, LIMITS))


@pytest.mark.parametrize("saturation", ["half", "one", "area", "above", "mixed", "huge"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_au_spro_of_layouts_and_saturations(layout: str, saturation: str, device: ModuleType) -> None:
    arguments = set_of("tied", torch.float32, layout, saturation)
    limits = [i / 37 for i in range(1, 38)] + LIMITS  # more than one launch takes
    near(sweep_cuda.au_spro(*arguments, limits), OPERATORS.au_spro(*arguments, limits))


@ONE_ORDER
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", VALUES)
def test_au_pro(kind: str, dtype: torch.dtype, device: ModuleType) -> None:
    maps, regions, _ = set_of(kind, dtype)
    masks = [r.any(0) for r in regions]
    near(sweep_cuda.au_pro(maps, masks, 0.3), OPERATORS.au_pro(maps, masks, 0.3))


@ONE_ORDER
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", VALUES)
def test_spro_area(kind: str, dtype: torch.dtype, device: ModuleType) -> None:
    negatives, scores = (VALUES[kind](rand(n, seed=n)).to(dtype) for n in (3000, 900))
    offsets, saturations = torch.tensor([0, 1, 500, 900]), torch.tensor([2, 100, 400])
    for part in (slice(None), slice(None, None, 3)):
        arguments = negatives[part], scores, offsets, saturations, LIMITS
        near(sweep_cuda.spro_area(*arguments), OPERATORS.spro_area(*arguments))


@ONE_ORDER
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", VALUES)
def test_auroc(kind: str, dtype: torch.dtype, device: ModuleType) -> None:
    """The CPU rounds once too: not a bit between them."""
    scores = VALUES[kind](rand(2, 30, 41)).to(dtype)
    for density in (0.0005, 0.1, 0.9, 0.9995):
        labels = rand(2, 30, 41, seed=1) < density
        labels[0, 0, :2] = torch.tensor([True, False])
        assert torch.equal(sweep_cuda.auroc(scores, labels), OPERATORS.auroc(scores, labels))


def test_auroc_of_layouts(device: ModuleType) -> None:
    scores, labels = rand(2, 30, 41).half(), rand(2, 30, 41, seed=1) < 0.4
    for part in (lambda t: t[:, ::2, 1::3], lambda t: t.mT, lambda t: t[1, 7, 3:]):
        both = part(scores), part(labels)
        assert torch.equal(sweep_cuda.auroc(*both), OPERATORS.auroc(*both))


def test_pairs_beyond_64_bits(device: ModuleType) -> None:
    """Sums past 2^64, rounded once, to the nearest."""
    for others in (2**61 + 1, 2**62 - 1, 3**38):
        for few in (1, 3, 7, 1000):
            rank = torch.ones(few, dtype=torch.int64)
            sums = torch.zeros(2 * few + 1, dtype=torch.int64)
            sums[few:] = 0
            sums[2 * few] = others
            for positives in (False, True):
                if positives:
                    sums[:] = others
                total, flag = torch.zeros(2, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
                area = torch.empty(1, dtype=torch.float64)
                pairs = float(few * others)
                device.cuda_rank_area(
                    view(rank), view(sums), positives, pairs, view(total), view(flag), view(area), 0
                )
                assert float(area) == float(2 * few * others) / (2 * pairs)
                assert int(total[0]) + 2**32 * int(total[1]) == 2 * few * others


@ONE_ORDER
@pytest.mark.parametrize("kind", VALUES)
def test_curves(kind: str, device: ModuleType) -> None:
    maps, regions, saturations = set_of(kind, torch.float32, saturation="mixed")
    masks = [r.any(0) for r in regions]
    pairs = [
        (
            curve.spro_curve(maps, regions, saturations),
            OPERATORS.spro_curve(maps, regions, saturations),
        ),
        (curve.pro_curve(maps, masks), OPERATORS.pro_curve(maps, masks)),
    ]
    for found, expected in pairs:
        assert torch.equal(found[0], expected[0])
        near(found[1], expected[1])
        assert torch.equal(found[2], expected[2])
    assert pairs[1][0][1][-1] == 1


# against fractions

SLOW = settings(
    deadline=None,
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def tensors(given_set: rational.Set) -> Set:
    maps, regions, saturations = given_set
    flat = torch.tensor([s for image in saturations for s in image], dtype=torch.int64)
    return [torch.from_numpy(m) for m in maps], [torch.from_numpy(r) for r in regions], flat


@SLOW
@given(rational.sets(), rational.LIMITS)
def test_areas_are_exact(device: ModuleType, given_set: rational.Set, limits: list[float]) -> None:
    points, arguments = rational.curve(given_set), tensors(given_set)
    found = sweep_cuda.au_spro(*arguments, limits)
    for area, limit in zip(found.tolist(), limits, strict=True):
        assert abs(Fraction(area) - rational.area(points, limit)) < Fraction(1, 10**12)
    fpr, overlap, _ = curve.spro_curve(*arguments)
    assert fpr.tolist() == [float(x) for x, _ in points]
    near(overlap, torch.tensor([float(y) for _, y in points], dtype=torch.float64))
    maps, masks = arguments[0], [r.any(0) for r in arguments[1]]
    near(sweep_cuda.au_pro(maps, masks, limits[0]), OPERATORS.au_pro(maps, masks, limits[0]))


@SLOW
@given(rational.labelled())
def test_auroc_is_exact(device: ModuleType, sample: Any) -> None:
    scores, labels = map(torch.from_numpy, sample)
    assert torch.equal(sweep_cuda.auroc(scores, labels), OPERATORS.auroc(scores, labels))


@ONE_ORDER
def test_the_same_bits_in_any_order(device: ModuleType) -> None:
    """Of threads, blocks, images, regions."""
    maps, regions, saturations = set_of("tied", torch.float32, saturation="mixed")
    masks = [r.any(0) for r in regions]
    device.set_options()
    spro, pro = sweep_cuda.au_spro(maps, regions, saturations, LIMITS), sweep_cuda.au_pro(maps, masks, 0.3)
    back = [r.flip(0) for r in regions[::-1]]
    for seed in range(1, 5):
        device.set_options(seed=seed)
        assert torch.equal(sweep_cuda.au_spro(maps, regions, saturations, LIMITS), spro)
        assert torch.equal(sweep_cuda.au_spro(maps[::-1], back, saturations.flip(0), LIMITS), spro)
        assert torch.equal(sweep_cuda.au_pro(maps[::-1], masks[::-1], 0.3), pro)


# NaN, refusals


@ONE_ORDER
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("inside", [False, True])
def test_nan(inside: bool, dtype: torch.dtype, device: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator that does not wait gives NaN; the function that reads it says where."""
    maps, regions, saturations = set_of("random", dtype)
    masks = [r.any(0) for r in regions]
    labels = torch.zeros_like(maps[2], dtype=torch.bool)
    labels[:9] = True
    place = tuple((masks[2] == inside).nonzero()[7])
    maps[2][place] = -torch.nan
    assert sweep_cuda.au_spro(maps, regions, saturations, LIMITS).isnan().all()
    assert sweep_cuda.au_pro(maps, masks, 0.3).isnan()
    assert sweep_cuda.auroc(maps[2], labels).isnan()
    for samples, others in ((sweep_cuda.region_samples, regions), (sweep_cuda.component_samples, masks)):
        with pytest.raises(ValueError, match=r"_samples: maps: expected numbers, got NaN in image 2 of 4"):
            samples(maps, others)
    for name in ("au_spro", "au_pro", "auroc"):
        monkeypatch.setattr(OPERATORS, name, getattr(sweep_cuda, name))
    in_lists = [[int(s) for s in part] for part in saturations.split([len(r) for r in regions])]
    with pytest.raises(ValueError, match=r"^au_spro: maps: expected numbers, got NaN in image 2 of 4"):
        thfr_ext.au_spro(maps, regions, in_lists)
    with pytest.raises(ValueError, match=r"^au_pro: maps: expected numbers, got NaN in image 2 of 4"):
        thfr_ext.au_pro(maps, masks)
    with pytest.raises(ValueError, match=r"^auroc: scores: expected numbers, got NaN"):
        thfr_ext.auroc(maps[2], labels)


def refusal(call: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[type, str]:
    with pytest.raises((ValueError, TypeError)) as error:
        call(*arguments)
    return type(error.value), str(error.value)


def test_refusals_are_those_of_the_cpu(device: ModuleType) -> None:
    maps, regions, saturations = set_of("random", torch.float32)
    masks, scores, labels = [r.any(0) for r in regions], rand(50).float(), rand(50) < 0.5
    low, blank = saturations.clone(), [r.clone() for r in regions]
    low[3] = 0
    blank[2][1] = False
    nan = [m * torch.nan for m in maps]
    full = [torch.ones_like(m) for m in masks]
    cases: dict[str, list[tuple[Any, ...]]] = {
        "au_spro": [
            ([], [], saturations, LIMITS),
            (maps, regions, low, LIMITS),
            (maps, blank, saturations, LIMITS),
            (maps, regions, saturations[1:], LIMITS),
            (maps, regions, saturations, [0.0]),
            (maps, regions, saturations, []),
            (maps[:2], [full[0][None], full[1][None]], saturations[:2], LIMITS),
            (nan[:2], [full[0][None], full[1][None]], saturations[:2], LIMITS),
            (maps[:1], [regions[0][:0]], saturations[:0], LIMITS),
        ],
        "au_pro": [
            (maps, full, 0.3),
            (nan, full, 0.3),
            (maps, [torch.zeros_like(m) for m in masks], 0.3),
            (maps, masks, 2.0),
            (maps, masks[1:], 0.3),
        ],
        "auroc": [
            (scores, labels | True),
            (scores, labels & False),
            (scores[:0], labels[:0]),
            (scores * torch.nan, labels & False),
            (scores, labels.int()),
            (scores[1:], labels),
        ],
        "region_samples": [(maps, blank), (nan, regions), (maps, masks)],
        "component_samples": [(nan, masks), (maps, regions)],
        "spro_curve": [(maps, regions, low), (nan, regions, saturations), (maps, blank, saturations)],
        "pro_curve": [(maps, full), (nan, masks), (maps, [m & False for m in masks])],
    }
    for name, given_arguments in cases.items():
        kernel = registration.CUDA_KERNELS[name]
        for arguments in given_arguments:
            expected = refusal(getattr(OPERATORS, name), arguments)
            assert refusal(kernel, arguments) == expected


def test_spro_area_refuses_what_the_cpu_does(device: ModuleType) -> None:
    good = [rand(60).float(), rand(9).float(), torch.tensor([0, 2, 9]), torch.tensor([1, 9]), LIMITS]
    near(sweep_cuda.spro_area(*good), OPERATORS.spro_area(*good))
    changes: list[tuple[int, Callable[[Any], Any]]] = [
        (0, lambda x: x[:0]), (0, lambda x: x * torch.nan), (0, lambda x: x.half()),
        (1, lambda x: x * torch.nan), (1, lambda x: x[:-1]), (1, lambda x: x[:0]), (2, lambda x: x.flip(0)),
        (2, lambda x: x[:-1]), (2, lambda x: x * 2**40), (2, lambda x: x + 1), (2, lambda x: x[[0, 0, 2]]),
        (3, lambda x: x * 0), (3, lambda x: x.int()), (4, lambda x: [2.0]),
    ]  # fmt: skip
    for place, change in changes:
        arguments = (*good[:place], change(good[place]), *good[place + 1 :])
        assert refusal(registration.CUDA_KERNELS["spro_area"], arguments) == refusal(
            OPERATORS.spro_area, arguments
        )


# waits and launches


WAITS = "_local_scalar_dense is_nonzero equal nonzero _unique2 masked_select repeat_interleave"


class NoWait(TorchDispatchMode):
    """Refuses operations that wait for a device: for a value on the host, or for the shape of a result."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in WAITS.split()
        assert name != "index" or not any(i is not None and i.dtype == torch.bool for i in args[1])
        return func(*args, **(kwargs or {}))


@contextmanager
def transfers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The lengths of what is brought to the host."""
    found: list[int] = []
    tolist = Tensor.tolist
    with monkeypatch.context() as patch, NoWait():
        patch.setattr(Tensor, "tolist", lambda self: found.append(self.numel()) or tolist(self))
        yield found


def test_one_transfer(device: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    maps, regions, saturations = set_of("random", torch.float32)
    masks = [r.any(0) for r in regions]
    scores, offsets, high = rand(900).float(), torch.tensor([0, 1, 500, 900]), 99 * saturations
    calls: dict[str, tuple[Callable[[], Any], int]] = {
        "au_spro": (lambda: sweep_cuda.au_spro(maps, regions, saturations, LIMITS), 9),
        "au_spro, high": (lambda: sweep_cuda.au_spro(maps, regions, high, LIMITS), 9),
        "au_pro": (lambda: sweep_cuda.au_pro(maps, masks, 0.3), 14),
        "auroc": (lambda: sweep_cuda.auroc(maps[0], masks[0]), 9),
        "spro_area": (lambda: sweep_cuda.spro_area(scores, scores, offsets, offsets.diff(), LIMITS), 7),
        "region_samples": (lambda: sweep_cuda.region_samples(maps, regions), 5),
        "component_samples": (lambda: sweep_cuda.component_samples(maps, masks), 10),
    }  # fmt: skip
    for call, launches in calls.values():
        device.statistics()
        with transfers(monkeypatch) as found:
            call()
        assert len(found) == 1
        assert found[0] <= 7
        assert device.statistics()[0] == launches
