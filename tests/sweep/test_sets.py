"""Sets of images of two sizes beside the specification: any values, dtypes, layouts, sizes, saturations."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from support.device import Device
from support.sweep_kernels import DTYPES, LAYOUTS, LIMITS, VALUES, masks_of, rand, set_of
from torch import Tensor

from thfr_ext.sweep import torch_path

CHUNK = 512  # pixels that a warp of the CUDA kernels takes


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", VALUES)
def test_areas(kind: str, dtype: torch.dtype, device: Device) -> None:
    maps, regions, saturations = set_of(kind, dtype)
    found = device.au_spro(maps, regions, saturations, LIMITS)
    near(found, torch_path.au_spro(maps, regions, saturations, LIMITS))
    masks = [r.any(0) for r in regions]
    near(device.au_pro(maps, masks, 0.3), torch_path.au_pro(maps, masks, 0.3))


@pytest.mark.parametrize("saturation", ["half", "one", "area", "above", "mixed", "huge"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_saturations(layout: str, saturation: str, device: Device) -> None:
    arguments = set_of("tied", torch.float32, layout, saturation)
    limits = [i / 37 for i in range(1, 38)] + LIMITS  # more than one launch takes
    near(device.au_spro(*arguments, limits), torch_path.au_spro(*arguments, limits))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", VALUES)
def test_areas_of_samples(kind: str, dtype: torch.dtype, device: Device) -> None:
    negatives, scores = (VALUES[kind](rand(n, seed=n)).to(dtype) for n in (3000, 900))
    offsets, saturations = torch.tensor([0, 1, 500, 900]), torch.tensor([2, 100, 400])
    for part in (slice(None), slice(None, None, 3)):
        arguments = negatives[part], scores, offsets, saturations, LIMITS
        near(device.spro_area(*arguments), torch_path.spro_area(*arguments))


def exact_auroc(scores: Tensor, labels: Tensor) -> float:
    positives, negatives = scores[labels].double(), scores[~labels].double().sort().values
    twice = sum(int(torch.searchsorted(negatives, positives, side=side).sum()) for side in ("left", "right"))
    return float(Fraction(twice, 2 * len(positives) * len(negatives)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", VALUES)
def test_auroc_is_rounded_once(kind: str, dtype: torch.dtype, device: Device) -> None:
    scores = VALUES[kind](rand(2, 30, 41)).to(dtype)
    for density in (0.0005, 0.1, 0.9, 0.9995):
        labels = rand(2, 30, 41, seed=1) < density
        labels[0, 0, :2] = torch.tensor([True, False])
        for part in (lambda t: t, lambda t: t[:, ::2, 1::3], lambda t: t.mT, lambda t: t[0, 0, :7]):
            if 0 < part(labels).sum() < part(labels).numel():
                assert device.auroc(part(scores), part(labels)) == exact_auroc(part(scores), part(labels))


@pytest.mark.parametrize("kind", VALUES)
def test_curves(kind: str, device: Device) -> None:
    maps, regions, saturations = set_of(kind, torch.float32, saturation="mixed")
    masks = [r.any(0) for r in regions]
    pairs = [
        (device.spro_curve(maps, regions, saturations), torch_path.spro_curve(maps, regions, saturations)),
        (device.pro_curve(maps, masks), torch_path.pro_curve(maps, masks)),
    ]
    for found, expected in pairs:
        assert torch.equal(found[0], expected[0])
        near(found[1], expected[1])
        assert torch.equal(found[2], expected[2])
    assert pairs[1][0][1][-1] == 1


# samples


def check_samples(device: Device, maps: list[Tensor], regions: list[Tensor]) -> None:
    """Their order too, whatever the memory."""
    expected = torch_path.region_samples(maps, regions)
    for found, wanted in zip(device.region_samples(maps, regions), expected, strict=True):
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mark_layout", LAYOUTS)
def test_samples_of_layouts(layout: str, mark_layout: str, dtype: torch.dtype, device: Device) -> None:
    maps = [LAYOUTS[layout](rand(24, 64, seed=i).to(dtype)) for i in range(2)]
    regions = [LAYOUTS[mark_layout](masks_of((r, 24, 64), 0.3, seed=r)) for r in (1, 3)]
    check_samples(device, maps, regions)


@pytest.mark.parametrize("width", [1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 8 * CHUNK + 3])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_samples_of_sizes(width: int, density: float, device: Device) -> None:
    for shape in ((1, width), (width, 1)):
        for count in (1, 2):
            check_samples(device, [rand(*shape).float()], [masks_of((count, *shape), density)])


def test_samples_of_many_images(device: Device) -> None:
    """More than a launch takes, of mixed sizes, dtypes and numbers of regions, some of them good."""
    sizes = [(1 + 7 * i % 40, 1 + 5 * i % 31) for i in range(60)]
    maps = [rand(*s, seed=i).to(DTYPES[i // 13 % 4]) for i, s in enumerate(sizes)]
    regions = [
        masks_of((i % 4, *s), 0.2, seed=i) if i % 4 else torch.empty(0, *s) > 0 for i, s in enumerate(sizes)
    ]
    check_samples(device, maps, regions)
    check_samples(device, maps[:2] * 13, [r[:0] for r in regions[:2]] * 13)  # no region at all
    narrow = [m for m in maps if m.dtype != torch.float64]
    check_samples(device, narrow, [r for r, m in zip(regions, maps, strict=True) if m.dtype != torch.float64])


def test_components_of_many_images(device: Device) -> None:
    masks, scores = rand(60, 13, 45) < 0.3, rand(60, 13, 45, seed=1).float()
    maps, marks = ([t[: 1 + i % 13, : 40 + i % 6] for i, t in enumerate(part)] for part in (scores, masks))
    expected = torch_path.component_samples(maps, marks)
    assert all(map(torch.equal, device.component_samples(maps, marks), expected))
