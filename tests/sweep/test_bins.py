"""The bins of bounded metrics: what they hold, a plain twin, guards."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import bins_twin
from support.bins_twin import hold
from torch import Tensor

from thfr_ext import _C, reference
from thfr_ext.core.tensors import view
from thfr_ext.metrics import bins

OPS = torch.ops.thfr_ext
INF = float("inf")


def random(n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_the_plain_twin_gives_the_same() -> None:
    """Of sketches and scores together; areas of the bins against their two ends."""
    sketches = [bins.merge_bins([], random(n, n), 40, 0.0, True)[0] for n in (900, 100)]
    found, share = bins.merge_bins(sketches, random(500, 7), 60, 0.01, True)
    expected, wanted = bins_twin.merge_bins(sketches, random(500, 7), 60, 0.01, True)
    assert torch.equal(found, expected)
    assert share == wanted
    limits = [0.05, 0.3, 1.0]
    for end, area in enumerate(bins.bins_area(*sketches, 100.0, limits)):
        low, high = sketches[0][end], sketches[1][1 - end]
        scores = [x.repeat_interleave(s[2]).double() for x, s in zip((low, high), sketches, strict=True)]
        regions = torch.tensor([0, 100]), torch.tensor([100])
        torch.testing.assert_close(area, OPS.spro_area(*scores, *regions, limits), rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.data())
def test_bins_bound_the_scores(data: st.DataObject) -> None:
    """However sketches grow and merge, natively and in the twin, which are equal."""
    most, relative = data.draw(st.integers(16, 80)), data.draw(st.booleans())
    sketches: list[tuple[Tensor, Tensor]] = []
    share = 0.0
    for step in range(data.draw(st.integers(1, 6))):
        scale, shift = data.draw(st.sampled_from([1.0, 1e-3, 40.0])), data.draw(st.sampled_from([0.0, 0.3]))
        scores = random(data.draw(st.integers(0, 300)), step) * scale + shift
        if data.draw(st.booleans()):
            scores = (scores * 16).round() / 16
        taken = sketches[: data.draw(st.integers(0, 2))]
        arguments = [sketch for sketch, _ in taken], scores, most, share, relative
        sketch, raised = bins.merge_bins(*arguments)
        expected, wanted = bins_twin.merge_bins(*arguments)
        assert torch.equal(sketch, expected)
        assert raised == wanted
        everything = torch.cat([scores, *(s for _, s in taken)])
        assert sketch.shape[1] <= most
        assert hold(sketch, everything)
        share = raised
        sketches = [(sketch, everything), *sketches[len(taken) :]]


def test_few_distinct_scores_stay_exact() -> None:
    scores = (random(100_000) * 50).floor()
    sketch, share = bins.merge_bins([], scores, 60, 0.0, True)
    assert share == 0
    assert torch.equal(sketch[0], sketch[1])
    assert torch.equal(sketch[0].flip(0), bins.to_order(scores.unique()))
    assert torch.equal(sketch[2].flip(0), scores.unique(return_counts=True)[1])


def test_areas_of_exact_bins_are_exact() -> None:
    negatives, positives = (random(3000) * 90).floor(), (random(200, 1) * 110).floor()
    sketches = [bins.merge_bins([], x, 200, 0.0, True)[0] for x in (negatives, positives)]
    limits = [0.001, 0.0371, 0.3, 1.0]
    low, high = bins.bins_area(*sketches, 200.0, limits)
    expected = reference.spro_area(negatives, positives, torch.tensor([0, 200]), torch.tensor([200]), limits)
    torch.testing.assert_close(low, expected, rtol=0, atol=1e-12)
    assert torch.equal(low, high)


def test_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="merge_bins: scores: expected numbers, got NaN"):
        bins.merge_bins([], torch.tensor([torch.nan]), 60, 0.0, True)


def test_the_module_itself_guards_memory() -> None:
    sketch, limits = bins.merge_bins([], random(100), 40, 0.0, True)[0], torch.ones(1).double()
    rising = sketch.flip(1).contiguous()
    heavy = sketch.clone()
    heavy[2, :2] = torch.iinfo(torch.int64).max
    for bad in (rising, heavy, -sketch, sketch[:2].contiguous(), sketch.T, random(9)):
        with pytest.raises(ValueError, match="merge_bins: arguments do not fit"):
            _C.merge_bins([view(bad)], view(random(3)), 60, 0.0, True, 1)
        with pytest.raises(ValueError, match="bins_area: arguments do not fit"):
            _C.bins_area(view(sketch), view(bad), 1.0, view(limits), view(torch.ones(2).double()))
    maps, mask = random(6).view(2, 3), torch.tensor([[True, False, False], [False, True, True]])
    for count, room in ((3, 4), (7, 7), (-1, 3)):
        counts, scores = torch.tensor([count]), torch.empty(room)
        with pytest.raises(ValueError, match="negative_scores: arguments do not fit"):
            _C.negative_scores([view(maps)], [view(mask)], view(counts), view(scores), 1)
    counts, scores = torch.tensor([2]), torch.zeros(2)  # a count too low is kept to
    _C.negative_scores([view(maps)], [view(mask)], view(counts), view(scores), 1)
    assert torch.equal(scores, maps[0, 1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_negatives_of_any_layout(dtype: torch.dtype) -> None:
    maps = random(2 * 40 * 60).view(2, 40, 60).to(dtype)
    masks = random(2 * 40 * 60, 1).view(2, 40, 60) < 0.3
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for images, marks in ((maps, masks), (maps.mT, masks.mT), (maps[:, ::2, 1::3], masks[:, ::2, 1::3])):
        negatives = OPS.component_samples(list(images), list(marks))[0]
        assert negatives.dtype == wide
        assert torch.equal(negatives, torch.cat([m[~k] for m, k in zip(images, marks, strict=True)]).to(wide))
