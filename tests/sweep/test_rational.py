"""Areas, curves and AUROC against fractions: point by point and under straight lines, without rounding."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.device import REAL_DEVICES, examples
from support.rational import LIMITS, Set, area, curve, labelled, sets

import thfr_ext
from thfr_ext.metrics import AUPRO, AUROC, AUsPRO

pytestmark = pytest.mark.usefixtures("device")


@examples(200, derandomize=True)
@given(sets(), LIMITS)
def test_areas(given_set: Set, limits: list[float]) -> None:
    points = curve(given_set)
    metric = AUsPRO(limits)
    metric.update(*given_set)
    areas, streamed = thfr_ext.au_spro(*given_set, limits), metric.compute()
    for limit in limits:
        assert abs(Fraction(areas[limit]) - area(points, limit)) < Fraction(1, 10**12)
        assert streamed[limit].item() == areas[limit]


@examples(100, derandomize=True)
@given(sets())
def test_curves(given_set: Set) -> None:
    points = curve(given_set)
    fpr, overlap, _ = thfr_ext.spro_curve(*given_set)
    assert len(fpr) == len(points)
    assert fpr.tolist() == [float(x) for x, _ in points]
    np.testing.assert_allclose(overlap, [float(y) for _, y in points], rtol=0, atol=1e-14)


@examples(100, derandomize=True)
@given(sets(), st.floats(1e-6, 1))
def test_areas_of_components(given_set: Set, limit: float) -> None:
    """PRO is sPRO of the 8-connected regions, each saturating at its area."""
    maps, regions, _ = given_set
    masks = [stack.any(0) for stack in regions]
    labels = [thfr_ext.label_regions(mask[None])[0][0] for mask in masks]
    components = [np.stack([found == r for r in range(1, found.max() + 1)] or [mask & False])[: found.max()]
                  for found, mask in zip(labels, masks, strict=True)]  # fmt: skip
    saturations = [stack.sum((1, 2)).tolist() for stack in components]
    expected = area(curve((maps, components, saturations)), limit)
    assert abs(Fraction(thfr_ext.au_pro(maps, masks, limit)) - expected) < Fraction(1, 10**12)
    metric = AUPRO(limit)
    metric.update(maps, masks)
    assert metric.compute().item() == thfr_ext.au_pro(maps, masks, limit)


@examples(200, derandomize=True)
@given(labelled())
def test_auroc(sample: tuple[np.ndarray, np.ndarray]) -> None:
    values, labels = sample
    positives, negatives = values[labels].astype(float), values[~labels].astype(float)
    wins = sum(Fraction(int(p > n)) + Fraction(int(p == n), 2) for p in positives for n in negatives)
    expected = wins / (len(positives) * len(negatives))
    assert abs(Fraction(thfr_ext.auroc(values, labels)) - expected) <= Fraction(1, 2**53)
    metric = AUROC()
    metric.update(values, labels)
    assert metric.compute().item() == thfr_ext.auroc(values, labels)


@examples(100, derandomize=True)
@given(sets(), st.data())
def test_nan_anywhere_is_refused(given_set: Set, data: st.DataObject) -> None:
    maps, regions, saturations = given_set
    image = data.draw(st.integers(0, len(maps) - 1))
    maps[image].flat[data.draw(st.integers(0, maps[image].size - 1))] = data.draw(
        st.sampled_from([np.nan, -np.nan])
    )
    masks = [stack.any(0) for stack in regions]
    calls = {
        "au_spro": lambda: thfr_ext.au_spro(maps, regions, saturations),
        "spro_curve": lambda: thfr_ext.spro_curve(maps, regions, saturations),
        "au_pro": lambda: thfr_ext.au_pro(maps, masks),
        "pro_curve": lambda: thfr_ext.pro_curve(maps, masks),
        "AUPRO": lambda: AUPRO().update(maps, masks),
        "AUsPRO": lambda: AUsPRO().update(maps, regions, saturations),
    }
    for name, call in calls.items():
        place = "" if len(maps) == 1 else f" in image {image} of {len(maps)}"
        with pytest.raises(ValueError, match=rf"^{name}: maps: expected numbers, got NaN{place}"):
            call()
    with pytest.raises(ValueError, match=r"^auroc: scores: expected numbers, got NaN"):
        thfr_ext.auroc(maps[image], (np.arange(maps[image].size) % 2 == 0).reshape(maps[image].shape))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_a_pixel_is_refused(shape: tuple[int, int]) -> None:
    maps = [np.ones((4, 4), np.float32), np.ones(shape, np.float32)]
    masks = [np.eye(4, dtype=bool), np.zeros(shape, bool)]
    regions = [mask[None] if mask.any() else mask[None][:0] for mask in masks]
    for call in (
        lambda: thfr_ext.au_pro(maps, masks),
        lambda: thfr_ext.pro_curve(maps, masks),
        lambda: thfr_ext.au_spro(maps, regions, [[1], []]),
        lambda: thfr_ext.spro_curve(maps, regions, [[1], []]),
        lambda: AUPRO().update(maps, masks),
        lambda: AUsPRO().update(maps, regions, [[1], []]),
    ):
        with pytest.raises(ValueError, match=r"^\w+: maps: image 1: expected pixels"):
            call()


@REAL_DEVICES
@pytest.mark.slow
def test_more_than_2_31_pixels() -> None:
    """One good image, thousands of times: counts past 32 bits give the shares of few images."""
    side = 1024
    times = (2**31 + 2**20) // side**2
    bad, good = torch.arange(5.0).repeat(16, 1), torch.full((side, side), 2.0)
    marked, empty = torch.ones(16, 5, dtype=torch.bool), torch.zeros(side, side, dtype=torch.bool)
    few = thfr_ext.au_pro([bad, good], [marked, empty], 0.3)
    many = thfr_ext.au_pro([bad] + [good] * times, [marked] + [empty] * times, 0.3)
    assert many == pytest.approx(few, abs=1e-15)
    assert few == pytest.approx(0.4 + 0.3 / 2 / 5)  # 3 and 4 above all negatives, 2 along the tie
