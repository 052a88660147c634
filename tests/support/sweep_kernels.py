"""The sweep's kernels one by one, on tensors, and what they must give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

import pytest
import torch
from torch import Tensor

from thfr_ext.sweep.cuda import _Index

#: for tests of values, where one order of the threads is enough: others take all
ONE_ORDER = pytest.mark.parametrize("order", [1])
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INF = float("inf")
LIMITS = [0.01, 0.05, 0.1, 0.3, 1.0]


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


#: of uniform numbers
VALUES: dict[str, Callable[[Tensor], Tensor]] = {
    "random": lambda u: u,
    "tied": lambda u: (u * 5).floor(),
    "constant": lambda u: u * 0 + 3,
    "mostly zero": lambda u: (u - 0.9).clamp_min(0),
    "skewed": lambda u: u**12 - 0.3,
    "signed zeros": lambda u: torch.copysign((u * 3).floor(), u - 0.5),
    "tiny": lambda u: (u * 9).floor() * 2.0**-149,
    "huge": lambda u: (u - 0.5) * 6e4,
    "infinite": lambda u: torch.where(u < 0.2, -INF, torch.where(u > 0.8, INF, u)),
    "far apart": lambda u: torch.where(u < 0.01, -6e4, 1 + (u * 500).floor() * 2**-10),
}


def shifted(t: Tensor) -> Tensor:
    """The same values, one element behind an aligned address."""
    room = torch.empty(t.numel() + 1, dtype=t.dtype)
    return room[1:].view(t.shape).copy_(t)


def wide(t: Tensor) -> Tensor:
    """The same values, every second one of a larger tensor."""
    room = torch.zeros([*t.shape[:-1], 2 * t.shape[-1]], dtype=t.dtype)
    room[..., ::2] = t
    return room[..., ::2]


#: of [H,W] or [R,H,W]; "columns": as of channels-last memory
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda t: t.contiguous(),
    "shifted": shifted,
    "strided": wide,
    "columns": lambda t: t.mT.contiguous().mT,
    "one row": lambda t: t[..., :1, :].expand(t.shape),
}


def set_of(
    kind: str, dtype: torch.dtype, layout: str = "contiguous", saturation: str = "half"
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Good and bad images; regions that overlap, each with a pixel; saturations."""
    maps, regions = [], []
    for i, (count, *size) in enumerate([(2, 30, 41), (0, 30, 41), (3, 17, 64), (1, 17, 64)]):
        maps.append(LAYOUTS[layout](VALUES[kind](rand(*size, seed=i)).to(dtype)))
        masks = rand(count, *size, seed=i + 50) < 0.1
        masks[:, 3, 3] = True
        regions.append(LAYOUTS[layout](masks))
    areas = torch.cat([r.flatten(1).sum(1) for r in regions])
    saturations = {
        "half": areas // 2 + 1,
        "one": torch.ones_like(areas),
        "area": areas,
        "above": areas + 7,
        "mixed": areas * torch.tensor([1, 2, 1, 2, 1, 2]) // 3 + 1,
        "huge": torch.full_like(areas, 2**62),
    }
    return maps, regions, saturations[saturation]


def masks_of(shape: tuple[int, ...], density: float, seed: int = 0) -> Tensor:
    made = rand(*shape, seed=seed) < density
    made[..., -1, -1] = True
    return made


def keys_of(scores: Tensor) -> Tensor:
    """Scores as integers of the same order; -0 is 0."""
    if scores.dtype == torch.float64:
        bits = scores.contiguous().view(torch.int64)
        return torch.where(bits < 0, -(bits & torch.iinfo(torch.int64).max), bits)
    bits = scores.float().contiguous().view(torch.int32)
    return torch.where(bits < 0, -(bits & torch.iinfo(torch.int32).max), bits)


def make_index(scores: Tensor) -> _Index:
    """Of the distinct values of fp32 or fp64 scores."""
    keys = keys_of(scores).sort().values
    if len(keys) > 0:
        return _Index.of(keys, 0)
    nothing, ends = torch.empty(0, dtype=torch.int64), torch.empty(1024, dtype=torch.int64)
    return _Index(nothing, keys, ends, torch.empty(1025, dtype=torch.int32), torch.zeros(1).long())


def count(
    device: ModuleType,
    index: _Index,
    maps: Sequence[Tensor],
    marks: Sequence[Tensor],
    marked: bool = False,
) -> tuple[Tensor, bool]:
    """Bins, and whether there was a NaN."""
    index.bins.zero_()
    flag = torch.zeros(1, dtype=torch.int64)
    sums = index.tally(list(maps), list(marks), marked, flag, 0)
    return sums.diff(prepend=torch.zeros(1).long()), bool(flag)


def expected_bins(
    scores: Tensor, maps: Sequence[Tensor], marks: Sequence[Tensor], marked: bool = False
) -> Tensor:
    values, room = keys_of(scores).unique(), len(scores)
    taken = [m[(k.any(0) == marked)] for m, k in zip(maps, marks, strict=True)]
    keys = keys_of(torch.cat([t.to(scores.dtype) for t in taken]))
    rank = torch.searchsorted(values, keys)
    above = rank == len(values)
    equal = ~above & (values[rank.clamp_max(len(values) - 1)] == keys)
    return torch.where(above, 2 * room, rank + room * equal).bincount(minlength=2 * room + 1)
