"""Numbers that are none of ours: kernels stay inside of their tensors, which AddressSanitizer watches."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from support.sweep_kernels import rand
from torch import Tensor

from thfr_ext.core.tensors import view
from thfr_ext.sweep import cuda as sweep_cuda
from thfr_ext.sweep.cuda import _view, _views

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
    place, rank, used = (junk(PIXELS, 10 * seed + i) for i in range(3))
    region = junk(PIXELS, 10 * seed + 3, torch.int32) % (REGIONS + 3) - 1
    offsets, saturations = junk(REGIONS + 1, 10 * seed + 4), junk(REGIONS, 10 * seed + 5)
    sums, twice = junk(2 * PIXELS + 1, 10 * seed + 6), junk(PIXELS, 10 * seed + 7)
    order = [_view(t) for t in (place, region, offsets, saturations)]
    flags, flag = torch.zeros(PIXELS, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    device.cuda_flag_used(*order, view(rank), view(flags), 0)
    shares = torch.empty(2, REGIONS, dtype=torch.float64)
    for with_used in (used, used[:0]):
        distinct = view(rank), view(with_used)
        device.cuda_double_ranks(*order, *distinct, view(sums), view(flags), 0)
        device.cuda_share_areas(
            *order, *distinct, view(sums), view(twice), [0.1, 1.0], view(flag), view(shares), 0
        )
        for dtype in (torch.int32, torch.int64):
            keys, sizes = (
                junk(PIXELS, seed, dtype),
                torch.empty(device.cuda_sweep_segments(), dtype=torch.int64),
            )
            values = torch.empty_like(keys)
            device.cuda_make_values(_view(keys), *distinct, _view(values), view(sizes), 0)
            table = torch.empty(PIXELS + len(sizes) + 1, dtype=torch.int32)
            ends = sizes.clamp_min(0).cumsum(0)
            device.cuda_make_table(*distinct, _view(values), view(ends), _view(table), 0)
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
    offsets, summary = torch.empty(4, dtype=torch.int64), torch.zeros(5, dtype=torch.int64)
    wrong, saturations = junk(len(marks.sums) + len(marks.union_sums), seed), junk(3, seed)
    device.cuda_find_offsets(_views(regions), view(wrong), view(saturations), view(offsets), view(summary), 0)


def test_the_module_guards_memory(device: ModuleType) -> None:
    """Shapes and dtypes that do not fit are refused."""
    wide, marks = rand(4, 5), [rand(1, 4, 5) < 0.5]
    maps = [wide.float()]
    one, two, four, five = (view(torch.zeros(n, dtype=torch.int64)) for n in (1, 2, 4, 5))
    none, floats, doubles = view(torch.zeros(0).long()), view(rand(3).float()), view(rand(3))
    of_maps, of_marks = _views(maps), _views(marks)
    calls = [
        lambda: device.cuda_count_marks(of_marks, none, one, 0),
        lambda: device.cuda_count_marks(_views([marks[0].expand(2, 4, 5)]), none, five, 0),
        lambda: device.cuda_count_marks([], none, two, 0),
        lambda: device.cuda_count_marks(_views([marks[0][:, :0]]), none, two, 0),
        lambda: device.cuda_find_offsets(of_marks, two, none, one, five, 0),
        lambda: device.cuda_find_offsets(of_marks, two, none, two, four, 0),
        lambda: device.cuda_collect_scores(
            [view(wide)], of_marks, one, True, False, [], floats, none, one, 0
        ),
        lambda: device.cuda_collect_scores(of_maps, of_marks, two, True, False, [], floats, none, one, 0),
        lambda: device.cuda_collect_scores(
            of_maps, of_marks, one, True, True, of_maps * 2, floats, none, one, 0
        ),
        lambda: device.cuda_find_roots(of_marks, five, one, 0),
        lambda: device.cuda_make_keys(doubles, floats, 0),
        lambda: device.cuda_flag_changes(five, four, 0),
        lambda: device.cuda_rank_area(five, five, True, 1.0, two, one, doubles, 0),
        lambda: device.cuda_flag_used(five, floats, one, none, five, five, 0),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="arguments do not fit each other"):
            call()
