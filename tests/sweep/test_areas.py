"""Areas and curves against the definition: a loop over every distinct threshold in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.device import REAL_DEVICES
from support.sweep_oracle import area_to_limit, curve_by_thresholds
from torch import Tensor

import thfr_ext

pytestmark = pytest.mark.usefixtures("device")

LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)
INF = float("inf")


def _denormal(u: Tensor) -> Tensor:
    return (u * 40).floor() * torch.finfo(torch.float32).smallest_normal / 2**20


def _infinite(u: Tensor) -> Tensor:
    return torch.where(u < 0.2, -INF, torch.where(u > 0.8, INF, u))


DISTRIBUTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "random": lambda u: u,
    "three values": lambda u: (u * 3).floor(),
    "constant": lambda u: u * 0 + 7,
    "mostly zero": lambda u: (u - 0.9).clamp_min(0),
    "skewed": lambda u: u**12,
    "negative": lambda u: -(u**3) * 5,
    "signed zeros": lambda u: torch.where(u < 0.5, 0.0, -0.0) + torch.where(u > 0.9, u, 0.0),
    "only signed zeros": lambda u: torch.copysign(torch.zeros_like(u), u - 0.5),
    "tiny": lambda u: u * 1e-30,
    "huge": lambda u: (u - 0.3) * 3e38,
    "denormal": _denormal,
    "infinite": _infinite,
    "far apart": lambda u: torch.where(u < 0.01, -3e38, 1 + (u * 1000).floor() * 2**-23),
}


def images(
    distribution: str,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    count: int = 3,
    density: float = 0.12,
) -> tuple[Tensor, Tensor]:
    """Maps [N,H,W] and masks whose pixels score a little higher."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(count, 11, 13, generator=generator, dtype=torch.float64)
    masks = torch.rand(count, 11, 13, generator=generator) < density
    u = torch.where(masks & (torch.rand(u.shape, generator=generator) < 0.5), u.sqrt(), u)
    return DISTRIBUTIONS[distribution](u.float() if dtype != torch.float64 else u).to(dtype), masks


def regions_of(masks: Tensor) -> list[Tensor]:
    labels, counts = thfr_ext.label_regions(masks)
    return [
        image == torch.arange(1, int(n) + 1).reshape(-1, 1, 1)
        for image, n in zip(labels, counts, strict=True)
    ]


def areas_of(regions: list[Tensor]) -> list[list[int]]:
    return [[int(region.sum()) for region in stack] for stack in regions]


def flat(saturations: list[list[int]]) -> list[int]:
    return [s for image in saturations for s in image]


def oracle(maps: list[Tensor], regions: list[Tensor], saturations: list[list[int]], limit: float) -> float:
    fpr, overlap, _ = curve_by_thresholds(maps, regions, flat(saturations))
    return area_to_limit(fpr, overlap, limit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_areas_are_those_of_the_definition(distribution: str, dtype: torch.dtype) -> None:
    maps, masks = images(distribution, dtype)
    if dtype == torch.float16 and distribution in ("huge", "far apart"):
        maps = maps.nan_to_num(nan=0.0)  # these overflow to infinity
    regions = regions_of(masks)
    areas = areas_of(regions)
    half = [[max(a // 2, 1) for a in image] for image in areas]
    curve = curve_by_thresholds(list(maps), regions, flat(areas))
    saturated = curve_by_thresholds(list(maps), regions, flat(half))
    spro = thfr_ext.au_spro(list(maps), regions, half, LIMITS)
    for limit in LIMITS:
        expected = area_to_limit(*curve[:2], limit)
        assert thfr_ext.au_pro(maps, masks, limit) == pytest.approx(expected, abs=1e-9)
        assert spro[limit] == pytest.approx(area_to_limit(*saturated[:2], limit), abs=1e-9)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_curves_are_those_of_the_definition(distribution: str) -> None:
    maps, masks = images(distribution, seed=1)
    regions = regions_of(masks)
    saturations = [[max(a - 1, 1) for a in image] for image in areas_of(regions)]
    fpr, overlap, thresholds = thfr_ext.spro_curve(list(maps), regions, saturations)
    expected = curve_by_thresholds(list(maps), regions, flat(saturations))
    assert thresholds.dtype == torch.float32
    for given, wanted in zip((fpr, overlap, thresholds.double()), expected, strict=True):
        torch.testing.assert_close(given, wanted, rtol=0, atol=1e-12)
    assert [fpr[0], overlap[0], fpr[-1], overlap[-1]] == [0, 0, 1, 1]
    assert bool((fpr.diff() >= 0).all())
    assert bool((overlap.diff() >= 0).all())
    assert thresholds[0] == maps.max()
    assert thresholds[-1] == -INF
    pro = thfr_ext.pro_curve(maps, masks)
    exact = curve_by_thresholds(list(maps), regions, flat(areas_of(regions)))
    torch.testing.assert_close(pro[1], exact[1], rtol=0, atol=1e-12)


def test_limits_inside_of_a_tie_are_interpolated() -> None:
    maps, masks = images("three values", seed=3)
    regions = regions_of(masks)
    areas = areas_of(regions)
    limits = [i / 37 for i in range(1, 38)]
    given = thfr_ext.au_spro(list(maps), regions, areas, limits)
    curve = curve_by_thresholds(list(maps), regions, flat(areas))
    for limit in limits:
        assert given[limit] == pytest.approx(area_to_limit(*curve[:2], limit), abs=1e-12)


def test_scores_that_only_fp64_tells_apart() -> None:
    maps, masks = images("random", torch.float64)
    close = 1 + maps * 1e-12
    assert len(close.float().unique()) == 1
    regions = regions_of(masks)
    expected = oracle(list(close), regions, areas_of(regions), 0.3)
    assert thfr_ext.au_pro(close, masks) == pytest.approx(expected, abs=1e-9)
    assert expected != pytest.approx(thfr_ext.au_pro(close.float(), masks), abs=1e-3)


def test_images_of_different_sizes_and_dtypes() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = [(1, 1), (1, 9), (13, 1), (7, 11), (16, 5)]
    dtypes = [torch.float32, torch.float16, torch.float64, torch.bfloat16, torch.float32]
    maps = [
        torch.rand(size, generator=generator).to(dtype) for size, dtype in zip(sizes, dtypes, strict=True)
    ]
    masks = [torch.rand(size, generator=generator) < 0.3 for size in sizes]
    regions = [regions_of(mask.unsqueeze(0))[0] for mask in masks]
    saturations = [[max(a // 2, 1) for a in image] for image in areas_of(regions)]
    expected = oracle(maps, regions, saturations, 0.3)
    assert thfr_ext.au_spro(maps, regions, saturations, (0.3,))[0.3] == pytest.approx(expected, abs=1e-12)
    expected = oracle(maps, regions, areas_of(regions), 0.3)
    assert thfr_ext.au_pro(maps, masks) == pytest.approx(expected, abs=1e-12)


def test_overlapping_regions_count_a_shared_pixel_in_each() -> None:
    generator = torch.Generator().manual_seed(5)
    maps = (torch.rand(2, 12, 12, generator=generator) * 9).floor()
    regions = [
        torch.rand(4, 12, 12, generator=generator) < 0.2,
        torch.rand(2, 12, 12, generator=generator) < 0.4,
    ]
    assert bool((regions[0].sum(0) > 1).any())
    saturations = [[1, 5, 12, 30], [20, 1]]
    for limit, value in thfr_ext.au_spro(list(maps), regions, saturations, LIMITS).items():
        assert value == pytest.approx(oracle(list(maps), regions, saturations, limit), abs=1e-12)


def test_a_saturation_above_the_area_keeps_the_region_below_one() -> None:
    maps, masks = torch.zeros(1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    masks[0, 0, 0, :3] = True
    maps[0, 0, :3] = 1
    area = thfr_ext.au_spro(list(maps), list(masks), [[12]], (0.5, 1.0))
    assert area == {0.5: pytest.approx(0.25), 1.0: pytest.approx(0.25)}
    assert thfr_ext.spro_curve(list(maps), list(masks), [[12]])[1][-1] == 0.25
    assert thfr_ext.au_spro(list(maps), list(masks), [[2**62]])[1.0] == pytest.approx(3 / 2**62)


def test_ten_thousand_regions_of_a_pixel() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = (torch.rand(1, 200, 200, generator=generator) * 50).floor()
    masks = torch.zeros(1, 200, 200, dtype=torch.bool)
    masks[:, ::2, ::2] = True
    assert thfr_ext.label_regions(masks)[1].tolist() == [10_000]
    # All regions have one pixel: the curve is the ROC curve of the pixels.
    assert thfr_ext.au_pro(maps, masks, 1.0) == pytest.approx(thfr_ext.auroc(maps, masks), abs=1e-12)


def test_non_contiguous_inputs() -> None:
    maps, masks = images("random")
    wide, wide_masks = torch.empty(3, 26, 33), torch.ones(3, 26, 33, dtype=torch.bool)
    marks = wide_masks[:, 4:15, ::2][:, :, :13]
    strided = wide.permute(0, 2, 1)[:, ::3, ::2]
    assert strided.shape == maps.shape
    assert not strided.is_contiguous()
    strided.copy_(maps)
    marks.copy_(masks)
    assert thfr_ext.au_pro(strided, marks) == thfr_ext.au_pro(maps, masks)
    regions = regions_of(masks)
    loose = [torch.stack([r, ~r], -1)[..., 0] for r in regions]
    assert thfr_ext.au_spro(list(strided), loose, areas_of(regions)) == thfr_ext.au_spro(
        list(maps), regions, areas_of(regions)
    )
    assert thfr_ext.auroc(strided, marks) == thfr_ext.auroc(maps, masks)
    assert thfr_ext.au_pro(maps[:1].expand(3, -1, -1), masks) == thfr_ext.au_pro(
        maps[:1].repeat(3, 1, 1), masks
    )


@REAL_DEVICES
def test_large_maps_agree_with_the_curve() -> None:
    """Big enough for radix sort, threads and a fine table; the curve adds up what the area never sorts."""
    generator = np.random.default_rng(0)
    maps = (generator.random((4, 300, 400), dtype=np.float32) ** 9).round(6)
    masks = np.zeros(maps.shape, bool)
    masks[:, 50:200, 80:250] = True
    fpr, overlap, _ = (torch.from_numpy(x) for x in thfr_ext.pro_curve(maps, masks))
    for limit in LIMITS:
        inside = fpr < limit
        x = torch.cat([fpr[inside], torch.tensor([limit], dtype=torch.float64)])
        y = np.append(overlap[inside], np.interp(limit, fpr, overlap))
        assert thfr_ext.au_pro(maps, masks, limit) == pytest.approx(np.trapezoid(y, x) / limit, abs=1e-9)
