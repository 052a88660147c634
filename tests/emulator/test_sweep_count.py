"""Counting among values: the kernel and PyTorch give the same bins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.sweep_kernels import (
    DTYPES,
    INF,
    LAYOUTS,
    ONE_ORDER,
    VALUES,
    count,
    expected_bins,
    make_index,
    rand,
)
from torch import Tensor

from thfr_ext.core import devices
from thfr_ext.sweep.cuda import _unmarked

TILE = 4096  # pixels that a block takes in at once
BLOCKS = 15  # that the emulator starts at most
NARROW = [dtype for dtype in DTYPES if dtype != torch.float64]
NEAR = 1024  # values whose counters are kept in shared memory


def wide_of(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def check(
    device: ModuleType, scores: Tensor, maps: list[Tensor], marks: list[Tensor], **options: bool
) -> None:
    index = make_index(scores)
    bins, nan = count(device, index, maps, marks, **options)
    assert torch.equal(bins, expected_bins(scores, maps, marks, options.get("marked", False)))
    assert not nan


@ONE_ORDER
@pytest.mark.parametrize("values", [300, NEAR, NEAR + 1, 3000], ids=lambda n: f"{n} values")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", VALUES)
def test_values(kind: str, dtype: torch.dtype, values: int, device: ModuleType) -> None:
    """Few values are counted in shared memory, many in global."""
    maps = [VALUES[kind](rand(40, 51)).to(dtype)]
    scores = VALUES[kind](rand(values, seed=1)).to(dtype).to(wide_of(dtype))
    if kind == "random" and values <= NEAR + 1 and dtype in (torch.float32, torch.float64):
        assert len(scores.unique()) == values  # so that both sides of the bound are seen
    check(device, scores, maps, [rand(1, 40, 51, seed=2) < 0.3])


@ONE_ORDER
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mark_layout", [*LAYOUTS, "none"])
def test_layouts(layout: str, mark_layout: str, device: ModuleType) -> None:
    for dtype in DTYPES:
        map_ = LAYOUTS[layout](VALUES["random"](rand(37, 64)).to(dtype))
        marks = rand(1, 37, 64, seed=2) < 0.3
        marks = (
            torch.empty(0, 37, 64, dtype=torch.bool) if mark_layout == "none" else LAYOUTS[mark_layout](marks)
        )
        scores = map_.flatten()[::7].to(wide_of(dtype))
        check(device, scores, [map_], [marks])


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 15, 17, TILE - 1, TILE, TILE + 1, TILE + 4, 2 * TILE + 3])
def test_sizes(width: int, device: ModuleType) -> None:
    for dtype in DTYPES:
        for shape in ((1, width), (width, 1)):
            map_ = rand(*shape).to(dtype)
            check(device, rand(50, seed=1).to(wide_of(dtype)), [map_], [rand(1, *shape, seed=2) < 0.5])


@pytest.mark.parametrize("values", [40, 2000], ids=["near", "global"])
@pytest.mark.parametrize("marked", [False, True])
def test_more_tiles_than_blocks(values: int, marked: bool, device: ModuleType) -> None:
    """Images of several dtypes and sizes, more than a launch takes, and more tiles than blocks."""
    sizes = [(1, 1), (7, 9), (3 * TILE, 1), (64, 129)] * 7 + [(BLOCKS, TILE), (5, 5)]
    maps = [rand(*s, seed=i).to(NARROW[i // 3 % 3]) for i, s in enumerate(sizes)]
    marks = [rand(1, *s, seed=i + 99) < 0.5 for i, s in enumerate(sizes)]
    marks[1] = marks[1][:0]
    check(device, rand(values, seed=5).float(), maps, marks, marked=marked)
    check(device, rand(values, seed=5), [m.double() for m in maps], marks, marked=marked)


@ONE_ORDER
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("place", [0, 5, 4095, 4096, 5000, 5182])
def test_nan(place: int, dtype: torch.dtype, device: ModuleType) -> None:
    """Wherever it is, of either sign; not where the mask leaves it out."""
    for number in (torch.nan, -torch.nan, INF, -INF):
        map_ = torch.ones(71, 73).to(dtype)
        map_.view(-1)[place] = torch.copysign(torch.tensor(number), torch.tensor(number)).to(dtype)
        marks = torch.zeros(1, 71, 73, dtype=torch.bool)
        index = make_index(torch.ones(1).to(wide_of(dtype)))
        assert count(device, index, [map_], [marks])[1] == bool(map_.isnan().any())
        marks.view(-1)[place] = True
        assert not count(device, index, [map_], [marks])[1]


def test_without_values(device: ModuleType) -> None:
    maps = [rand(50, 90).float(), rand(3, 5).half()]
    nothing = make_index(torch.empty(0))
    assert count(device, nothing, maps, _unmarked(maps)) == (torch.tensor([4515]), False)
    maps[1][2, 4] = torch.nan
    assert count(device, nothing, maps, _unmarked(maps))[1]


def test_table(device: ModuleType) -> None:
    """Buckets are many where values are many: unless some lie far away, none holds more than a few."""
    far = torch.cat([rand(5000) * 1e-3 + 1, torch.tensor([INF])])
    for scores, most in ((rand(5000).float(), 20), (rand(5000) ** 9, 20), (far, 2000), (far.float(), 600)):
        index = make_index(scores)
        buckets = int(index.ends[-1])
        sizes = index.table[: buckets + 1].long().diff()
        assert buckets <= len(scores) + len(index.ends)
        assert index.table[0] == 0
        assert index.table[buckets] == len(scores.unique())
        assert 0 <= sizes.min() <= sizes.max() < most


#: where a child process finds this file and what it imports
PLACES = [str(Path(__file__).parent), str(Path(__file__).parents[1])]


def counts_right(values: int, barriers: int) -> bool:
    # The last warp of a block counts, the others do not and are done long before.
    place = torch.arange(4 * BLOCKS * TILE)
    maps = [torch.where(place // 4 % 256 >= 224, rand(len(place)), -1).float().view(1, -1)]
    marks = [rand(1, 1, len(place), seed=1) < 0.2]
    scores = rand(values, seed=2).float()
    index = make_index(scores)
    devices.native.statistics()
    devices.native.set_options(*map(int, sys.argv[1:]))
    bins, _ = count(devices.native, index, maps, marks)
    assert devices.native.statistics() == (1, barriers)
    return torch.equal(bins, expected_bins(scores, maps, marks))


@pytest.mark.parametrize(("values", "barriers"), [(300, 2), (2000, 1)], ids=["near", "global"])
def test_barriers(values: int, barriers: int, emulated: ModuleType) -> None:
    """Each is needed: without it some order of the threads gives wrong bins, or a crash."""
    code = (
        f"import sys; sys.path[:0] = [{os.environ['THFR_EMULATED']!r}, *{PLACES!r}]\n"
        "import _emulated\n"
        "from thfr_ext.core import devices\n"
        "devices.native = _emulated\n"
        "import test_sweep_count\n"
        f"sys.exit(not test_sweep_count.counts_right({values}, {barriers}))"
    )

    def right(seed: int, dropped: int) -> bool:
        command = [sys.executable, "-c", code, str(seed), str(dropped)]
        return subprocess.run(command, capture_output=True, timeout=120).returncode == 0

    assert right(1, -1)
    for dropped in range(barriers):
        assert not all(right(seed, dropped) for seed in range(1, 6))
