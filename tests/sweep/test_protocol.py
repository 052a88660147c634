"""Small cases of the MVTec AD and MVTec LOCO AD protocols, worked out by hand."""

from __future__ import annotations

import pytest
import torch

import thfr_ext


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float32)


def marks(text: str) -> torch.Tensor:
    return torch.tensor([[c != "." for c in text]])


def test_pro_by_hand() -> None:
    # Regions of 1 and 2 pixels, 4 negatives. From the top, (fpr, overlap): 9 takes the first region (0, 1/2),
    # 8 a negative (1/4, 1/2), 7 half of the second (1/4, 3/4), 6 a negative (1/2, 3/4), 5 the rest (1/2, 1).
    maps, masks = row(9, 1, 8, 2, 7, 5, 6).unsqueeze(0), marks("x...xx.").unsqueeze(0)
    fpr, overlap, thresholds = thfr_ext.pro_curve(maps, masks)
    assert thresholds.tolist() == [9, 8, 7, 6, 5, 2, 1, -float("inf")]
    assert fpr.tolist() == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 1]
    assert overlap.tolist() == [0, 0.5, 0.5, 0.75, 0.75, 1, 1, 1]
    assert thfr_ext.au_pro(maps, masks, 0.25) == 0.5
    assert thfr_ext.au_pro(maps, masks, 0.3) == pytest.approx((0.25 * 0.5 + 0.05 * 0.75) / 0.3)
    assert thfr_ext.au_pro(maps, masks, 1.0) == pytest.approx(0.25 * 0.5 + 0.25 * 0.75 + 0.5)


def test_spro_by_hand() -> None:
    # A region of 4 pixels that is found with 2 of them; 4 negatives.
    maps, regions = [row(9, 7, 3, 2, 8, 6, 1, 0)], [marks("xxxx....").unsqueeze(0)]
    areas = thfr_ext.au_spro(maps, regions, [[2]], (0.25, 0.5, 1.0))
    assert areas == {0.25: 0.5, 0.5: 0.75, 1.0: 0.875}
    assert thfr_ext.au_spro(maps, regions, [[4]], (0.5,))[0.5] == pytest.approx((0.25 + 0.5) / 2)
    assert thfr_ext.au_spro(maps, regions, [[1]], (1.0,))[1.0] == 1.0


def test_a_tie_is_a_straight_segment() -> None:
    # All 2 region pixels and 2 of 4 negatives score 5: a line from (0, 0) to (1/2, 1).
    maps, masks = row(5, 5, 5, 5, 1, 1).unsqueeze(0), marks("xx....").unsqueeze(0)
    assert thfr_ext.au_pro(maps, masks, 0.25) == pytest.approx(0.25)
    assert thfr_ext.au_pro(maps, masks, 0.5) == pytest.approx(0.5)
    assert thfr_ext.au_pro(maps, masks, 1.0) == pytest.approx(0.75)


@pytest.mark.parametrize("limit", [0.01, 0.3, 1.0])
def test_a_constant_map_is_a_diagonal(limit: float) -> None:
    maps, masks = torch.full((2, 8, 8), 3.5), torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, 2:4, 2:4] = True
    assert thfr_ext.au_pro(maps, masks, limit) == pytest.approx(limit / 2)
    assert thfr_ext.auroc(maps, masks) == 0.5


def test_fpr_is_that_of_the_set_not_of_each_image() -> None:
    maps = torch.stack([row(9, 0, 0), row(10, 10, 10)])
    masks = torch.stack([marks("x.."), marks("...")])
    # 3 of 5 negatives score above the region.
    assert thfr_ext.au_pro(maps, masks, 0.6) == 0
    assert thfr_ext.au_pro(maps, masks, 1.0) == pytest.approx(0.4)


def test_regions_count_the_same_whatever_their_size() -> None:
    maps, masks = row(9, 0, 1, 1, 1, 1, 1, 0).unsqueeze(0), marks("x.xxxxx.").unsqueeze(0)
    assert thfr_ext.au_pro(maps, masks, 1.0) == 1.0
    maps = row(9, 5, 1, 1, 1, 1, 1, 5).unsqueeze(0)
    assert thfr_ext.au_pro(maps, masks, 1.0) == 0.5


def test_a_perfect_map_has_area_one_and_its_negative_zero() -> None:
    masks = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0)) < 0.1
    for limit in (0.01, 0.3, 1.0):
        assert thfr_ext.au_pro(masks.float(), masks, limit) == 1.0
        assert thfr_ext.au_pro(-masks.float(), masks, limit) == 0.0


def test_no_good_image_is_needed() -> None:
    # The 4 negatives score 7, 1, 8, 4; below the pixels 6, 0, 9, 5 of the 4 regions lie 2, 0, 4, 2 of them.
    maps = torch.stack([row(7, 6, 1, 0), row(9, 8, 5, 4)])
    masks = torch.stack([marks(".x.x"), marks("x.x.")])
    assert thfr_ext.au_pro(maps, masks, 1.0) == pytest.approx((2 + 0 + 4 + 2) / 16)
