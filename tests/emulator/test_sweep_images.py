"""Marked pixels are counted as by PyTorch and, in any order of threads, labelled as by SciPy."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import ndimage
from support.sweep_kernels import LAYOUTS, masks_of, rand
from torch import Tensor

from thfr_ext.sweep import cuda as sweep_cuda
from thfr_ext.sweep import labels as sweep_labels


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
