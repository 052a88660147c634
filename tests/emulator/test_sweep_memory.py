"""Numbers that are none of ours: kernels stay inside of their tensors, which AddressSanitizer watches."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from support.sweep_kernels import rand
from torch import Tensor

from thfr_ext.core.tensors import view
from thfr_ext.sweep import cuda as sweep_cuda
from thfr_ext.sweep.cuda import _Index, _view, _views

PIXELS, REGIONS = 700, 5


def junk(n: int, seed: int, dtype: torch.dtype = torch.int64) -> Tensor:
    """Small numbers, large ones and negative ones."""
    generator = torch.Generator().manual_seed(seed)
    most = 2**40 if dtype == torch.int64 else 2**31 - 1
    far = torch.randint(-most, most, (n,), generator=generator)
    near = torch.randint(-3, 2 * PIXELS, (n,), generator=generator)
    return torch.where(torch.rand(n, generator=generator) < 0.3, far, near).to(dtype)


@pytest.mark.parametrize("seed", range(4))
def test_junk_among_ranks(seed: int, device: ModuleType) -> None:
    place, region = (junk(PIXELS, 10 * seed + i, torch.int32) for i in range(2))
    region = region % (REGIONS + 3) - 1
    rank, offsets, saturations = (junk(n, 10 * seed + n) for n in (PIXELS, REGIONS + 1, REGIONS))
    sums, twice = junk(2 * PIXELS + 1, 10 * seed + 6), torch.empty(PIXELS, dtype=torch.int64)
    flag, nothing = torch.zeros(1, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    shares, areas = torch.empty(2, REGIONS, dtype=torch.float64), torch.empty(2, dtype=torch.float64)
    scratch = torch.empty(device.cuda_sweep_scratch(1, PIXELS), dtype=torch.bool)
    for dtype in (torch.int32, torch.int64):
        index = _Index.of(junk(PIXELS, seed, dtype), 0)  # keys that are not sorted
        index.rank.copy_(rank)
        index.ends.copy_(junk(len(index.ends), seed))
        index.values.copy_(junk(PIXELS, seed, dtype))
        for bounds in ((offsets, saturations), (offsets, nothing), (nothing, nothing)):
            order = (*map(_view, (place, region, *bounds)), REGIONS)
            results = view(flag), view(shares), view(areas), view(scratch)
            device.cuda_share_areas(order, index.views(), view(sums), view(twice), [0.1, 1.0], *results, 0)
    total, area = torch.zeros(2, dtype=torch.int64), torch.empty(1, dtype=torch.float64)
    device.cuda_rank_area(view(rank), view(sums), True, 1.0, view(total), view(flag), view(area), 0)


@pytest.mark.parametrize("seed", range(4))
def test_junk_among_chunks(seed: int, device: ModuleType) -> None:
    """Sums of marked pixels that are not those of the masks, and labels that are none."""
    maps, regions = [rand(50, 60).float(), rand(7, 9).float()], [rand(2, 50, 60) < 0.3, rand(1, 7, 9) < 0.3]
    marks = sweep_cuda._look(regions)
    flag = torch.zeros(1, dtype=torch.int64)
    labels = [junk(m.numel(), seed, torch.int32).view(m.shape) for m in maps]
    for marked, sums in ((True, marks.sums), (False, marks.union_sums)):
        scores = torch.empty(300)
        region = torch.empty(300 if marked else 0, dtype=torch.int32)
        wrong, masks = junk(len(sums), seed), _views(regions if marked else marks.unions)
        results = view(scores), _view(region), view(flag)
        device.cuda_collect_scores(
            _views(maps), masks, view(wrong), marked, False, _views(labels), *results, 0
        )
    offsets, summary = torch.empty(4, dtype=torch.int64), torch.zeros(8, dtype=torch.int64)
    wrong, saturations = junk(len(marks.sums) + len(marks.union_sums), seed), junk(3, seed)
    found = view(saturations[:1])
    device.cuda_find_offsets(
        _views(regions), view(wrong), view(saturations), found, view(offsets), view(summary), 0
    )


def test_the_module_guards_memory(device: ModuleType) -> None:
    """Shapes and dtypes that do not fit are refused."""
    wide, marks = rand(4, 5), [rand(1, 4, 5) < 0.5]
    maps = [wide.float()]
    one, two, four, five, eight = (view(torch.zeros(n, dtype=torch.int64)) for n in (1, 2, 4, 5, 8))
    none, floats, doubles = view(torch.zeros(0).long()), view(rand(3).float()), view(rand(3))
    no_bytes, some_bytes = (view(torch.zeros(n, dtype=torch.bool)) for n in (0, 64))
    of_maps, of_marks = _views(maps), _views(marks)
    made = _Index.of(torch.arange(5), 0)
    index, bins, ints = made.views(), view(made.bins), _view(torch.zeros(5, dtype=torch.int32))
    order = (ints, ints, none, none, 2)
    results = view(torch.empty(1, 2, dtype=torch.float64)), view(torch.empty(1, dtype=torch.float64))
    calls = [
        lambda: device.cuda_count_marks(of_marks, no_bytes, one, eight, some_bytes, 0),
        lambda: device.cuda_count_marks(of_marks, no_bytes, two, five, some_bytes, 0),
        lambda: device.cuda_count_marks(of_marks, no_bytes, two, eight, no_bytes, 0),
        lambda: device.cuda_count_marks(
            _views([marks[0].expand(2, 4, 5)]), no_bytes, five, eight, some_bytes, 0
        ),
        lambda: device.cuda_count_marks([], no_bytes, two, eight, some_bytes, 0),
        lambda: device.cuda_count_marks(_views([marks[0][:, :0]]), no_bytes, two, eight, some_bytes, 0),
        lambda: device.cuda_find_offsets(of_marks, two, none, none, one, eight, 0),
        lambda: device.cuda_find_offsets(of_marks, two, none, none, two, four, 0),
        lambda: device.cuda_find_offsets(of_marks, two, none, two, two, eight, 0),
        lambda: device.cuda_collect_scores(
            [view(wide)], of_marks, one, True, False, [], floats, none, one, 0
        ),
        lambda: device.cuda_collect_scores(of_maps, of_marks, two, True, False, [], floats, none, one, 0),
        lambda: device.cuda_collect_scores(
            of_maps, of_marks, one, True, True, of_maps * 2, floats, none, one, 0
        ),
        lambda: device.cuda_find_roots(of_marks, five, one, some_bytes, 0),
        lambda: device.cuda_make_keys(doubles, floats, 0),
        lambda: device.cuda_sort_scores(five, ints, four, ints, 0, some_bytes, 0),
        lambda: device.cuda_sort_scores(five, five, five, ints, 0, some_bytes, 0),
        lambda: device.cuda_sort_scores(five, ints, five, ints, 32, some_bytes, 0),
        lambda: device.cuda_sort_scores(five, ints, five, ints, 0, no_bytes, 0),
        lambda: device.cuda_make_index(four, index, bins, none, some_bytes, 0),
        lambda: device.cuda_make_index(five, index, five, none, some_bytes, 0),
        lambda: device.cuda_make_index(five, index, bins, five, some_bytes, 0),
        lambda: device.cuda_count_scores([view(wide)], of_marks, True, index, five, one, some_bytes, 0),
        lambda: device.cuda_count_scores([view(wide)], of_marks, True, index, bins, one, no_bytes, 0),
        lambda: device.cuda_order_regions(five, ints, order, some_bytes, 0),
        lambda: device.cuda_order_regions(ints, ints, (*order[:3], two, 2), some_bytes, 0),
        lambda: device.cuda_share_areas(order, index, five, five, [0.1], one, *results, some_bytes, 0),
        lambda: device.cuda_share_areas(order, index, bins, five, [0.1] * 2, one, *results, some_bytes, 0),
        lambda: device.cuda_rank_area(five, five, True, 1.0, two, one, doubles, 0),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="arguments do not fit each other"):
            call()


def test_too_little_scratch_is_refused(device: ModuleType) -> None:
    """By the library, which knows what it needs."""
    keys, region = torch.arange(500), _view(torch.zeros(500, dtype=torch.int32))
    with pytest.raises(RuntimeError, match="sort_scores"):
        device.cuda_sort_scores(view(keys), region, view(keys.clone()), region, 0, view(keys[:1] > 0), 0)
