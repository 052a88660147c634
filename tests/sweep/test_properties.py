"""What must hold for every input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import thfr_ext
from thfr_ext.metrics import AUPRO

scores = st.floats(-3, 3, width=16) | st.sampled_from([0.0, -0.0, float("inf"), -float("inf")])


@st.composite
def sets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Maps and masks [N,H,W] with a pixel of each class at least."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(2, 9)))
    maps = draw(arrays(np.float32, shape, elements=scores))
    masks = draw(arrays(bool, shape))
    masks[0, 0, :2] = True, False
    return maps, masks


LIMIT = st.floats(0.001, 1)


@settings(deadline=None, max_examples=150)
@given(sets(), LIMIT)
def test_a_share_and_no_matter_in_what_order(given_set: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    maps, masks = given_set
    area = thfr_ext.au_pro(maps, masks, limit)
    assert 0 <= area <= 1
    assert area == thfr_ext.au_pro(maps[::-1].copy(), masks[::-1].copy(), limit)
    assert area == thfr_ext.au_pro(maps[:, ::-1, ::-1], masks[:, ::-1, ::-1], limit)
    assert area == thfr_ext.au_pro(maps.transpose(0, 2, 1), masks.transpose(0, 2, 1), limit)


@settings(deadline=None, max_examples=100)
@given(sets(), LIMIT)
def test_only_the_order_of_scores_matters(given_set: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    maps, masks = given_set
    area = thfr_ext.au_pro(maps, masks, limit)
    wide = maps.astype(np.float64)
    for same in (
        np.arctan(wide),
        3 * wide - 8,
        np.unique(maps + 0.0, return_inverse=True)[1].reshape(maps.shape) * 1.0,
    ):
        assert thfr_ext.au_pro(same, masks, limit) == area


@settings(deadline=None, max_examples=100)
@given(sets(), LIMIT)
def test_batches_do_not_matter(given_set: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    maps, masks = given_set
    metric, other = AUPRO(limit), AUPRO(limit)
    for i in range(len(maps)):
        (metric if i % 2 else other).update(maps[i : i + 1], masks[i : i + 1])
    metric.merge_state(other)
    assert metric.compute().item() == thfr_ext.au_pro(maps, masks, limit)


@settings(deadline=None, max_examples=60)
@given(sets())
def test_the_area_is_that_of_the_curve(given_set: tuple[np.ndarray, np.ndarray]) -> None:
    maps, masks = given_set
    fpr, overlap, thresholds = thfr_ext.pro_curve(maps, masks)
    assert thfr_ext.au_pro(maps, masks, 1.0) == pytest.approx(np.trapezoid(overlap, fpr), abs=1e-12)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(overlap) >= 0).all()
    assert (np.diff(thresholds[:-1]) < 0).all()
    assert len(fpr) == len(np.unique(maps + 0.0)) + 1


@settings(deadline=None, max_examples=60)
@given(sets(), st.data())
def test_lower_saturations_give_more(given_set: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    maps, masks = given_set
    regions = [mask[None] if mask.any() else mask[None][:0] for mask in masks]
    high = [[data.draw(st.integers(1, int(m.sum()) + 3)) for m in r] for r in regions]
    low = [[data.draw(st.integers(1, s)) for s in image] for image in high]
    more, less = thfr_ext.au_spro(list(maps), regions, low), thfr_ext.au_spro(list(maps), regions, high)
    assert all(more[limit] >= less[limit] - 1e-12 for limit in more)


@pytest.mark.parametrize("limit", [0.05, 1.0])
def test_thread_counts_do_not_show(limit: float) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = (torch.randn(5, 200, 300, generator=generator) * 1000).round() / 1000
    masks = (
        torch.nn.functional.max_pool2d((torch.rand(5, 200, 300, generator=generator) < 1e-3).float(), 9, 1, 4)
        > 0
    )
    regions = [m.unsqueeze(0) for m in masks]
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 8, 2):
            torch.set_num_threads(count)
            results.append(
                (
                    thfr_ext.au_pro(maps, masks, limit),
                    thfr_ext.au_spro(list(maps), regions, [[500]] * 5, (limit,))[limit],
                    thfr_ext.auroc(maps, masks),
                    *(tuple(column.tolist()) for column in thfr_ext.pro_curve(maps, masks)),
                )
            )
    finally:
        torch.set_num_threads(threads)
    assert all(result == results[0] for result in results)
