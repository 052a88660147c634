"""Marked pixels are counted, collected and labelled as by PyTorch, SciPy and the CPU's kernels."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import ndimage
from support.sweep_kernels import DTYPES, LAYOUTS, ONE_ORDER, rand
from torch import Tensor

from thfr_ext.sweep import cuda as sweep_cuda
from thfr_ext.sweep import labels as sweep_labels

CHUNK = 512  # pixels of a warp
OPERATORS = torch.ops.thfr_ext


def masks_of(shape: tuple[int, ...], density: float, seed: int = 0) -> Tensor:
    made = rand(*shape, seed=seed) < density
    made[..., -1, -1] = True
    return made


def check_samples(maps: list[Tensor], regions: list[Tensor]) -> None:
    for found, expected in zip(
        sweep_cuda.region_samples(maps, regions), OPERATORS.region_samples(maps, regions), strict=True
    ):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


@ONE_ORDER
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mark_layout", LAYOUTS)
def test_layouts(layout: str, mark_layout: str, dtype: torch.dtype, device: ModuleType) -> None:
    """The order of samples is that of the CPU, whatever the memory."""
    maps = [LAYOUTS[layout](rand(24, 64, seed=i).to(dtype)) for i in range(2)]
    regions = [LAYOUTS[mark_layout](masks_of((r, 24, 64), 0.3, seed=r)) for r in (1, 3)]
    check_samples(maps, regions)


@pytest.mark.parametrize("width", [1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 8 * CHUNK + 3])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_sizes(width: int, density: float, device: ModuleType) -> None:
    for shape in ((1, width), (width, 1)):
        for count in (1, 2):
            check_samples([rand(*shape).float()], [masks_of((count, *shape), density)])


def test_many_images(device: ModuleType) -> None:
    """More than a launch takes, of mixed sizes, dtypes and numbers of regions, some of them good."""
    sizes = [(1 + 7 * i % 40, 1 + 5 * i % 31) for i in range(60)]
    maps = [rand(*s, seed=i).to(DTYPES[i // 13 % 4]) for i, s in enumerate(sizes)]
    regions = [
        masks_of((i % 4, *s), 0.2, seed=i) if i % 4 else torch.empty(0, *s) > 0 for i, s in enumerate(sizes)
    ]
    check_samples(maps, regions)
    check_samples(maps[:2] * 13, [r[:0] for r in regions[:2]] * 13)  # no region at all
    narrow = [m for m in maps if m.dtype != torch.float64]
    check_samples(narrow, [r for r, m in zip(regions, maps, strict=True) if m.dtype != torch.float64])


def test_summary(device: ModuleType) -> None:
    regions = [masks_of((2, 30, 40), 0.3), torch.zeros(0, 7, 9) > 0, masks_of((1, 64, 65), 0.1, seed=1)]
    areas = torch.cat([r.flatten(1).sum(1) for r in regions])
    saturations = areas.clone()
    marks = sweep_cuda._look(regions, saturations)
    assert marks.pixels == areas.sum()
    assert torch.equal(marks.offsets, torch.nn.functional.pad(areas.cumsum(0), (1, 0)))
    assert marks.negatives == sum(int((~r.any(0)).sum()) for r in regions)
    assert not any((marks.empty, marks.low, marks.nan))
    for region, union in zip(regions, marks.unions, strict=True):
        assert torch.equal(union.any(0), region.any(0))
    saturations[0] = 0
    assert sweep_cuda._look(regions, saturations).low
    regions[0][1] = False
    assert sweep_cuda._look(regions).empty


def test_bytes_other_than_one_are_marks(device: ModuleType) -> None:
    for byte in (1, 2, 4, 8, 16, 32, 64, 128, 255):
        marks = (masks_of((1, 40, 64), 0.1) * byte).to(torch.uint8).view(torch.bool)
        assert sweep_cuda._look([marks]).pixels == int((marks.view(torch.uint8) != 0).sum())


# labels


def spiral(side: int) -> Tensor:
    mask, (y, x), (dy, dx) = torch.zeros(side, side, dtype=torch.bool), (0, 0), (0, 1)
    for _ in range(side * side):
        mask[y, x] = True
        ahead, next_but_one = (y + dy, x + dx), (y + 2 * dy, x + 2 * dx)
        inside = 0 <= ahead[0] < side and 0 <= ahead[1] < side
        far = 0 <= next_but_one[0] < side and 0 <= next_but_one[1] < side
        if not inside or (far and mask[next_but_one]):
            dy, dx = dx, -dy
            if mask[y + dy, x + dx]:
                break
        y, x = y + dy, x + dx
    return mask


def comb(side: int) -> Tensor:
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[:, ::2] = True
    mask[-1] = True
    return mask


SHAPES = {
    "spiral": spiral(45),
    "comb": comb(50),
    "comb upside down": comb(50).flip(0),
    "full": torch.ones(70, 66, dtype=torch.bool),
    "empty": torch.zeros(33, 40, dtype=torch.bool),
    "diagonals": torch.eye(64, dtype=torch.bool) | torch.eye(64, dtype=torch.bool).flip(0),
    "checkers": (torch.arange(40).unsqueeze(1) + torch.arange(41)) % 2 == 0,
    "isolated": ((torch.arange(40) % 2 == 0).unsqueeze(1) & (torch.arange(41) % 2 == 0)),
    "sparse": rand(70, 60) < 0.1,
    "percolating": rand(70, 60) < 0.4,
    "dense": rand(70, 60) < 0.7,
    "column": torch.ones(700, 1, dtype=torch.bool),
    "row": torch.ones(1, 700, dtype=torch.bool),
    "pixel": torch.ones(1, 1, dtype=torch.bool),
}


def scikit_labels(masks: Tensor) -> tuple[Tensor, Tensor]:
    found = [ndimage.label(m.numpy(), np.ones((3, 3))) for m in masks]
    return torch.stack([torch.from_numpy(x).long() for x, _ in found]), torch.tensor([n for _, n in found])


@pytest.mark.parametrize("shape", SHAPES)
def test_labels(shape: str, order: int, device: ModuleType) -> None:
    mask = SHAPES[shape]
    masks = torch.stack([mask, mask.flip(0), torch.zeros_like(mask), mask.flip(1)])
    for i, layout in enumerate(("contiguous", "strided", "columns")):
        device.set_options(seed=order and order + 10 * i)
        laid = LAYOUTS[layout](masks)
        labels, counts = sweep_labels.label_regions(laid)
        expected = scikit_labels(laid)
        assert torch.equal(labels, expected[0])
        assert torch.equal(counts, expected[1])


def test_labels_of_many_images(device: ModuleType) -> None:
    masks = rand(60, 13, 45) < 0.3
    assert all(map(torch.equal, sweep_labels.label_regions(masks), scikit_labels(masks)))
    maps = list(rand(60, 13, 45, seed=1).float())
    cut = [m[: 1 + i % 13, : 40 + i % 6] for i, m in enumerate(maps)]
    marks = [m[: 1 + i % 13, : 40 + i % 6] for i, m in enumerate(masks)]
    for found, expected in zip(
        sweep_cuda.component_samples(cut, marks), OPERATORS.component_samples(cut, marks), strict=True
    ):
        assert torch.equal(found, expected)
